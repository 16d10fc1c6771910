"""The search page, for people: made on the server, so that it works without scripts; one small script adds suggestions."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import urlencode

import msgspec
from fastapi import APIRouter, Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse, Response

from services.kit.deadline import bound
from services.kit.errors import Problem
from services.patterns.deadline import Deadline
from services.search import handlers, metrics
from services.search.api import Edge
from services.search.problems import InvalidQuery
from services.search.query.request import RANGE_FILTERS, Sort, read_search
from services.search.ranking import RANKINGS
from services.search.schemas import ExplanationView, HitView, SearchAnswer

_FOLDER = Path(__file__).parent
STYLE = (_FOLDER / "search.css").read_text("utf-8")
SCRIPT = (_FOLDER / "suggest.js").read_text("utf-8")


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_hash(STYLE)}'; script-src 'sha256-{_hash(SCRIPT)}'; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
SORTS = (
    (Sort.RELEVANCE.value, "best match"),
    (Sort.CHEAPEST.value, "cheapest first"),
    (Sort.DEAREST.value, "dearest first"),
    (Sort.NEWEST.value, "newest first"),
    (Sort.POPULARITY.value, "most sold"),
)
LANGUAGES = (("en", "English"), ("de", "German"), ("fr", "French"), ("es", "Spanish"))
DEGRADED = {
    "facets": "There is no time for the filters' counts at the moment.",
    "personalisation": "Everybody sees the same order at the moment.",
    "cached": "These results are a few minutes old.",
    "popular": "The search does not answer at the moment. These are popular products.",
    "partial": "A part of the catalogue did not answer in time.",
}
FIELDS = "sku,title,brand,category,price,currency,in_stock"
PAGE_FACETS = "12"
_OWN = frozenset({"fields", "highlight", "facets", "facet_size", "limit"})
"""Parameters that the page sets itself."""

_ENVIRONMENT = Environment(loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined)
_ENVIRONMENT.trim_blocks = True
_TEMPLATE = _ENVIRONMENT.get_template("search.html.j2")

Pairs = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Choice:
    """A value of a facet."""

    value: str
    label: str
    count: int
    selected: bool
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Group:
    """A facet. Of a `single` one only one value can be chosen."""

    parameter: str
    label: str
    choices: list[Choice]
    single: bool


@dataclass(slots=True)
class View:
    """What the template shows."""

    q: str
    sort: str
    lang: str
    status: str = ""
    error: str = ""
    caret: str = ""
    hits: list[dict[str, Any]] = field(default_factory=list)
    facets: list[Group] = field(default_factory=list)
    without_facets: bool = False
    kept: Pairs = field(default_factory=list)
    clear: str = ""
    did_you_mean: dict[str, str] | None = None
    degraded: list[str] = field(default_factory=list)
    why: dict[str, Any] | None = None
    next: str = ""


def page_routes(edge_of: Callable[[], Edge]) -> APIRouter:
    """The router of the page."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def page(request: Request) -> Response:
        edge = edge_of()
        # An empty field of the form is no wish.
        pairs = [(name, value) for name, value in request.query_params.multi_items() if value and name not in _OWN]
        view = _view(pairs)
        status = 200
        try:
            async with edge.admitted(request):
                with bound(Deadline.after(edge.parts.settings.deadline_seconds)):
                    await _fill(edge, pairs, view)
        except Problem as problem:
            status = problem.status
            view.error = " ".join(filter(None, (f"{problem.title}.", problem.detail)))
            if isinstance(problem, InvalidQuery):
                view.caret = _caret(view.q, int(str(problem.extra["position"])))
            view.kept = [(name, value) for name, value in pairs if name not in ("q", "sort", "lang", "cursor")]
        return HTMLResponse(_rendered(view), status, HEADERS)

    return router


def _rendered(view: View) -> str:
    began = perf_counter()
    text = _TEMPLATE.render(style=STYLE, script=SCRIPT, view=view, sorts=SORTS, languages=LANGUAGES)
    metrics.STAGES.labels("render").observe(perf_counter() - began)
    return text


def _view(pairs: Pairs) -> View:
    given = dict(pairs)
    return View(q=given.get("q", ""), sort=given.get("sort", Sort.RELEVANCE.value), lang=given.get("lang", ""))


async def _fill(edge: Edge, pairs: Pairs, view: View) -> None:
    listing = [(name, value) for name, value in pairs if name not in ("explain", "id")]
    own = [("fields", FIELDS), ("highlight", "1"), ("facet_size", PAGE_FACETS)]
    served = await handlers.search(edge.parts, read_search([*listing, *own], RANKINGS))
    answer = msgspec.json.decode(served.body, type=SearchAnswer)
    _show(answer, listing, view)
    if any(name == "explain" for name, _ in pairs):
        plain = [(name, value) for name, value in pairs if name != "cursor"]
        told = await handlers.search(edge.parts, read_search(plain, RANKINGS))
        _explain(msgspec.json.decode(told.body, type=SearchAnswer), listing, view)


def _show(answer: SearchAnswer, pairs: Pairs, view: View) -> None:
    view.hits = [_hit(each, pairs) for each in answer.hits]
    view.degraded = [DEGRADED[each] for each in answer.degraded]
    view.status = _status(answer, paged=any(name == "cursor" for name, _ in pairs))
    view.facets = [_group(each) for each in answer.facets or ()]
    view.without_facets = answer.facets is None and "facets" in answer.degraded
    filters = [(name, value) for name, value in pairs if name not in ("q", "sort", "lang", "cursor")]
    shown = {(each.parameter, choice.value) for each in view.facets for choice in each.choices}
    view.kept = [pair for pair in filters if pair not in shown]
    if filters:
        view.clear = _link([pair for pair in pairs if pair[0] in ("q", "sort", "lang")])
    if answer.did_you_mean:
        better = [("q", answer.did_you_mean), *(pair for pair in pairs if pair[0] not in ("q", "cursor"))]
        view.did_you_mean = {"text": answer.did_you_mean, "link": _link(better)}
    if answer.next_cursor:
        view.next = _link([*(pair for pair in pairs if pair[0] != "cursor"), ("cursor", answer.next_cursor)])


def _status(answer: SearchAnswer, *, paged: bool) -> str:
    if answer.matching == "popular":
        return f"{len(answer.hits)} popular products"
    if paged:
        return f"{len(answer.hits)} more products"
    if answer.total is None or answer.total.value == 0:
        return "No product matches."
    count = f"{'more than ' if answer.total.relation == 'gte' else ''}{answer.total.value:,}"
    how = {
        "exactly": "",
        "loosely": "; few match exactly, so typos and missing words are allowed",
        "every_word": "; none matches exactly, so typos are allowed",
    }[answer.matching]
    return f"{count} product{'' if answer.total.value == 1 else 's'}{how}"


def _hit(hit: HitView, pairs: Pairs) -> dict[str, Any]:
    marked = hit.highlight if isinstance(hit.highlight, dict) else {}
    title = str(hit.title)
    why = [*(pair for pair in pairs if pair[0] != "cursor"), ("explain", "1"), ("id", hit.id)]
    return {
        "id": hit.id,
        # Escaped where it was made, see query.body.highlighted.
        "title": Markup(marked["title"]) if "title" in marked else title,  # noqa: S704
        "plain": title,
        "text": Markup(marked["description"]) if "description" in marked else "",  # noqa: S704
        "brand": str(hit.brand),
        "category": str(hit.category).replace("/", " › "),
        "price": f"{hit.price / 100:,.2f} {hit.currency}" if isinstance(hit.price, int) else "",
        "in_stock": hit.in_stock is True,
        "pinned": hit.pinned,
        "why": f"{_link(why)}#why",
    }


def _group(facet: Any) -> Group:
    name = facet.parameter
    choices = [
        Choice(each.value, _label(name, each.value), each.count, each.selected, _depth(name, each.value))
        for each in facet.values
    ]
    if name == "category":
        choices.sort(key=lambda each: each.value)
    return Group(name, name.removeprefix("attr.").replace("_", " ").capitalize(), choices, name in RANGE_FILTERS)


def _label(name: str, value: str) -> str:
    if name == "category":
        return value.rpartition("/")[2].replace("-", " ")
    if name == "in_stock":
        return "in stock" if value == "true" else "sold out"
    if name == "price":
        low, _, high = value.partition("..")
        if not high:
            return f"{int(low or 0) // 100:,} and more"
        return f"{int(low or 0) / 100:,.0f} to {(int(high) + 1) / 100:,.0f}"
    return value


def _depth(name: str, value: str) -> int:
    return min(value.count("/"), 2) if name == "category" else 0


def _explain(answer: SearchAnswer, pairs: Pairs, view: View) -> None:
    told = answer.explanation
    if told is None:
        return
    tier, boost = sum(each.constant for each in told.tiers), prod(each.factor for each in told.boosts)
    view.why = {
        "title": str(answer.hits[0].title),
        "ranked": view.sort == Sort.RELEVANCE.value,
        "score": _number(told.score),
        "tier": _number(tier),
        "text": _number(told.text),
        "boost": _number(boost),
        "rules": ", ".join(told.rules),
        "words": told.words,
        "parts": _parts(told),
        "engine": told.engine,
        "close": _link([pair for pair in pairs if pair[0] != "cursor"]),
    }


def _parts(told: ExplanationView) -> Sequence[tuple[str, str]]:
    names = {"exact": "tier: every word as typed", "number": "tier: the number that was typed"}
    tiers = [(names[each.name], f"+ {_number(each.constant)}") for each in told.tiers]
    return [*tiers, *((f"boost: {each.name}", f"× {each.factor:.3f}") for each in told.boosts)]


def _number(value: float) -> str:
    return f"{value:,.3f}".rstrip("0").rstrip(".")


def _link(pairs: Iterable[tuple[str, str]]) -> str:
    return "/?" + urlencode(list(pairs))


def _caret(q: str, position: int) -> str:
    """The query with a mark below the place that the error is at."""
    begin = max(0, position - 40)
    return f"{q[begin : begin + 80]}\n{' ' * (position - begin)}^"
