"""Who may ask what, and the questions that find a route which answers somebody it should not.

A route is a tenant's unless GROUNDS says otherwise, with the reason; so a route that is forgotten is asked as the strictest.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from tests.safety.apps import Route
from tests.safety.city import Headers, Tenant, bearer, fresh
from tests.safety.samples import NoSample, body_for, path_for
from tests.stack import Answer

Ask = Callable[[str, str, Headers, bytes | None], Awaitable[Answer]]
"""Method, path, headers, body."""


class Wall(Enum):
    """What stands before a route."""

    TENANT = "a tenant's key, and only what this tenant owns"
    SHARED = "any tenant's key: what is behind it belongs to all of them"
    OPERATOR = "the operators' key; a tenant's is none"
    SIGNATURE = "the sender's signature; no key opens it"
    SESSION = "a session that a key has begun"
    LAB = "nothing, and it exists in the lab profile only"
    PUBLIC = "nothing"


@dataclass(frozen=True)
class Ground:
    """Why a route is not a tenant's."""

    wall: Wall
    reason: str


_PAGE = Ground(Wall.SESSION, "for a browser: the key is typed once, then a signed cookie for an hour")
_RULES = Ground(Wall.OPERATOR, "rules change what everybody finds")
_BREAKERS = Ground(Wall.OPERATOR, "operators' own; opened by PAYMENTS_OPS_KEY")
_CATALOGUE = Ground(Wall.SHARED, "one catalogue; a key says who may write, not whose product it is")
_LAB = Ground(Wall.LAB, "failpoints and clock: how labs break things")

EVERYWHERE: Mapping[str, Ground] = {
    "GET /health/live": Ground(Wall.PUBLIC, "asked by the runtime, which has no key; says ok"),
    "GET /health/ready": Ground(Wall.PUBLIC, "asked by the runtime; says which check fails, by name"),
    "GET /metrics": Ground(Wall.PUBLIC, "asked by Prometheus on a port bound to loopback; numbers, no tenant's data"),
    "GET /openapi.json": Ground(Wall.PUBLIC, "the description of the API, the same for all"),
    "GET /lab/failpoints": _LAB,
    "PUT /lab/failpoints/{name}": _LAB,
    "DELETE /lab/failpoints/{name}": _LAB,
    "GET /lab/clock": _LAB,
    "PUT /lab/clock": _LAB,
}
GROUNDS: Mapping[str, Mapping[str, Ground]] = {
    "payments": {
        "POST /v1/bank-events": Ground(Wall.SIGNATURE, "the bank signs what it sends"),
        "GET /ops/breakers": _BREAKERS,
        "PUT /ops/breakers/{shard}": _BREAKERS,
        "DELETE /ops/breakers/{shard}": _BREAKERS,
    },
    "checkout": {},
    "webhooks": {
        "GET /endpoints/{endpoint}/page": _PAGE,
        "POST /endpoints/{endpoint}/page/login": _PAGE,
        "POST /endpoints/{endpoint}/page/resend": _PAGE,
        "POST /endpoints/{endpoint}/page/verify": _PAGE,
    },
    "cron": {},
    "catalog": dict.fromkeys(
        (
            "GET /v1/products",
            "POST /v1/products",
            "GET /v1/products/{product_id}",
            "PUT /v1/products/{product_id}",
            "PATCH /v1/products/{product_id}",
            "DELETE /v1/products/{product_id}",
            "PUT /v1/products/{product_id}/stock",
            "PUT /v1/products/{product_id}/price",
            "PUT /v1/products/{product_id}/popularity",
            "PUT /v1/products/{product_id}/variants/{sku}/stock",
            "PUT /v1/products/{product_id}/variants/{sku}/price",
            "POST /v1/offers",
            "GET /v1/brands",
            "POST /v1/brands",
            "GET /v1/brands/{brand_id}",
            "PUT /v1/brands/{brand_id}",
            "DELETE /v1/brands/{brand_id}",
            "GET /v1/categories",
            "POST /v1/categories",
            "GET /v1/categories/{category_id}",
            "PUT /v1/categories/{category_id}",
            "DELETE /v1/categories/{category_id}",
        ),
        _CATALOGUE,
    ),
    "search": {
        "GET /": Ground(Wall.PUBLIC, "the search page, for everybody"),
        "GET /v1/search": Ground(Wall.PUBLIC, "the shop's search, for everybody; bounded per client"),
        "GET /v1/suggest": Ground(Wall.PUBLIC, "the same"),
        "POST /v1/clicks": Ground(Wall.PUBLIC, "the shop's page tells what was clicked; bounded per client"),
        "GET /v1/rules": _RULES,
        "GET /v1/rules/{rule_id}": _RULES,
        "PUT /v1/rules/{rule_id}": _RULES,
        "DELETE /v1/rules/{rule_id}": _RULES,
    },
}
NAMES: Mapping[str, frozenset[str]] = {"webhooks": frozenset({"name"})}
"""Parameters that are names within a tenant's own, not ids: the same one means another thing for another tenant."""
REFERRED: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "webhooks": {
        "POST /v1/messages/{message}/resend": ("endpoint",),
        "POST /v1/replays": ("endpoint", "message"),
    },
}
"""Routes whose body names things: what of the sender's is exchanged for another tenant's."""

WRONG_KEYS: Mapping[str, Headers] = {
    "no key": {},
    "an empty key": {"Authorization": ""},
    "a scheme without a key": {"Authorization": "Bearer"},
    "nobody's key": bearer("nobody-has-this-key"),
    "a key that is SQL": bearer("' OR '1'='1"),
    "another scheme": {"Authorization": "Basic bGFiOmxhYg=="},
    "the keys of other systems": bearer("lab_demo_nothing_key"),
    "a key that is no text": {"Authorization": "Bearer \xe9\xff"},
    "an endless key": bearer("k" * 6000),
}


def ground_of(service: str, route: Route) -> Ground | None:
    """None for a tenant's route."""
    return EVERYWHERE.get(str(route)) or GROUNDS[service].get(str(route))


def stale(service: str, routes: Iterable[Route]) -> set[str]:
    """What GROUNDS says of routes that are no more."""
    return (set(GROUNDS[service]) | set(EVERYWHERE)) - {str(route) for route in routes}


@dataclass(frozen=True)
class Walls:
    """The questions to one service. Each method answers with sentences, one a fault."""

    service: str
    ask: Ask
    mine: Tenant
    theirs: Tenant
    operator: Headers

    async def faults(self, routes: Iterable[Route]) -> list[str]:
        """Asks everything. What deletes comes last, after what must still be there."""
        found: list[str] = []
        ordered = sorted(routes, key=lambda route: (route.method == "DELETE", route))
        for question in (self.without_a_key, self.with_anothers, self.with_ones_own):
            for route in ordered:
                try:
                    found += await question(route)
                except NoSample as error:
                    found.append(str(error))
        return list(dict.fromkeys(found))

    async def without_a_key(self, route: Route) -> list[str]:
        """401 for whoever has no key, whatever is asked."""
        ground = ground_of(self.service, route)
        wall = ground.wall if ground else Wall.TENANT
        if wall in (Wall.PUBLIC, Wall.LAB):
            return []
        allowed = {401, 403} if wall is Wall.SESSION else {401}
        strangers = dict(WRONG_KEYS)
        if wall is Wall.OPERATOR and self.operator != self.mine.headers:
            strangers |= {"a tenant's key": self.mine.headers}
        if wall in (Wall.SIGNATURE, Wall.SESSION):
            strangers |= {"a tenant's key": self.mine.headers, "the operators' key": self.operator}
        faults = []
        for who, headers in strangers.items():
            answer = await self._send(route, headers, self.mine)
            faults += self._judge(route, who, answer, allowed, hidden=self.mine)
        return faults

    async def with_anothers(self, route: Route) -> list[str]:
        """404 for what belongs to somebody else, in both directions; a list without their things."""
        if ground_of(self.service, route) is not None:
            return []
        faults = []
        for one, other in ((self.mine, self.theirs), (self.theirs, self.mine)):
            who = "the key of another tenant"
            answer = await self._send(route, one.headers, other)
            if self._has_ids(route):
                faults += self._judge(route, who, answer, {404}, hidden=other)
            else:
                faults += self._judge(route, who, answer, None, hidden=other)
            for name in REFERRED.get(self.service, {}).get(str(route), ()):
                mixed = Tenant(one.headers, {**one.owns, name: other.owns[name]}, one.mark)
                whose = f"another tenant's {name} in its body"
                faults += self._judge(
                    route, whose, await self._send(route, one.headers, one, mixed), {404}, hidden=other
                )
        return faults

    async def with_ones_own(self, route: Route) -> list[str]:
        """Who may is let in: otherwise the refusals above prove nothing."""
        ground = ground_of(self.service, route)
        wall = ground.wall if ground else Wall.TENANT
        if wall not in (Wall.TENANT, Wall.SHARED, Wall.OPERATOR):
            return []
        headers = self.operator if wall is Wall.OPERATOR else self.mine.headers
        answer = await self._send(route, headers, self.mine)
        if answer.status in (401, 403, 404) or answer.status >= 500:
            return [f"{self.service} {route}: its owner was answered {answer.status}: {answer.body[:100]!r}"]
        return []

    def _has_ids(self, route: Route) -> bool:
        return any(f"{{{name}}}" in route.path for name in self.mine.owns if name not in NAMES.get(self.service, ()))

    async def _send(self, route: Route, headers: Headers, whose: Tenant, body_of: Tenant | None = None) -> Answer:
        data, kind = body_for(self.service, route, (body_of or whose).owns, f"n{fresh()}")
        sent: dict[str, Any] = {"Idempotency-Key": fresh(), **kind, **headers}
        return await self.ask(route.method, path_for(route, whose.owns), sent, data)

    def _judge(self, route: Route, who: str, answer: Answer, allowed: set[int] | None, hidden: Tenant) -> list[str]:
        where, faults = f"{self.service} {route}, {who}", []
        if allowed is not None and answer.status not in allowed:
            faults.append(f"{where}: {answer.status} where {sorted(allowed)} is right")
        if answer.status >= 500:
            faults.append(f"{where}: {answer.status}")
        if hidden.mark.encode() in answer.body:
            faults.append(f"{where}: the answer holds what belongs to another")
        return faults
