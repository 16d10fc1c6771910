"""Routes of what ranks: `/v1/rules` for those who may, `/v1/clicks` for everybody's page."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Request
from msgspec import Meta, Struct
from starlette.responses import Response

from services.kit import ids, openapi
from services.kit.access import Unauthorised, bearer
from services.kit.errors import InvalidQuery, Problem, Unavailable
from services.kit.http import json_response, read_json
from services.kit.store import StoreUnavailable
from services.search.clicks import PRODUCT, Seen
from services.search.ranking.personal import Kind
from services.search.relevance import Relevance
from services.search.rule_schemas import RULE_ID, RuleBody, RuleView, RuleWrong, rule_of, view_of
from services.search.store.rules import Kept, RuleStore, TooManyRules, VersionMismatch

PAGE, LARGEST_PAGE = 50, 200
MOST_CLICKS = 100
"""In one request."""
OLDEST = timedelta(days=1)
_ID = re.compile(RULE_ID)
_VERSION = re.compile(r'"([0-9]{1,18})"')


class NotSetUp(Problem):
    """The process was started without what this route needs."""

    def __init__(self, what: str) -> None:
        super().__init__(404, "not_set_up", f"This installation has no {what}")


class NoSuchRule(Problem):
    def __init__(self) -> None:
        super().__init__(404, "no_such_rule", "There is no such rule")


class WrongRule(Problem):
    def __init__(self, detail: str) -> None:
        super().__init__(422, "invalid_rule", "The rule cannot be kept", detail=detail)


class RuleChanged(Problem):
    def __init__(self) -> None:
        super().__init__(412, "version_mismatch", "The rule was changed since it was read; read it again")


class RulesFull(Problem):
    def __init__(self) -> None:
        super().__init__(409, "too_many_rules", "No further rule can be made", detail="Delete some first.")


class RuleList(Struct, frozen=True):
    """By id."""

    data: list[RuleView]
    next_cursor: str | None = None


class ClickBody(Struct, frozen=True, forbid_unknown_fields=True):
    """What somebody did with a product that they were shown. `user` is the caller's own id of the person."""

    user: Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+\Z")]
    kind: Kind
    product: Annotated[str, Meta(min_length=1, max_length=40)]
    at: Annotated[datetime, Meta(tz=True)] | None = None
    query: Annotated[str, Meta(max_length=512)] | None = None
    position: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    ranking: Annotated[str, Meta(pattern=r"^[a-z0-9_]{1,40}\Z")] | None = None


class ClicksBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A page sends what it has gathered."""

    clicks: Annotated[list[ClickBody], Meta(min_length=1, max_length=MOST_CLICKS)]


class ClicksTaken(Struct, frozen=True):
    """`dropped` clicks are lost: the log was full. They are not to be sent again."""

    taken: int
    dropped: int


def relevance_routes(
    relevance_of: Callable[[], Relevance], admit: Callable[[Request], None], now: Callable[[], datetime]
) -> APIRouter:
    """The router. `admit` raises RateLimited for a client that asks too often."""
    router = APIRouter(prefix="/v1")

    @router.put("/rules/{rule_id}", openapi_extra=_documented(RuleBody, RuleView, "200", "201", parameters=_CONDITIONS))
    async def put(rule_id: str, request: Request) -> Response:
        """Make a rule, or replace it. With If-Match only the version that was read; If-None-Match: * only a new one."""
        store = _store(relevance_of(), request)
        identity = _identity(rule_id)
        body = await read_json(request, RuleBody)
        try:
            rule = rule_of(identity, body)
        except RuleWrong as error:
            raise WrongRule(str(error)) from None
        with _told():
            kept = await store.put(rule, _version(request))
            await relevance_of().book.refresh(store)
        return _shown(201 if kept.version == 1 else 200, kept)

    @router.get("/rules/{rule_id}", openapi_extra=_documented(None, RuleView, "200"))
    async def get(rule_id: str, request: Request) -> Response:
        """A rule as it is, with its version as ETag."""
        store = _store(relevance_of(), request)
        with _told():
            kept = await store.get(_identity(rule_id))
        if kept is None:
            raise NoSuchRule
        return _shown(200, kept)

    @router.get("/rules", openapi_extra=_documented(None, RuleList, "200", parameters=_PAGING))
    async def listing(request: Request) -> Response:
        """All rules, by id."""
        store = _store(relevance_of(), request)
        after, limit = _page(request)
        with _told():
            found = await store.page(after, limit + 1)
        page = [view_of(each.rule, each.version) for each in found[:limit]]
        return json_response(200, RuleList(page, page[-1].id if len(found) > limit else None))

    @router.delete(
        "/rules/{rule_id}", status_code=204, openapi_extra=_documented(None, None, "204", parameters=_CONDITIONS)
    )
    async def delete(rule_id: str, request: Request) -> Response:
        """Take it out of force for good. 204 also if there is none: it is gone either way."""
        store = _store(relevance_of(), request)
        with _told():
            await store.delete(_identity(rule_id), _version(request))
            await relevance_of().book.refresh(store)
        return Response(status_code=204)

    @router.post("/clicks", status_code=202, openapi_extra=_documented(ClicksBody, ClicksTaken, "202", public=True))
    async def clicks(request: Request) -> Response:
        """Note what people did. Answered at once; the log is written afterwards, at least once."""
        admit(request)
        clicks = relevance_of().clicks
        if clicks is None:
            raise NotSetUp("click log")
        body = await read_json(request, ClicksBody)
        moment = now()
        seen = [_seen(each, moment) for each in body.clicks]
        taken = clicks.offer(seen)
        return json_response(202, ClicksTaken(taken, len(seen) - taken))

    return router


def _store(relevance: Relevance, request: Request) -> RuleStore:
    """Raises Unauthorised, NotSetUp."""
    key = relevance.settings.rules_key
    if relevance.store is None or key is None:
        raise NotSetUp("business rules")
    if not hmac.compare_digest(bearer(request).encode("utf-8", "replace"), key.get_secret_value().encode()):
        raise Unauthorised
    return relevance.store


@contextmanager
def _told() -> Iterator[None]:
    """The store's errors as problems."""
    try:
        yield
    except StoreUnavailable:
        raise Unavailable("The database does not answer; send the same request again.") from None
    except VersionMismatch:
        raise RuleChanged from None
    except TooManyRules:
        raise RulesFull from None


def _identity(text: str) -> str:
    if not _ID.match(text):
        raise WrongRule("The id of a rule has 1 to 64 letters a to z, digits and dashes.")
    return text


def _version(request: Request) -> int | None:
    """Of If-Match; 0 for If-None-Match: *, None without either. Raises InvalidQuery."""
    if (wanted := request.headers.get("if-match")) is not None:
        if (found := _VERSION.fullmatch(wanted.strip())) is None:
            raise InvalidQuery("If-Match is the ETag that was read.")
        return int(found[1])
    if (none := request.headers.get("if-none-match")) is not None:
        if none.strip() != "*":
            raise InvalidQuery("If-None-Match is *.")
        return 0
    return None


def _page(request: Request) -> tuple[str, int]:
    query = dict(request.query_params.multi_items())
    if unknown := set(query) - {"limit", "cursor"}:
        raise InvalidQuery(f"There is no parameter {sorted(unknown)[0][:40]}; there are limit and cursor.")
    limit, cursor = query.get("limit", str(PAGE)), query.get("cursor", "")
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:10]) <= LARGEST_PAGE):
        raise InvalidQuery(f"limit is 1 to {LARGEST_PAGE}.")
    if cursor and not _ID.match(cursor):
        raise InvalidQuery("cursor is the next_cursor of an earlier page.")
    return cursor, int(limit)


def _shown(status: int, kept: Kept) -> Response:
    return json_response(status, view_of(kept.rule, kept.version), {"ETag": f'"{kept.version}"'})


def _seen(body: ClickBody, now: datetime) -> Seen:
    """Raises InvalidQuery. A time of the future or of long ago is taken for a wrong clock: then it was now."""
    product = ids.decode(PRODUCT, body.product)
    if product is None:
        raise InvalidQuery(f"A product's id begins with {PRODUCT}_ and is 30 characters long.")
    at = body.at if body.at is not None and now - OLDEST <= body.at <= now else now
    return Seen(ids.uuid7(), body.user, body.kind, product, at, body.query, body.position, body.ranking)


_PAGING = (
    openapi.query("limit", {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE, "default": PAGE}),
    openapi.query("cursor", {"type": "string"}, "next_cursor of the page before"),
)
_CONDITIONS = (
    openapi.header("If-Match", f"^{_VERSION.pattern}$", "The ETag that was read"),
    openapi.header("If-None-Match", r"^\*$", "Only if there is none"),
)


def _documented(
    body: type | None,
    answer: type | None,
    status: str,
    *others: str,
    parameters: Iterable[dict[str, Any]] = (),
    public: bool = False,
) -> dict[str, Any]:
    """`others` are answered with the same body."""
    document = openapi.documented(body, int(status), answer=answer, parameters=parameters, public=public)
    told = document["responses"][status]
    refusals = {"400": "Not JSON", "404": "Not here", "413": "Too large", "422": "Wrong", "503": "Later"}
    refused = {code: openapi.problem(text) for code, text in refusals.items()}
    return document | {"responses": dict.fromkeys((status, *others), told) | refused}
