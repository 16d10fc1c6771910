"""Each invariant of search is seen red on a planted bug, green without it, and silent about what does not apply."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from labs.engine.model import (
    SEARCH_ENGINE,
    EvidenceError,
    FaultRecord,
    Json,
    NotApplicableError,
    Operation,
    Outcome,
    Phase,
    Receipt,
    Status,
    Variant,
    VariantRole,
)
from labs.invariants import search as s
from tests.unit.invariants.evidence import START, ListedEvidence

CONTENT = {
    "sku": "A-1", "title": "Boots", "language": "en", "model": "K55", "brand_id": 3, "price": 999, "currency": "EUR",
    "stock": 4, "popularity": 7, "skus": ["A-1-b", "A-1-a"],
}  # fmt: skip


@dataclass
class Catalogue(ListedEvidence):
    """Three products that are in both stores, unless a test spoils it."""

    database: dict[str, dict[str, Any]] = field(default_factory=dict)
    index: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    partial: bool = False
    executed: int = 0
    freshness: float | None = None
    """All the time, or up to the first fault if `with_fault` says how it was from then on."""
    with_fault: float | None = None
    role: VariantRole = VariantRole.ENGINEERED
    updated_at: float = 0.0
    heals_after: int | None = None
    refreshed: int = 0
    old: bool = False
    """What is due is not among the newest changes."""
    changes_meanwhile: bool = False

    def __post_init__(self) -> None:
        for name in ("a", "b", "c"):
            self.database[name] = dict(CONTENT)
            self.index[name] = dict(CONTENT)

    @property
    def variant(self) -> Variant:
        return Variant(role=self.role, roles={}, processes=())

    async def sql(self, database: str, query: str, *args: object) -> Sequence[Any]:
        assert database == "catalog"
        assert query in (s.PRODUCTS, s.NEWEST, s.CHANGED)
        moment = START + timedelta(seconds=self.updated_at)
        if query == s.NEWEST and (not args or moment >= args[0] or self.old):  # type: ignore[operator]  # a time
            return []
        if query == s.CHANGED and self.changes_meanwhile:
            moment += timedelta(seconds=1)
        return [{"id": name, "updated_at": moment, **row} for name, row in self.database.items()]

    async def metric(self, promql: str) -> float | None:
        assert s.FRESHNESS in promql
        return self.freshness if self.with_fault is None or " @ " in promql else self.with_fault

    async def engine(
        self, path: str, body: Mapping[str, Json] | None = None, *, nodes: Sequence[str] = (SEARCH_ENGINE,)
    ) -> Json:
        if path == "lab1_products-v1-now/_stats/search":
            return {"_all": {"total": {"search": {"query_total": self.executed}}}}
        assert path.startswith("{prefix}products/")
        if path.endswith("_refresh"):
            self.refreshed += 1
            return {}
        assert body is not None
        query = body.get("query")
        if isinstance(query, Mapping):
            wanted = query["ids"]
            assert isinstance(wanted, Mapping)
            if body["_source"]:
                there = sorted(self.index.keys() & set(wanted["values"]))  # type: ignore[arg-type]  # a list of texts
                return self._page([{"_id": name, "_source": self.index[name], "sort": [name]} for name in there])
            found = [name for name in wanted["values"] if name in self.versions]  # type: ignore[union-attr]  # a list of texts
            return self._page([{"_id": name, "_version": self.versions[str(name)]} for name in found])
        if self.heals_after is not None and self.refreshed > self.heals_after:
            self.index = {name: dict(row) for name, row in self.database.items()}
        after = body.get("search_after")
        names = sorted(name for name in self.index if not isinstance(after, list) or name > str(after[0]))
        size = body["size"]
        assert isinstance(size, int)
        return self._page([{"_id": name, "_source": self.index[name], "sort": [name]} for name in names[:size]])

    def _page(self, hits: list[Any]) -> Json:
        return {"timed_out": False, "_shards": {"failed": int(self.partial)}, "hits": {"hits": hits}}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s, "AGAIN_AFTER_SECONDS", 0.0)


def judged(evidence: ListedEvidence, invariant: Any) -> tuple[Status, tuple[str, ...], str]:
    found = asyncio.run(invariant(evidence))
    return found.status, found.offenders, found.note


def query(
    number: int,
    at: float = 1.0,
    *,
    took: float | None = 0.1,
    status: int | None = 200,
    outcome: Outcome | None = None,
    late: float = 0.0,
    phase: Phase = Phase.INJECT,
    kind: str = s.QUERY,
    **result: str,
) -> Operation:
    if outcome is None:
        outcome = Outcome.UNKNOWN if status is None else Outcome.OK if status == 200 else Outcome.FAIL
    return Operation(
        id=str(number), key=f"q{number}", kind=kind, phase=phase, intended_at=at, sent_at=at + late,
        done_at=None if took is None else at + took, attempts=1, status=status, outcome=outcome, error=None,
        result=result,
    )  # fmt: skip


def fault(kind: str, start: float, end: float) -> FaultRecord:
    return FaultRecord(kind, "sut", "search-api", {"times": 16}, start, start, end, Receipt(True, ""), None)


# --- index and database ---------------------------------------------------------------------------------------------


def test_an_index_that_equals_the_database_holds() -> None:
    assert judged(Catalogue(), s.index_equals_database) == (Status.HELD, (), "")


def test_the_order_of_a_products_variants_is_no_difference() -> None:
    evidence = Catalogue()
    evidence.index["a"]["skus"] = ["A-1-a", "A-1-b"]
    assert judged(evidence, s.index_equals_database)[0] is Status.HELD


def test_a_missing_document_is_named() -> None:
    evidence = Catalogue()
    del evidence.index["b"]
    assert judged(evidence, s.index_equals_database) == (Status.BROKEN, ("b missing",), "1 missing")


@pytest.mark.parametrize(
    ("name", "value"), [("price", 1), ("stock", 0), ("title", "Shoes"), ("skus", []), ("sku", None)]
)
def test_a_stale_document_is_named_with_what_differs(name: str, value: object) -> None:
    evidence = Catalogue()
    evidence.index["c"][name] = value
    assert judged(evidence, s.index_equals_database) == (Status.BROKEN, (f"c stale: {name}",), "1 stale")


def test_a_document_without_a_product_is_named() -> None:
    evidence = Catalogue()
    del evidence.database["a"]
    assert judged(evidence, s.index_equals_database) == (Status.BROKEN, ("a extra",), "1 extra")


def test_every_page_of_the_index_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s, "PAGE", 2)
    evidence = Catalogue()
    evidence.index["z"] = dict(CONTENT)
    assert judged(evidence, s.index_equals_database)[1] == ("z extra",)


def test_the_canary_is_not_compared() -> None:
    evidence = Catalogue()
    evidence.database[s.CANARY] = dict(CONTENT, title="one")
    evidence.index[s.CANARY] = dict(CONTENT, title="two")
    assert judged(evidence, s.index_equals_database)[0] is Status.HELD


def test_a_difference_that_goes_away_is_none() -> None:
    evidence = Catalogue(heals_after=2)
    evidence.index["a"]["price"] = 1
    assert judged(evidence, s.index_equals_database)[0] is Status.HELD


def test_a_partial_answer_of_the_engine_is_no_evidence() -> None:
    with pytest.raises(EvidenceError, match="partial"):
        judged(Catalogue(partial=True), s.index_equals_database)


def test_without_a_search_engine_there_is_nothing_to_compare() -> None:
    with pytest.raises(NotApplicableError):
        judged(ListedEvidence({s.PRODUCTS: []}), s.index_equals_database)


def test_who_is_behind_is_told_apart_from_who_changed_a_moment_ago() -> None:
    evidence = Catalogue(updated_at=10.0)
    evidence.index["a"]["price"] = 1
    assert asyncio.run(s.still_behind(evidence)) == "1 of the last 3 changes are not in the index"
    evidence.old = True
    assert asyncio.run(s.still_behind(evidence)) == "1 products are not in the index as they are"
    evidence.updated_at = evidence.window[1] - 1
    assert asyncio.run(s.still_behind(evidence)) == ""


@pytest.mark.parametrize("old", [False, True])
def test_what_is_changed_again_while_the_index_is_read_is_not_behind(old: bool) -> None:
    evidence = Catalogue(updated_at=10.0, old=old, changes_meanwhile=True)
    evidence.index["a"]["price"] = 1
    assert asyncio.run(s.still_behind(evidence)) == ""


def test_of_a_naive_variant_nothing_is_awaited() -> None:
    evidence = Catalogue(role=VariantRole.NAIVE)
    evidence.index.clear()
    assert asyncio.run(s.still_behind(evidence)) == ""


# --- queries --------------------------------------------------------------------------------------------------------


def found(number: int, text: str, hits: str, phase: Phase = Phase.INJECT) -> Operation:
    return query(number, phase=phase, text=text, hits=hits)


def test_a_query_that_fails_is_named_and_one_of_the_control_is_not() -> None:
    history = (query(1), query(2, status=502), query(3, status=None), query(4, status=502, phase=Phase.CONTROL))
    status, offenders, note = judged(Catalogue(history=history), s.no_query_fails)
    assert (status, offenders) == (Status.BROKEN, ("q2 502", "q3 None"))
    assert note == "1 of 3 queries were answered, 0 of them suddenly with nothing"


def test_what_was_always_there_and_is_gone_for_a_moment_is_named() -> None:
    history = (
        found(1, "shoes", "20", Phase.BASELINE), found(2, "lamp", "20", Phase.BASELINE), found(3, "lamp", "2", Phase.BASELINE),
        found(4, "shoes", "0"), found(5, "lamp", "0"), found(6, "shoes", "1"), found(7, "kettle", "0"),
    )  # fmt: skip
    status, offenders, _ = judged(Catalogue(history=history), s.no_query_fails)
    assert (status, offenders) == (Status.BROKEN, ("q4 found nothing",))


def test_without_any_query_nothing_is_shown() -> None:
    evidence = Catalogue(faults=(fault("reindex", 1, 2),))
    assert judged(evidence, s.no_query_fails)[0] is Status.UNKNOWN
    assert judged(evidence, s.answered(0.999))[0] is Status.UNKNOWN


def test_a_late_answer_counts_as_none() -> None:
    history = tuple(query(number, took=1.5 if number < 2 else 0.1) for number in range(1100))
    assert judged(Catalogue(history=history), s.answered(0.999))[:2] == (Status.BROKEN, ("q0", "q1"))
    assert judged(Catalogue(history=history[1:]), s.answered(0.999))[0] is Status.HELD


def steps(*, served: Sequence[int], offered: Sequence[int], late: float = 0.0, refused: int = 503) -> Catalogue:
    """A surge each ten seconds, for 5 s of which the last 4 count: so many offered and served in each of those."""
    history: list[Operation] = []
    faults: list[FaultRecord] = []
    for number, (good, due) in enumerate(zip(served, offered, strict=True)):
        start = 10.0 * (number + 1)
        faults.append(fault("surge", start, start + 5))
        for place in range(due * 4):
            at = start + 1 + place / (due * 4) * 3.999
            ok = place < good * 4
            history.append(query(len(history), at, status=200 if ok else refused, late=late))
    return Catalogue(history=tuple(history), faults=tuple(faults))


def test_goodput_that_stays_is_kept() -> None:
    status, offenders, note = judged(steps(served=(50, 80, 75), offered=(50, 100, 400)), s.goodput_is_kept(0.7))
    assert (status, offenders) == (Status.HELD, ())
    assert note == "50/s of 50/s, 80/s of 100/s, 75/s of 400/s"


def test_goodput_that_collapses_past_the_knee_is_seen() -> None:
    status, offenders, _ = judged(steps(served=(50, 80, 20), offered=(50, 100, 400)), s.goodput_is_kept(0.7))
    assert status is Status.BROKEN
    assert len(offenders) == 380 * 4


def test_who_serves_all_that_is_offered_collapses_nowhere_and_says_that_the_knee_was_not_reached() -> None:
    status, _, note = judged(steps(served=(50, 100), offered=(50, 100)), s.goodput_is_kept(0.7))
    assert status is Status.HELD
    assert note == "the knee was not reached: 100/s were served, more was not offered"


def test_a_generator_that_was_late_itself_shows_nothing() -> None:
    evidence = steps(served=(50, 10), offered=(50, 400), late=0.4)
    assert judged(evidence, s.goodput_is_kept(0.7))[0] is Status.UNKNOWN


def test_what_the_generator_held_back_was_due_and_is_not_served() -> None:
    evidence = steps(served=(50, 80, 80), offered=(50, 100, 400))
    held = tuple(
        one if one.status == 200 else replace(one, sent_at=None, done_at=None, status=None) for one in evidence.history
    )
    evidence.history = held
    assert judged(evidence, s.goodput_is_kept(0.7))[2].endswith("80/s of 400/s")
    assert judged(evidence, s.who_is_not_served_is_told(0.95))[0] is Status.BROKEN


def test_before_any_surge_nothing_is_broken() -> None:
    assert judged(Catalogue(history=(query(1),)), s.goodput_is_kept(0.7))[0] is Status.HELD
    assert judged(Catalogue(history=(query(1),)), s.who_is_not_served_is_told(0.95))[0] is Status.HELD


@pytest.mark.parametrize(("refused", "status"), [(503, Status.HELD), (429, Status.HELD), (502, Status.BROKEN)])
def test_who_is_refused_in_time_was_told(refused: int, status: Status) -> None:
    evidence = steps(served=(50, 80), offered=(50, 400), refused=refused)
    assert judged(evidence, s.who_is_not_served_is_told(0.95))[0] is status


def test_who_waits_for_nothing_was_not_told() -> None:
    evidence = steps(served=(50, 80), offered=(50, 400))
    silent = tuple(one if one.status == 200 else replace(one, done_at=None, status=None) for one in evidence.history)
    evidence.history = silent
    assert judged(evidence, s.who_is_not_served_is_told(0.95))[0] is Status.BROKEN


def test_a_degraded_answer_is_known_by_what_it_says() -> None:
    assert s.degraded(query(1, degraded="no_facets"))
    assert not s.degraded(query(1, degraded=""))
    assert not s.degraded(query(1))


# --- documents, freshness, stampede ---------------------------------------------------------------------------------


def written(number: int, product: str, version: int, outcome: Outcome = Outcome.OK) -> Operation:
    return query(number, kind=s.DOCUMENT, outcome=outcome, product=product, version=str(version))


def test_an_acknowledged_document_that_is_gone_or_older_is_lost() -> None:
    history = (written(1, "x", 1), written(2, "x", 4), written(3, "y", 2), written(4, "z", 3), written(5, "u", 9))
    evidence = Catalogue(history=history, versions={"x": 3, "y": 2, "u": 11})
    lost = judged(evidence, s.no_acknowledged_document_is_lost(["search-engine-1"]))
    assert lost == (Status.BROKEN, ("x version 4", "z version 3"), "4 documents were acknowledged")


def test_a_document_that_nobody_acknowledged_may_be_gone() -> None:
    evidence = Catalogue(history=(written(1, "x", 1, Outcome.UNKNOWN),))
    assert judged(evidence, s.no_acknowledged_document_is_lost(["search-engine-1"]))[0] is Status.HELD


@pytest.mark.parametrize(("p99", "status"), [(1.4, Status.HELD), (7.0, Status.BROKEN), (None, Status.NOT_APPLICABLE)])
def test_freshness_is_the_canarys_own(p99: float | None, status: Status) -> None:
    evidence = Catalogue(freshness=p99, faults=(fault("reindex", 1, 2),))
    assert judged(evidence, s.found_soon(5.0))[0] is status


@pytest.mark.parametrize(("before", "status"), [(1.4, Status.HELD), (7.0, Status.BROKEN)])
def test_freshness_is_judged_before_the_first_fault_and_told_with_it(before: float, status: Status) -> None:
    evidence = Catalogue(freshness=before, with_fault=9.0, faults=(fault("reindex", 21, 23),))
    assert judged(evidence, s.found_soon(5.0))[0] is status
    assert asyncio.run(s.freshness_p99(evidence)) == 9.0


def test_a_command_that_is_told_when_it_is_done_began_when_it_was_planned() -> None:
    asked: list[str] = []

    class Asked(Catalogue):
        async def metric(self, promql: str) -> float | None:
            asked.append(promql)
            return 1.0

    late = replace(fault("reindex", 41, 43), planned_at=21.0)
    asyncio.run(s.freshness_p99(Asked(faults=(late,)), faults=False))
    assert f"[21s] @ {(START + timedelta(seconds=21)).timestamp():.3f}" in asked[0]


def test_freshness_that_is_no_number_is_none() -> None:
    evidence = Catalogue(freshness=float("nan"), faults=(fault("reindex", 1, 2),))
    assert judged(evidence, s.found_soon(5.0))[0] is Status.NOT_APPLICABLE


def test_in_the_control_freshness_is_not_judged() -> None:
    assert judged(Catalogue(freshness=20.0), s.found_soon(5.0))[0] is Status.HELD


def swapped(at: float, *, proven: bool = True) -> FaultRecord:
    receipt = Receipt(proven, "", {"before": "lab1_products-v1-then", "now": "lab1_products-v1-now"})
    return replace(fault("swap", at, at + 2), receipt=receipt)


def stampede(executed: int, *swaps: FaultRecord) -> Catalogue:
    history = (
        *(query(number, 5 + number / 100, hot="yes", text="hot") for number in range(900)),
        *(query(1000 + number, 5 + number / 10, text="cold") for number in range(50)),
    )
    return Catalogue(history=history, faults=swaps or (swapped(5),), executed=executed, window=(0.0, 15.0))


def test_one_question_of_the_engine_for_all_is_no_stampede() -> None:
    status, offenders, note = judged(stampede(150), s.one_asks_for_all)
    assert (status, offenders) == (Status.HELD, ())
    assert note == "searches of the engine after each swap: 150 for 950 queries, 50 of them not the hot one"


def test_a_stampede_is_counted() -> None:
    status, offenders, _ = judged(stampede(190), s.one_asks_for_all)
    assert status is Status.BROKEN
    assert len(offenders) == 190 - 3 * 50 - s.MOST_A_SWAP


def test_who_gave_up_or_was_never_sent_excuses_no_search() -> None:
    given_up = [query(number, 6, status=None, hot="yes", text="hot") for number in range(500)]
    never_sent = [query(500 + number, 6, took=None, status=None) for number in range(500)]
    evidence = Catalogue(history=(*given_up, *never_sent), faults=(swapped(5),), executed=100, window=(0.0, 15.0))
    status, offenders, _ = judged(evidence, s.one_asks_for_all)
    assert (status, len(offenders)) == (Status.BROKEN, 100 - s.MOST_A_SWAP)


def test_each_swap_is_judged_by_the_queries_between_it_and_the_next() -> None:
    status, offenders, note = judged(stampede(90, swapped(9), swapped(5)), s.one_asks_for_all)
    assert status is Status.BROKEN
    assert len(offenders) == 90 - 3 * 20 - s.MOST_A_SWAP
    assert note.count("; ") == 1


def test_a_swap_that_is_not_proven_is_not_judged() -> None:
    assert judged(stampede(999, swapped(5, proven=False)), s.one_asks_for_all)[0] is Status.HELD


def test_without_a_swap_there_is_no_stampede() -> None:
    assert judged(Catalogue(history=(query(1),)), s.one_asks_for_all) == (Status.HELD, (), "no index took over")
