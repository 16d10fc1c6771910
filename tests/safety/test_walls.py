"""Every route of every service, asked by those who may not: nobody is answered with what is not theirs.

The routes come from the applications themselves and from the documents that the running services serve, so that a new route
is asked too: as a tenant's, unless tests/safety/walls.py gives a reason for something else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from http.cookies import SimpleCookie

import pytest

from tests.safety.apps import APPS, Route, built, documented_in, routes_of
from tests.safety.city import Edge, Headers, Tenant, bearer
from tests.safety.walls import EVERYWHERE, GROUNDS, Wall, Walls, ground_of, stale
from tests.stack import Answer, client

pytestmark = pytest.mark.integration

services = pytest.mark.parametrize("service", APPS)


def test_every_service_has_its_grounds() -> None:
    assert set(GROUNDS) == set(APPS)


@services
def test_no_ground_is_given_for_a_route_that_is_gone(service: str) -> None:
    assert stale(service, routes_of(built(service))) == set()


@services
def test_the_routes_that_break_things_exist_in_the_lab_only(service: str) -> None:
    there = {str(route) for route in routes_of(built(service, lab=False))}
    assert not {name for name, ground in EVERYWHERE.items() if ground.wall is Wall.LAB} & there


@services
def test_the_document_says_of_which_routes_a_key_is_asked(service: str) -> None:
    document = built(service).openapi()
    free = (Wall.PUBLIC, Wall.SIGNATURE)
    for route in documented_in(document):
        ground = ground_of(service, route)
        needs_key = ground is None or ground.wall not in free
        assert ("security" in document["paths"][route.path][route.method.lower()]) is needs_key, str(route)


@services
async def test_nobody_is_answered_with_what_is_not_theirs(edge: Edge, service: str) -> None:
    routes = routes_of(built(service)) | documented_in(edge.document)
    async with client() as session:

        async def ask(method: str, path: str, headers: Headers, body: bytes | None) -> Answer:
            return await edge.ask(method, path, headers, body, session)

        walls = Walls(service, ask, edge.mine, edge.theirs, edge.operator)
        assert await walls.faults(routes) == []


@pytest.mark.parametrize("service", ["webhooks"])
async def test_a_session_opens_only_its_own_tenants_endpoints(edge: Edge) -> None:
    mine, theirs = (f"/endpoints/{one.owns['endpoint']}/page" for one in (edge.theirs, edge.mine))
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    key = edge.theirs.headers["Authorization"].removeprefix("Bearer ")
    login = await edge.ask("POST", f"{mine}/login", form, f"key={key}".encode())
    assert login.status == 303
    jar = SimpleCookie(login.headers["Set-Cookie"])
    session = {"Cookie": "; ".join(f"{name}={morsel.value}" for name, morsel in jar.items())}
    own = await edge.ask("GET", mine, session)
    assert (own.status, edge.theirs.mark.encode() in own.body) == (200, True)
    assert (await edge.ask("GET", theirs, session)).status == 404
    assert (await edge.ask("POST", f"{theirs}/login", form, f"key={key}".encode())).status == 401
    token = own.body.split(b'name="token" value="')[1].split(b'"')[0].decode()
    message = edge.mine.owns["message"]
    for sent in (f"token={token}&message={message}", f"token=x&message={message}", f"message={message}"):
        for action in ("resend", "verify"):
            answer = await edge.ask("POST", f"{theirs}/{action}", form | session, sent.encode())
            assert answer.status in (403, 404), (action, sent)
            assert edge.mine.mark.encode() not in answer.body


# --- the questions find what they look for --------------------------------------------------------------------------

MINE = Tenant(bearer("mine"), {"payment_id": "pay_mine"}, "mark-of-mine")
THEIRS = Tenant(bearer("theirs"), {"payment_id": "pay_theirs"}, "mark-of-theirs")
GET = Route("/v1/payments/{payment_id}", "GET")
LIST = Route("/v1/payments", "GET")
OPS = Route("/ops/breakers", "GET")
BANK = Route("/v1/bank-events", "POST")
OPERATOR = bearer("operator")


@dataclass
class FakeService:
    """Right in everything, until a test spoils an answer."""

    spoiled: Callable[[str, str, Headers], Answer | None] = lambda *_: None
    asked: list[str] = field(default_factory=list)

    async def __call__(self, method: str, path: str, headers: Headers, body: bytes | None) -> Answer:
        self.asked.append(f"{method} {path}")
        found = self.spoiled(method, path, headers)
        return found if found is not None else self._right(path, headers.get("Authorization"))

    @staticmethod
    def _right(path: str, key: str | None) -> Answer:
        if path.startswith("/ops"):
            return answer(200 if key == OPERATOR["Authorization"] else 401)
        whose = {one.headers["Authorization"]: one for one in (MINE, THEIRS)}.get(key or "")
        if whose is None or path == "/v1/bank-events":
            return answer(401)
        if path == "/v1/payments":
            return answer(200, whose.mark)
        return answer(200, whose.mark) if path.endswith(whose.owns["payment_id"]) else answer(404)


def answer(status: int, body: str = "") -> Answer:
    return Answer(status, {}, body.encode())


async def found(*routes: Route, spoiled: Callable[[str, str, Headers], Answer | None] = lambda *_: None) -> list[str]:
    return await Walls("payments", FakeService(spoiled), MINE, THEIRS, OPERATOR).faults(routes)


async def test_a_service_that_is_right_has_no_faults() -> None:
    assert await found(GET, LIST, OPS, BANK) == []


async def test_a_route_that_asks_for_no_key_is_found() -> None:
    faults = await found(GET, spoiled=lambda _, __, headers: None if "Authorization" in headers else answer(200))
    assert len(faults) == 1
    assert "no key: 200" in faults[0]


async def test_a_route_that_gives_a_tenant_what_is_anothers_is_found() -> None:
    def leaky(_: str, path: str, headers: Headers) -> Answer | None:
        keys = [MINE.headers["Authorization"], THEIRS.headers["Authorization"]]
        return (
            answer(200, "mark-of-mine") if path.endswith("pay_mine") and headers.get("Authorization") in keys else None
        )

    faults = await found(GET, spoiled=leaky)
    assert any("another tenant: 200 where [404]" in fault for fault in faults)
    assert any("holds what belongs to another" in fault for fault in faults)


async def test_a_list_that_shows_everybodys_is_found() -> None:
    def all_of_it(_: str, path: str, headers: Headers) -> Answer | None:
        return answer(200, "mark-of-mine mark-of-theirs") if headers.get("Authorization") else None

    assert any(
        "GET /v1/payments, the key of another tenant: the answer holds" in each
        for each in await found(LIST, spoiled=all_of_it)
    )


async def test_a_refusal_that_tells_too_much_is_found() -> None:
    def telling(_: str, path: str, headers: Headers) -> Answer | None:
        whose = headers.get("Authorization") == THEIRS.headers["Authorization"]
        return answer(404, "there is mark-of-mine") if path.endswith("pay_mine") and whose else None

    assert len(await found(GET, spoiled=telling)) == 1


async def test_a_key_that_breaks_the_service_is_found() -> None:
    def breaks(_: str, __: str, headers: Headers) -> Answer | None:
        return answer(500) if "\xe9" in headers.get("Authorization", "") else None

    assert any("a key that is no text: 500" in fault for fault in await found(GET, spoiled=breaks))


async def test_operators_routes_that_a_tenants_key_opens_are_found() -> None:
    def opens(_: str, __: str, headers: Headers) -> Answer | None:
        return answer(200) if headers.get("Authorization") == MINE.headers["Authorization"] else None

    assert any("a tenant's key: 200" in fault for fault in await found(OPS, spoiled=opens))


async def test_a_signed_route_that_a_key_opens_is_found() -> None:
    def opens(_: str, __: str, headers: Headers) -> Answer | None:
        return answer(204) if headers.get("Authorization") == OPERATOR["Authorization"] else None

    assert any("the operators' key: 204" in fault for fault in await found(BANK, spoiled=opens))


async def test_a_route_that_refuses_its_owner_proves_nothing_and_is_found() -> None:
    faults = await found(GET, spoiled=lambda *_: answer(401))
    assert any("its owner was answered 401" in fault for fault in faults)


async def test_a_new_route_that_nobody_has_thought_of_is_found() -> None:
    assert await found(Route("/v1/payments/{payment_id}/notes/{note}", "GET")) == [
        "GET /v1/payments/{payment_id}/notes/{note}: tests/safety/city.py does not say what fills 'note'"
    ]
    assert await found(Route("/v1/disputes", "POST")) == [
        "payments POST /v1/disputes has no body in tests/safety/samples.py"
    ]


def test_a_ground_for_a_route_that_is_gone_is_found() -> None:
    assert "POST /v1/bank-events" in stale("payments", routes_of(built("payments")) - {BANK})
