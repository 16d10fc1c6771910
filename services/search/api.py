"""Routes: HTTP to a command and back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.kit import openapi
from services.kit.admission import Places
from services.kit.errors import Busy
from services.kit.http import PlainRoute
from services.search import handlers, metrics
from services.search.handlers import Parts
from services.search.limits import ClientLimits, client_of
from services.search.problems import RateLimited, Shed, TooExpensive
from services.search.query.request import (
    FACETS,
    FIELD_NAMES,
    LARGEST_PAGE,
    RANGE_FILTERS,
    TERM_FILTERS,
    Sort,
    read_search,
    read_suggest,
)
from services.search.query.synonyms import LANGUAGES
from services.search.ranking import RANKINGS
from services.search.schemas import SearchAnswer, SuggestAnswer

LONGEST_URL = 8 * 1024
"""Bytes of a query string."""


@dataclass(slots=True)
class Edge:
    """What every route needs. One per process."""

    parts: Parts
    limits: ClientLimits
    places: Places

    @asynccontextmanager
    async def admitted(self, request: Request) -> AsyncIterator[None]:
        """Count a request in, or its refusal. Raises RateLimited, TooExpensive and Shed."""
        try:
            if len(request.scope["query_string"]) > LONGEST_URL:
                raise TooExpensive("long_query", f"A query string has at most {LONGEST_URL} bytes.")
            self.limits.admit(client_of(request, self.parts.settings.client_header))
            with self.places.one():
                yield
        except Busy:
            raise Shed("too_many_in_flight") from None
        except RateLimited:
            metrics.REQUESTS_SHED.labels("rate").inc()
            raise
        except TooExpensive as refused:
            metrics.REQUESTS_REFUSED.labels(str(refused.extra["reason"])).inc()
            raise


def routes(edge_of: Callable[[], Edge]) -> APIRouter:
    """The router. `edge_of` is called once the application's lifespan has begun."""
    router = APIRouter(prefix="/v1", route_class=PlainRoute)

    @router.get(
        "/search", openapi_extra=_documented(SearchAnswer, SEARCH_PARAMETERS, {"410": "The cursor's index is gone"})
    )
    async def search(request: Request) -> Response:
        """Products that match a text and filters, with facets. Cache-Control: no-cache asks for one that is not remembered."""
        edge = edge_of()
        async with edge.admitted(request):
            wanted = read_search(request.query_params.multi_items(), RANKINGS)
            from_memory = "no-cache" not in request.headers.get("cache-control", "").lower()
            served = await handlers.search(edge.parts, wanted, from_memory=from_memory)
            return _json(served.body, {"X-Cache": served.source})

    @router.get("/suggest", openapi_extra=_documented(SuggestAnswer, SUGGEST_PARAMETERS, {}))
    async def suggest(request: Request) -> Response:
        """What the beginning of a query may become; without one, what is popular."""
        edge = edge_of()
        async with edge.admitted(request):
            wanted = read_suggest(request.query_params.multi_items())
            return _json(await handlers.suggest(edge.parts, wanted), {})

    return router


def _json(body: bytes, headers: dict[str, str]) -> Response:
    # Whoever stands between keeps its own copy only under its own rules: ours is of one generation of the index.
    return Response(body, 200, {"Cache-Control": "no-store", **headers}, media_type="application/json")


def _parameter(name: str, text: str, schema: dict[str, Any] | None = None, *, several: bool = False) -> dict[str, Any]:
    kind = schema or {"type": "string"}
    return {
        "name": name,
        "in": "query",
        "required": False,
        "description": text,
        "schema": {"type": "array", "items": kind} if several else kind,
    }


def _one_of(values: Any) -> dict[str, Any]:
    return {"type": "string", "enum": list(values)}


_FLAG = _one_of(("0", "1"))
_LANGUAGE = _parameter("lang", "What the query is written in; without it every language is tried", _one_of(LANGUAGES))
_Q = 'Words, "phrases", -exclusions, field:values and beginnings*; at most 512 characters'

SEARCH_PARAMETERS: list[dict[str, Any]] = [
    _parameter("q", _Q),
    _LANGUAGE,
    *(_parameter(name, "Filter; several values are alternatives", several=True) for name in TERM_FILTERS),
    _parameter("attr.{name}", "Filter by an attribute, such as attr.colour=red", several=True),
    *(_parameter(name, "Range: a..b, a.. or ..b, ends included") for name in RANGE_FILTERS),
    _parameter("number.{name}", "Range of a numeric attribute, such as number.weight=..500"),
    _parameter("sort", "Order; each ends with the id", _one_of(each.value for each in Sort)),
    _parameter("limit", "Hits on a page", {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE, "default": 20}),
    _parameter("cursor", "next_cursor of the page before; everything else as there"),
    _parameter("facets", f"By commas, of {', '.join(FACETS)}; or none"),
    _parameter("facet_size", "Values of one facet", {"type": "integer", "minimum": 1, "maximum": 100, "default": 10}),
    _parameter("fields", f"By commas, of {', '.join(FIELD_NAMES)}"),
    _parameter("highlight", "1: what matched, as HTML with <mark>", _FLAG),
    _parameter("explain", "1, with id: why this product is where it is", _FLAG),
    _parameter("id", "The product to explain"),
    _parameter("user", "The caller's own id of a person, for taste and experiments"),
    _parameter("ranking", "A ranking by name, before any experiment", _one_of(RANKINGS)),
]  # fmt: skip
SUGGEST_PARAMETERS: list[dict[str, Any]] = [
    _parameter("q", "The beginning of a query; at most 200 characters"),
    _LANGUAGE,
    _parameter("limit", "Suggestions", {"type": "integer", "minimum": 1, "maximum": 20, "default": 8}),
]

_ANSWERS = {
    "400": "Request-Timeout-Ms is no number",
    "422": "A parameter says nothing possible, or the query would cost too much; `at`, `position` and `reason` say what",
    "429": "This client asks too often; Retry-After",
    "503": "Nothing can be answered, not even something older; Retry-After",
    "504": "The caller's time is over",
}


def _documented(answer: type, parameters: list[dict[str, Any]], more: dict[str, str]) -> dict[str, Any]:
    """What OpenAPI says of a route that reads its query and writes its body itself."""
    refused = {code: openapi.problem(text) for code, text in (_ANSWERS | more).items()}
    found = {"description": "Found", "content": openapi.content(answer)}
    return {"parameters": parameters, "responses": {"200": found, **refused}}
