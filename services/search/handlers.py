"""One function per command: search, explain, suggest.

An answer has two parts, hits and facets, that are searched for, shared and remembered apart. What is remembered is JSON
already; `ladder` says what is left out when there is not enough time or room for everything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from time import perf_counter
from typing import Any, Protocol, TypeVar
from uuid import UUID

import msgspec

from services.kit import deadline, ids
from services.kit.clock import Clock
from services.kit.errors import Problem
from services.patterns.concurrency_limit import Overloaded
from services.patterns.deadline import Deadline
from services.patterns.single_flight import SingleFlight
from services.search import metrics, problems
from services.search.cache import Cache, Freshness
from services.search.engine import EngineBusy, EngineDown, EngineError, EngineRefused, Found, Hit, NotThere
from services.search.explain import explanation
from services.search.guard import Guard, SearchEngine
from services.search.ladder import Missing, Pressure, Rung, rung
from services.search.query import body, filters
from services.search.query.build import Matching
from services.search.query.cursor import Cursor, Cursors, fingerprint, remembered
from services.search.query.request import PRODUCT, SearchRequest, Sort, SuggestRequest
from services.search.query.synonyms import LANGUAGES, SynonymFile, fold
from services.search.ranking import RANKINGS, Affinity, Context, Effect, Ranking
from services.search.ranking.personal import NOBODY
from services.search.schemas import HitView, SearchAnswer, SuggestAnswer, SuggestionView, TotalView
from services.search.settings import ApiSettings
from services.search.standing import Standing

log = logging.getLogger(__name__)

T = TypeVar("T")

MARGIN_SECONDS = 0.02
"""Kept back of the caller's time for an answer that needs no engine."""
_TAGS = {Matching.EXACTLY: b"x", Matching.LOOSELY: b"l", Matching.EVERY_WORD: b"w"}
_MATCHING = {tag: matching for matching, tag in _TAGS.items()}

CANNOT = (EngineDown, EngineBusy, Overloaded, TimeoutError, deadline.DeadlineOver)
"""What ends a search without saying anything about the query."""


class People(Protocol):
    """What is known of somebody's taste, and which ranking an experiment shows to whom."""

    def affinity(self, user: str) -> Affinity: ...

    def ranking(self, user: str) -> str | None: ...


class Rules(Protocol):
    """Business rules, as they are now."""

    def effect(self, query: str, category: str | None, now: datetime) -> Effect: ...


@dataclass(frozen=True, slots=True)
class Part:
    """Half of an answer, as JSON; `matching` is how its words were matched."""

    json: bytes
    matching: Matching
    missing: frozenset[Missing] = frozenset()


@dataclass(slots=True)
class Parts:
    """What every command needs. One per process."""

    engine: SearchEngine
    alias: str
    guard: Guard
    standing: Standing
    memory: Cache
    cursors: Cursors
    synonyms: SynonymFile
    people: People
    rules: Rules
    clock: Clock
    settings: ApiSettings
    flights: SingleFlight[Part]
    suggesting: SingleFlight[bytes]

    def pressure(self) -> Pressure:
        """Now, for the request that is being answered."""
        until = deadline.current()
        left = self.settings.deadline_seconds if until is None else until.remaining()
        return Pressure(self.guard.load, left, self.guard.answers)

    def remember(self, index: str, key: tuple[object, ...], made: bytes, began: float) -> None:
        """An answer's bytes, of that index; `began` is when the work on it did (perf_counter)."""
        self.memory.put(index, key, made, cost=perf_counter() - began)
        metrics.CACHE_BYTES.set(self.memory.bytes)


@dataclass(frozen=True, slots=True)
class Plan:
    """A request with everything that decides its answer."""

    request: SearchRequest
    index: str
    ranking: Ranking
    context: Context
    effect: Effect
    cursor: Cursor | None

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for requests with equal hits."""
        request = self.request
        return (
            "hits", *request.order_key, request.limit, request.cursor, request.fields, request.highlight,
            self.ranking.name, self.context.affinity, self.effect,
        )  # fmt: skip

    def facet_key(self, matching: Matching) -> tuple[object, ...]:
        """Equal for requests with equal facets, whatever their page and order."""
        request = self.request
        by_rules = (self.effect, request.sort is Sort.RELEVANCE)
        return ("facets", *request.matching_key, request.facets, request.facet_size, matching, by_rules)

    def impersonal(self) -> Plan:
        """As for somebody who is not known."""
        return replace(self, context=replace(self.context, affinity=NOBODY))


@dataclass(frozen=True, slots=True)
class Served:
    """An answer's bytes, and where they are from."""

    body: bytes
    source: str


async def search(parts: Parts, request: SearchRequest, *, from_memory: bool = True) -> Served:
    """Answer a search, with less than everything if need be. Raises Problem. Without `from_memory` it is worked out anew."""
    try:
        plan = _plan(parts, request)
        if request.explain is not None:
            return Served(await _explained(parts, plan), "explained")
        return await _served(parts, plan, from_memory=from_memory)
    except EngineRefused as error:
        # Our own queries are well-formed: what the engine refuses is too much for it, such as too many expanded terms.
        log.warning("the engine refused a query", extra={"kind": error.kind, "reason": error.reason})
        raise problems.TooExpensive("engine", "The search engine refuses this query.") from None
    except CANNOT as error:
        return _popular(parts, request, error)


def _plan(parts: Parts, request: SearchRequest) -> Plan:
    cursor = parts.cursors.read(request.cursor, fingerprint(request.order_key)) if request.cursor else None
    index = cursor.index if cursor else parts.standing.index
    if index is None:
        raise EngineDown("The search engine has not answered since this process began.")
    now = datetime.fromtimestamp(cursor.at, UTC) if cursor else parts.clock.now()
    experiment = parts.people.ranking(request.user) if request.user else None
    name = cursor.ranking if cursor else request.ranking or experiment or parts.settings.ranking
    ranking = RANKINGS[name] if name in RANKINGS else RANKINGS[parts.settings.ranking]
    taste = parts.people.affinity(request.user) if request.user and ranking.personalised else NOBODY
    effect = parts.rules.effect(request.q, request.category, now)
    return Plan(request, index, ranking, Context(now, taste), effect, cursor)


async def _served(parts: Parts, plan: Plan, *, from_memory: bool) -> Served:
    step = rung(parts.pressure())
    missing: set[Missing] = set()
    found = parts.memory.get(plan.index if from_memory else "", plan.key)
    if step >= Rung.NO_PERSONALISATION and found.freshness is not Freshness.HIT and plan.context.affinity != NOBODY:
        plan = plan.impersonal()
        missing.add(Missing.PERSONALISATION)
        found = parts.memory.get(plan.index, plan.key)
    metrics.CACHE.labels("results", found.freshness.value).inc()
    source = found.freshness.value
    if found.freshness is Freshness.HIT:
        hits = _part(found.body)
    elif found.body and (step >= Rung.CACHED or _remade(parts, plan, found.freshness)):
        hits = _part(found.body, found.freshness is Freshness.STALE)
    else:
        try:
            hits = await _shared(parts, parts.flights, "results", (plan.index, plan.key), lambda: _hits(parts, plan))
        except CANNOT:
            if not found.body:
                raise
            hits, source = _part(found.body, found.freshness is Freshness.STALE), Freshness.STALE.value
    missing |= hits.missing
    counted: bytes | None = None
    if plan.request.facets and plan.cursor is None:
        counted = await _counted(parts, plan, hits.matching, step)
        if counted is None:
            missing.add(Missing.FACETS)
    return Served(_joined(hits.json, counted, missing), source)


def _remade(parts: Parts, plan: Plan, freshness: Freshness) -> bool:
    """Whether somebody else is making anew what this reader should have: then the old is still good."""
    return freshness is Freshness.EARLY and parts.flights.flying((plan.index, plan.key))


def _part(remembered_part: bytes, stale: bool = False) -> Part:
    missing = frozenset({Missing.CACHED}) if stale else frozenset()
    return Part(remembered_part[1:], _MATCHING[remembered_part[:1]], missing)


def _joined(hits: bytes, facets: bytes | None, missing: Iterable[Missing]) -> bytes:
    """Both halves are JSON objects, so that the answer need not be written anew."""
    order = tuple(Missing)
    named = sorted(missing, key=order.index)
    for each in named:
        metrics.DEGRADED.labels(each.value).inc()
    counted = b"" if facets is None else b',"facets":' + facets
    return hits[:-1] + counted + b',"degraded":' + msgspec.json.encode(named) + b"}"


async def _shared(
    parts: Parts, flights: SingleFlight[T], kind: str, key: tuple[object, ...], work: Callable[[], Awaitable[T]]
) -> T:
    """The work's result, begun now or by somebody else before, as long as there is time.

    It has a deadline of its own: whoever asked first may have had less time than those who joined.
    """
    until = deadline.current()
    seconds = max(parts.settings.deadline_seconds, until.remaining() if until else 0.0)
    if flights.flying(key):
        metrics.COALESCED.labels(kind).inc()

    async def within() -> T:
        with deadline.bound(Deadline.after(seconds)):
            return await work()

    async with asyncio.timeout(deadline.left(seconds) - MARGIN_SECONDS):
        return await flights.run(key, within)


async def _hits(parts: Parts, plan: Plan) -> Part:
    began = perf_counter()
    found, matching = await _page(parts, plan)
    rendering = perf_counter()
    json = msgspec.json.encode(_answer(parts, plan, found, matching))
    metrics.STAGES.labels("render").observe(perf_counter() - rendering)
    metrics.ANSWERS.labels(matching.value).inc()
    if found.partial:
        return Part(json, matching, frozenset({Missing.PARTIAL}))
    parts.remember(plan.index, plan.key, _TAGS[matching] + json, began)
    return Part(json, matching)


async def _page(parts: Parts, plan: Plan) -> tuple[Found, Matching]:
    """Exactly what was typed, if there is enough of that; otherwise typos and missing words are allowed, too."""
    if plan.cursor is not None:
        return await _searched(parts, plan, plan.cursor.matching), plan.cursor.matching
    found = await _searched(parts, plan, Matching.EXACTLY)
    there = found.hits.total.value if found.hits.total else 0
    relevance = plan.request.sort is Sort.RELEVANCE
    if not body.asked(plan.request).words or there >= (parts.settings.enough if relevance else 1):
        return found, Matching.EXACTLY
    # By price the cheapest would be what matches worst: then no word may be missing.
    wider = Matching.LOOSELY if relevance else Matching.EVERY_WORD
    return await _searched(parts, plan, wider), wider


async def _searched(parts: Parts, plan: Plan, matching: Matching) -> Found:
    wanted = body.hits_body(
        plan.request,
        plan.ranking,
        plan.context,
        parts.synonyms.current,
        matching,
        effect=plan.effect,
        cursor=plan.cursor,
        total_limit=parts.settings.total_limit,
    )
    return await _read(parts, plan, wanted, "hits")


async def _read(parts: Parts, plan: Plan, wanted: Mapping[str, Any], stage: str) -> Found:
    """Search the plan's index. If it is gone, a cursor has ended; anything else reads what is there instead."""
    try:
        return await parts.guard.search(plan.index, wanted, stage)
    except NotThere:
        if plan.cursor is not None:
            raise problems.CursorGone from None
    current = await parts.engine.aliases(parts.alias)
    if not current:
        raise EngineDown("There is no index to search.")
    parts.standing.index = current[0]
    try:
        return await parts.guard.search(current[0], wanted, stage)
    except NotThere as error:
        raise EngineDown(error.reason) from None


def _answer(parts: Parts, plan: Plan, found: Found, matching: Matching) -> SearchAnswer:
    request, hits, cursor = plan.request, found.hits.hits, plan.cursor
    fresh = [hit for hit in hits if cursor is None or not cursor.has_shown(hit.id)]
    shown = fresh[: request.limit]
    total = found.hits.total
    return SearchAnswer(
        hits=[_hit_view(request, plan.effect, hit) for hit in shown],
        matching=matching.value,
        index=shown[0].index if shown and shown[0].index else plan.index,
        ranking=plan.ranking.name,
        total=None if total is None else TotalView(total.value, "gte" if total.relation == "gte" else "eq"),
        next_cursor=_next(parts, plan, shown, matching) if len(hits) > request.limit and shown else None,
        did_you_mean=body.respelt(request, found.suggest) if found.suggest else None,
    )


def _next(parts: Parts, plan: Plan, shown: Sequence[Hit], matching: Matching) -> str:
    before = plan.cursor.shown if plan.cursor else b""
    return parts.cursors.write(
        Cursor(
            index=shown[-1].index or plan.index,
            matching=matching,
            at=int(plan.context.now.timestamp()),
            ranking=plan.ranking.name,
            query=fingerprint(plan.request.order_key),
            after=shown[-1].sort,
            shown=remembered(before, (hit.id for hit in shown)),
        )
    )


def _hit_view(request: SearchRequest, effect: Effect, hit: Hit) -> HitView:
    product = UUID(hit.id)
    ranked = request.sort is Sort.RELEVANCE and bool(hit.sort)
    view = HitView(
        id=ids.encode(PRODUCT, product),
        score=float(hit.sort[0]) if ranked else None,
        pinned=ranked and product in effect.pinned,
        **_fields(request.fields, hit.source),
    )
    if not request.highlight:
        return view
    return msgspec.structs.replace(view, highlight=body.highlighted(hit.highlight))


def _fields(wanted: Iterable[str], source: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in wanted:
        if name == "description":
            texts = (source.get(f"description_{language}") for language in LANGUAGES)
            found[name] = next((text for text in texts if text is not None), "")
        elif name == "attributes":
            found[name] = _attributes(source.get("attributes", ()))
        elif name != "id" and name in source:
            found[name] = source[name]
    return found


def _attributes(pairs: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        found.setdefault(name, []).append(value)
    return found


async def _counted(parts: Parts, plan: Plan, matching: Matching, step: Rung) -> bytes | None:
    """The facets as JSON; None where they are left out."""
    key = plan.facet_key(matching)
    found = parts.memory.get(plan.index, key)
    metrics.CACHE.labels("facets", found.freshness.value).inc()
    if found.freshness in (Freshness.HIT, Freshness.EARLY) and (
        found.freshness is Freshness.HIT or step > Rung.FULL or parts.flights.flying((plan.index, key))
    ):
        return found.body
    # The hits took their time: what was begun at the top of the ladder may be lower now.
    if max(step, rung(parts.pressure())) > Rung.FULL:
        return None
    try:
        made = await _shared(
            parts, parts.flights, "facets", (plan.index, key), lambda: _facets(parts, plan, matching, key)
        )
    except (*CANNOT, EngineError):
        return None
    return made.json or None


async def _facets(parts: Parts, plan: Plan, matching: Matching, key: tuple[object, ...]) -> Part:
    began = perf_counter()
    request = plan.request
    query = body.counting_query(request, parts.synonyms.current, matching, plan.ranking, plan.effect)
    wanted = filters.facet_body(query, request.filters, request.facets, request.facet_size)
    found = await _read(parts, plan, wanted, "facets")
    if found.partial:
        return Part(b"", matching)
    counted = filters.facets(found.aggregations, request.filters, request.facets, request.facet_size)
    json = msgspec.json.encode(counted)
    parts.remember(plan.index, key, json, began)
    return Part(json, matching)


async def _explained(parts: Parts, plan: Plan) -> bytes:
    request, synonyms = plan.request, parts.synonyms.current
    page, matching = await _page(parts, replace(plan, request=replace(request, limit=1, explain=None)))
    wanted = body.explain_body(request, plan.ranking, plan.context, synonyms, matching, plan.effect)
    hits = (await _read(parts, plan, wanted, "hits")).hits.hits
    if not hits:
        raise problems.NoSuchHit
    told = explanation(
        ids.encode(PRODUCT, UUID(hits[0].id)),
        hits[0],
        body.asked(request),
        plan.ranking,
        plan.context,
        synonyms,
        plan.effect,
        ranked=request.sort is Sort.RELEVANCE,
    )
    total = page.hits.total
    answer = SearchAnswer(
        hits=[_hit_view(request, plan.effect, hits[0])],
        matching=matching.value,
        index=plan.index,
        ranking=plan.ranking.name,
        total=None if total is None else TotalView(total.value, "gte" if total.relation == "gte" else "eq"),
        explanation=told,
    )
    return _joined(msgspec.json.encode(answer), None, ())


def _popular(parts: Parts, request: SearchRequest, error: BaseException) -> Served:
    """The lowest rung. Raises what the caller gets if there is nothing to give."""
    found = parts.standing.favourites(request.q, request.filters, request.limit)
    if request.cursor is not None or request.explain is not None or not found:
        raise _refusal(error) from None
    hits = [HitView(id=ids.encode(PRODUCT, UUID(each["id"])), **_fields(request.fields, each)) for each in found]
    answer = SearchAnswer(hits, "popular", parts.standing.index or "", "popularity")
    metrics.ANSWERS.labels("popular").inc()
    missing = {Missing.POPULAR} | ({Missing.FACETS} if request.facets else set())
    return Served(_joined(msgspec.json.encode(answer), None, missing), "popular")


def _refusal(error: BaseException) -> Problem:
    if isinstance(error, Overloaded):
        metrics.REQUESTS_SHED.labels("overloaded").inc()
        return problems.Shed("queue_full")
    if isinstance(error, EngineBusy):
        metrics.REQUESTS_SHED.labels("engine").inc()
        return problems.Shed("engine_busy")
    if isinstance(error, EngineDown):
        metrics.REQUESTS_SHED.labels("engine").inc()
        return problems.EngineUnavailable()
    return error if isinstance(error, deadline.DeadlineOver) else deadline.DeadlineOver()


async def suggest(parts: Parts, request: SuggestRequest) -> bytes:
    """What a beginning may become: brands and categories, then products. Raises Problem."""
    key = ("suggest", fold(request.q), request.language, request.limit)
    index = parts.standing.index or ""
    found = parts.memory.get(index, key)
    metrics.CACHE.labels("suggest", found.freshness.value).inc()
    if found.freshness is Freshness.HIT or (
        found.freshness is Freshness.EARLY and parts.suggesting.flying((index, key))
    ):
        return found.body
    if not fold(request.q):
        return _favourites(parts, request, ())
    try:
        if rung(parts.pressure()) >= Rung.CACHED:
            raise EngineDown("Too much is asked of the engine.")
        return await _shared(
            parts, parts.suggesting, "suggest", (index, key), lambda: _suggested(parts, request, index, key)
        )
    except (*CANNOT, EngineError):
        metrics.DEGRADED.labels((Missing.CACHED if found.body else Missing.POPULAR).value).inc()
        if found.body:
            return found.body[:-1] + b',"degraded":["cached"]}'
        return _favourites(parts, request, (Missing.POPULAR.value,))


async def _suggested(parts: Parts, request: SuggestRequest, index: str, key: tuple[object, ...]) -> bytes:
    began = perf_counter()
    bodies = body.suggest_bodies(request.q, request.language, request.limit)
    answers = await parts.guard.msearch([(parts.alias, each) for each in bodies], "suggest")
    hits = [hit.source for answer in answers for hit in answer.hits.hits]
    if len(hits) < request.limit:
        near = body.misspelt_body(request.q, request.language, request.limit)
        more = await parts.guard.search(parts.alias, near, "suggest")
        answers.append(more)
        hits += [hit.source for hit in more.hits.hits]
    json = msgspec.json.encode(SuggestAnswer(_suggestions(parts, request, hits)))
    if not any(each.partial for each in answers):
        parts.remember(index, key, json, began)
    return json


def _favourites(parts: Parts, request: SuggestRequest, degraded: Sequence[str]) -> bytes:
    typed = fold(request.q)
    popular = (each.source for each in parts.standing.popular if any(word.startswith(typed) for word in each.words))
    return msgspec.json.encode(SuggestAnswer(_suggestions(parts, request, popular), list(degraded)))


MOST_NAMES = 2
"""Brands and categories among the suggestions, if there are products, too."""


def _suggestions(parts: Parts, request: SuggestRequest, hits: Iterable[Mapping[str, Any]]) -> list[SuggestionView]:
    found = [
        SuggestionView(each.text, "brand" if each.kind == "brand" else "category", filter=each.value, count=each.count)
        for each in parts.standing.named(request.q, MOST_NAMES)
    ]
    seen = {fold(each.text) for each in found}
    for source in hits:
        title = str(source.get("title", ""))
        if fold(title) not in seen and len(found) < request.limit:
            seen.add(fold(title))
            found.append(SuggestionView(title, "product", id=ids.encode(PRODUCT, UUID(str(source["id"])))))
    return found[: request.limit]
