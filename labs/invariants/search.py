"""What must hold of search, judged from outside: the client's history, the catalogue's tables, the engine's own documents.

Imports nothing from the services, has SQL of its own and asks the engine over HTTP. Documents are found under the alias
`products`, by `_id`, the product's id as text. Offenders are products, documents or the keys of operations.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from labs.engine.model import (
    Evidence,
    EvidenceError,
    FaultRecord,
    Finding,
    Invariant,
    Json,
    Operation,
    Outcome,
    Phase,
    VariantRole,
)

ALIAS = "{prefix}products"
CANARY = "00000000-0000-7000-8000-000000000001"
"""The product that is changed every second to measure freshness: it is never at rest."""
QUERY, DOCUMENT = "search", "document"
PAGE = 1000
LATE_SECONDS = 3.0
"""Under load the index is behind by the refresh interval (1 s) at least; what changed later than this is not compared."""
AGAIN, AGAIN_AFTER_SECONDS = 3, 1.0
"""A difference must still be there after so many looks."""
PATIENCE_SECONDS = 1.0
"""Who searches has gone on to another shop by then."""
SURE_HITS = 5
"""So many products of one kind are not all deleted while somebody looks."""
SETTLING_SECONDS = 1.0
"""The beginning of a step is not judged."""
LATE_GENERATOR_SECONDS = 0.25
BEYOND = 1.1
"""A step that offers so many times the best goodput is past the knee."""
FRESHNESS = "search_freshness_seconds"

FIELDS = ("sku", "title", "language", "model", "brand_id", "price", "currency", "stock", "popularity", "skus")
PRODUCTS = """
SELECT p.id::text AS id, p.updated_at, p.sku, p.title, p.language, p.model, p.brand_id, p.price, p.currency, p.stock,
       p.popularity, ARRAY(SELECT v.sku FROM variants v WHERE v.product_id = p.id ORDER BY v.sku) AS skus
FROM products p
"""
NEWEST = f"{PRODUCTS} WHERE p.updated_at < $1 ORDER BY p.updated_at DESC LIMIT 200"  # a constant
"""Those of the changes that are due which the index gets last: while these are not there, the rest need not be read."""
CHANGED = "SELECT p.id::text AS id, p.updated_at FROM products p"


@dataclass(frozen=True, slots=True)
class Product:
    """As the catalogue has it: the content that both sides are compared by, and when it changed last."""

    content: tuple[object, ...]
    updated_at: datetime


async def in_database(evidence: Evidence, query: str = PRODUCTS, *arguments: object) -> dict[str, Product]:
    """By id, without the canary."""
    found = {}
    for row in await evidence.sql("catalog", query, *arguments):
        moment = row["updated_at"]
        if not isinstance(moment, datetime):
            raise TypeError("the catalogue has other columns than this checker expects")
        found[str(row["id"])] = Product(tuple(_plain(row[name]) for name in FIELDS), moment)
    found.pop(CANARY, None)
    return found


async def in_index(evidence: Evidence, only: Sequence[str] | None = None) -> dict[str, tuple[object, ...]]:
    """By `_id`, without the canary: every document that a search could find, or `only` these; in pages by `search_after`."""
    await evidence.engine(f"{ALIAS}/_refresh", {})
    found: dict[str, tuple[object, ...]] = {}
    body: dict[str, Json] = {"size": PAGE, "_source": list(FIELDS), "sort": [{"id": "asc"}], "track_total_hits": False}
    if only is not None:
        body["query"] = {"ids": {"values": list(only)}}
    while True:
        page = hits_of(await evidence.engine(f"{ALIAS}/_search", body))
        for hit in page:
            source = as_object(hit["_source"])
            found[str(hit["_id"])] = tuple(_plain(source.get(name)) for name in FIELDS)
        if len(page) < PAGE:
            found.pop(CANARY, None)
            return found
        body["search_after"] = page[-1]["sort"]


def hits_of(answer: Json) -> list[Mapping[str, Json]]:
    """The hits of a search. Raises EvidenceError for a partial answer: what it lacks could be anything."""
    document = as_object(answer)
    if document.get("timed_out") or as_object(document.get("_shards")).get("failed"):
        raise EvidenceError("the engine's answer is partial")
    hits = as_object(document.get("hits")).get("hits")
    if not isinstance(hits, list):
        raise EvidenceError("the engine's answer has no hits")
    return [as_object(hit) for hit in hits]


def as_object(value: Json) -> Mapping[str, Json]:
    """Raises EvidenceError for anything else."""
    if not isinstance(value, Mapping):
        raise EvidenceError("the engine's answer has another form than this checker expects")
    return value


def _plain(value: object) -> object:
    return tuple(sorted(value)) if isinstance(value, list) else value


def differences(database: Mapping[str, Product], index: Mapping[str, tuple[object, ...]]) -> dict[str, str]:
    """Product id to what is wrong with it: missing, stale (with the fields), or extra."""
    wrong = {}
    for identifier, product in database.items():
        if identifier not in index:
            wrong[identifier] = "missing"
        elif product.content != index[identifier]:
            pairs = zip(FIELDS, product.content, index[identifier], strict=True)
            wrong[identifier] = f"stale: {', '.join(name for name, here, there in pairs if here != there)}"
    return wrong | dict.fromkeys(index.keys() - database.keys(), "extra")


async def index_equals_database(evidence: Evidence) -> Finding:
    """Every product is in the index with the content of the database, and nothing else is."""
    wrong = await _different(evidence)
    for _ in range(AGAIN):
        if not wrong:
            break
        await asyncio.sleep(AGAIN_AFTER_SECONDS)
        now = await _different(evidence)
        wrong = {identifier: what for identifier, what in now.items() if identifier in wrong}
    kinds = [what.partition(":")[0] for what in wrong.values()]
    note = ", ".join(f"{kinds.count(kind)} {kind}" for kind in ("missing", "stale", "extra") if kind in kinds)
    return Finding.of([f"{identifier} {what}" for identifier, what in sorted(wrong.items())], note)


async def _different(evidence: Evidence) -> dict[str, str]:
    return differences(await in_database(evidence), await in_index(evidence))


async def still_behind(evidence: Evidence) -> str:
    """Empty once the index has all that changed more than LATE_SECONDS ago; of a naive variant nothing is awaited."""
    if evidence.variant.role is VariantRole.NAIVE:
        return ""
    before = evidence.moment(evidence.window[1]) - timedelta(seconds=LATE_SECONDS)
    newest = await in_database(evidence, NEWEST, before)
    if wrong := await _wrong_at_rest(evidence, newest, sorted(newest)):
        return f"{wrong} of the last {len(newest)} changes are not in the index"
    database = await in_database(evidence)
    due = {identifier: product for identifier, product in database.items() if product.updated_at < before}
    wrong = await _wrong_at_rest(evidence, due, None)
    return f"{wrong} products are not in the index as they are" if wrong else ""


async def _wrong_at_rest(evidence: Evidence, due: Mapping[str, Product], only: Sequence[str] | None) -> int:
    """How many of these the index has otherwise, without those that were changed again while it was read."""
    index = await in_index(evidence, only)
    wrong = differences(due, {identifier: index[identifier] for identifier in due.keys() & index.keys()})
    if not wrong:
        return 0
    now = {str(row["id"]): row["updated_at"] for row in await evidence.sql("catalog", CHANGED)}
    return sum(now.get(identifier) == due[identifier].updated_at for identifier in wrong)


# --- queries ----------------------------------------------------------------------------------------------------------


def queries(evidence: Evidence) -> tuple[Operation, ...]:
    """All that were due after the control, also those held back because too many were already waiting for their answers."""
    return tuple(one for one in evidence.history if one.kind == QUERY and one.phase is not Phase.CONTROL)


def served(one: Operation) -> bool:
    """Answered with results, while somebody still waited."""
    return one.outcome is Outcome.OK and one.latency is not None and one.latency <= PATIENCE_SECONDS


def told(one: Operation) -> bool:
    """Refused in time by an answer that says so: 429 or 503."""
    return one.status in (429, 503) and one.latency is not None and one.latency <= PATIENCE_SECONDS


def degraded(one: Operation) -> bool:
    """Served by less than the full answer, and marked so."""
    return bool(one.result.get("degraded"))


def during(operations: Iterable[Operation], fault: FaultRecord, after: float = 0.0) -> list[Operation]:
    """Those meant to be sent while a fault lasted, from `after` s on."""
    if fault.injected_at is None or fault.healed_at is None:
        return []
    return [one for one in operations if fault.injected_at + after <= one.intended_at < fault.healed_at]


async def no_query_fails(evidence: Evidence) -> Finding:
    """Every query is answered, also while the index is changed, and finds something if it always found much before."""
    asked = queries(evidence)
    if not asked and evidence.faults:
        return Finding.unknown("no query was sent")
    failed = [f"{one.key} {one.status or one.error}" for one in asked if one.outcome is not Outcome.OK]
    empty = [f"{one.key} found nothing" for one in _suddenly_empty(asked)]
    note = (
        f"{len(asked) - len(failed)} of {len(asked)} queries were answered, {len(empty)} of them suddenly with nothing"
    )
    return Finding.of([*failed, *empty], note)


def _suddenly_empty(asked: Iterable[Operation]) -> list[Operation]:
    """Answers without hits to what had SURE_HITS or more each time it was asked in the baseline."""
    least: dict[str, int] = {}
    for one in asked:
        if one.phase is Phase.BASELINE and one.outcome is Outcome.OK and one.result.get("text"):
            text = one.result["text"]
            least[text] = min(least.get(text, SURE_HITS), int(one.result["hits"]))
    sure = {text for text, hits in least.items() if hits >= SURE_HITS}
    return [one for one in asked if one.result.get("text") in sure and one.result["hits"] == "0"]


def answered(share: float) -> Invariant:
    """At least this share (0 to 1) of the queries is answered with results within PATIENCE_SECONDS."""

    async def queries_are_answered(evidence: Evidence) -> Finding:
        """Queries are answered with results in time, whatever happens to single nodes of the engine."""
        asked = queries(evidence)
        if not asked and evidence.faults:
            return Finding.unknown("no query was sent")
        failed = [one.key for one in asked if not served(one)]
        note = f"{len(asked) - len(failed)} of {len(asked)} within {PATIENCE_SECONDS:g} s"
        return Finding.of(failed if len(failed) > (1 - share) * len(asked) else (), note)

    return queries_are_answered


@dataclass(frozen=True, slots=True)
class Step:
    """A stretch of one rate, `times` the load's. Rates are per second."""

    times: float
    operations: tuple[Operation, ...]
    seconds: float

    @property
    def offered(self) -> float:
        """Queries that were due."""
        return len(self.operations) / self.seconds

    @property
    def goodput(self) -> float:
        """Queries that were served in time."""
        return sum(map(served, self.operations)) / self.seconds

    @property
    def lateness(self) -> float:
        """Of the generator, s, 99th percentile: its own delays are none of the service's."""
        late = sorted(one.sent_at - one.intended_at for one in self.operations if one.sent_at is not None)
        return late[int(0.99 * len(late))] if late else 0.0


def steps_of(evidence: Evidence) -> list[Step]:
    """One for each surge, in order of time, without its first second."""
    found = []
    asked = queries(evidence)
    for fault in sorted(_surges(evidence), key=lambda one: one.injected_at or 0.0):
        assert fault.injected_at is not None
        assert fault.healed_at is not None
        seconds = fault.healed_at - fault.injected_at - SETTLING_SECONDS
        if seconds > 0:
            times = fault.parameters["times"]
            assert isinstance(times, int | float)
            found.append(Step(times, tuple(during(asked, fault, SETTLING_SECONDS)), seconds))
    return found


def _surges(evidence: Evidence) -> list[FaultRecord]:
    return [
        one
        for one in evidence.faults
        if one.kind == "surge" and one.injected_at is not None and one.healed_at is not None
    ]


def goodput_is_kept(share: float) -> Invariant:
    """In each step past the knee, goodput is at least this share (0 to 1) of the best step's."""

    async def goodput_is_kept(evidence: Evidence) -> Finding:
        """Offered more than it can serve, it goes on serving what it can."""
        if not _surges(evidence):
            return Finding.of((), "no surge yet")
        steps = steps_of(evidence)
        best = max((step.goodput for step in steps), default=0.0)
        beyond = [step for step in steps if step.offered > BEYOND * best]
        if late := [step for step in beyond if step.lateness > LATE_GENERATOR_SECONDS]:
            return Finding.unknown(
                f"the generator itself was late by {late[0].lateness:.2f} s at {late[0].offered:.0f}/s"
            )
        if not beyond:
            return Finding.of((), f"the knee was not reached: {best:.0f}/s were served, more was not offered")
        collapsed = [step for step in beyond if step.goodput < share * best]
        note = ", ".join(f"{step.goodput:.0f}/s of {step.offered:.0f}/s" for step in steps)
        return Finding.of([one.key for step in collapsed for one in step.operations if not served(one)], note)

    return goodput_is_kept


def who_is_not_served_is_told(share: float) -> Invariant:
    """Past the knee at least this share (0 to 1) of the queries has results or an honest refusal in time."""

    async def who_is_not_served_is_told(evidence: Evidence) -> Finding:
        """Who cannot be served hears so at once (429, 503), and does not wait for nothing."""
        if not _surges(evidence):
            return Finding.of((), "no surge yet")
        asked = [one for step in steps_of(evidence) for one in step.operations]
        left = [one.key for one in asked if not served(one) and not told(one)]
        note = f"{sum(map(told, asked))} were told, {len(left)} were not, of {len(asked)}"
        return Finding.of(left if len(left) > (1 - share) * len(asked) else (), note)

    return who_is_not_served_is_told


# --- documents --------------------------------------------------------------------------------------------------------


def no_acknowledged_document_is_lost(nodes: Sequence[str]) -> Invariant:
    """`nodes` are the engine's, of which one that answers is asked."""

    async def no_acknowledged_document_is_lost(evidence: Evidence) -> Finding:
        """A document whose write was acknowledged is in the index, in that version or a later one."""
        wanted: dict[str, int] = {}
        for one in evidence.history:
            if one.kind == DOCUMENT and one.outcome is Outcome.OK:
                product = one.result["product"]
                wanted[product] = max(wanted.get(product, 0), int(one.result["version"]))
        there = await _versions(evidence, sorted(wanted), nodes)
        lost = [
            f"{product} version {version}" for product, version in wanted.items() if there.get(product, 0) < version
        ]
        return Finding.of(sorted(lost), f"{len(wanted)} documents were acknowledged")

    return no_acknowledged_document_is_lost


async def _versions(evidence: Evidence, wanted: Sequence[str], nodes: Sequence[str]) -> dict[str, int]:
    await evidence.engine(f"{ALIAS}/_refresh", {}, nodes=nodes)
    found: dict[str, int] = {}
    for first in range(0, len(wanted), PAGE):
        body: dict[str, Json] = {
            "size": PAGE,
            "_source": False,
            "version": True,
            "query": {"ids": {"values": list(wanted[first : first + PAGE])}},
        }
        for hit in hits_of(await evidence.engine(f"{ALIAS}/_search", body, nodes=nodes)):
            version = hit["_version"]
            assert isinstance(version, int)
            found[str(hit["_id"])] = version
    return found


# --- freshness --------------------------------------------------------------------------------------------------------


async def freshness_p99(evidence: Evidence, *, faults: bool = True) -> float | None:
    """Seconds from the commit of a canary's change to its being found, by the canary's own histogram; None without one.

    Of the whole scenario, or without `faults` of the stretch before the first of them.
    """
    start, end = evidence.window
    first = min((one.begun_at for one in evidence.faults if one.begun_at is not None), default=None)
    at = ""
    if not faults and first is not None:
        end, at = first, f" @ {evidence.moment(first).timestamp():.3f}"
    seconds = max(5, round(end - start))
    rate = f"sum by (le) (increase({FRESHNESS}_bucket[{seconds}s]{at}))"
    found = await evidence.metric(f"histogram_quantile(0.99, {rate})")
    return None if found is None or found != found else found


def found_soon(within: float) -> Invariant:
    """99 % of the canary's changes are found within so many seconds, while nothing else happens than the load."""

    async def changes_are_found_soon(evidence: Evidence) -> Finding:
        """A committed change is found within seconds, under the load, before the first fault."""
        if not evidence.faults:
            return Finding.of((), "the first changes meet processes that have just started")
        p99 = await freshness_p99(evidence, faults=False)
        if p99 is None:
            return Finding.not_applicable("it measures no freshness")
        return Finding.of([f"p99 {p99:.1f} s"] if p99 > within else (), f"p99 {p99:.1f} s, {within:g} s at most")

    return changes_are_found_soon


def share_of(part: int, whole: int) -> float | None:
    """Per cent; None of nothing."""
    return round(100 * part / whole, 2) if whole else None


# --- a cache that is empty for everybody at once ----------------------------------------------------------------------

SEARCHES_A_QUERY = 3
"""What an answer may take of the engine: as it was typed, with typos allowed, and facets."""
MOST_A_SWAP = 4 * SEARCHES_A_QUERY
"""For the hot query after an index took over: once, and what is made anew before it ends or while it was not yet there."""


@dataclass(frozen=True, slots=True)
class TookOver:
    """An index that took over the alias, and how often the engine says that it was searched since (it was never before)."""

    index: str
    at: float
    searched: int


async def took_over(evidence: Evidence) -> list[TookOver]:
    """Each `swap` of the scenario, in order; empty in a control."""
    found = []
    for one in evidence.faults:
        if one.kind != "swap" or one.injected_at is None or one.receipt is None or not one.receipt.proven:
            continue
        index = one.receipt.facts["now"]
        statistics = as_object(await evidence.engine(f"{index}/_stats/search"))
        searches = as_object(as_object(as_object(statistics["_all"])["total"])["search"])["query_total"]
        assert isinstance(index, str)
        assert isinstance(searches, int)
        found.append(TookOver(index, one.injected_at, searches))
    return sorted(found, key=lambda one: one.at)


async def one_asks_for_all(evidence: Evidence) -> Finding:
    """When everybody misses the cache at once, the engine is asked about each query about once, not once for each person.

    A query that was never sent has no text and excuses no search.
    """
    indices = await took_over(evidence)
    if not indices:
        return Finding.of((), "no index took over")
    ends = [one.at for one in indices[1:]] + [evidence.window[1]]
    asked = queries(evidence)
    excess, notes = [], []
    for one, end in zip(indices, ends, strict=True):
        meanwhile = [each for each in asked if one.at - 1 <= each.intended_at < end + 1]
        others = sum(bool(each.result.get("text")) and each.result.get("hot") != "yes" for each in meanwhile)
        more = one.searched - SEARCHES_A_QUERY * others - MOST_A_SWAP
        excess += [f"search {number} of {one.index}" for number in range(1, more + 1)]
        notes.append(f"{one.searched} for {len(meanwhile)} queries, {others} of them not the hot one")
    return Finding.of(excess, "searches of the engine after each swap: " + "; ".join(notes))
