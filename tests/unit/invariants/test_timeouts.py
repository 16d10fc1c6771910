"""Each invariant of day 1 is seen red on a planted outage, green without it."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labs.engine.model import FaultRecord, NotApplicableError, Operation, Outcome, Row, Status
from labs.invariants import timeouts as t
from tests.unit.invariants.evidence import ListedEvidence, operation

OK, FAIL, UNKNOWN = Outcome.OK, Outcome.FAIL, Outcome.UNKNOWN
RATE = 20
HEALED_AT = 10.0
FAULT = FaultRecord(
    kind="bank.slower", role="bank", target="sim-bank", parameters={}, planned_at=5.0, injected_at=5.0,
    healed_at=HEALED_AT, receipt=None, error=None,
)  # fmt: skip


def at(seconds: float, outcome: Outcome = OK, *, took: float | None = 0.1) -> Operation:
    done = None if took is None else seconds + took
    return replace(operation(f"k{seconds:07.2f}", outcome), intended_at=seconds, sent_at=seconds, done_at=done)


def load(until: float, sick: tuple[float, float] = (0.0, 0.0), every: int = 1) -> tuple[Operation, ...]:
    """RATE a second; of those in `sick` each `every`-th fails."""
    times = [number / RATE for number in range(int(until * RATE))]
    return tuple(
        at(time, UNKNOWN if sick[0] <= time < sick[1] and number % every == 0 else OK)
        for number, time in enumerate(times)
    )


def evidence(
    history: tuple[Operation, ...], arrived: dict[str, int] | None = None, faults: tuple[FaultRecord, ...] = (FAULT,)
) -> ListedEvidence:
    counts = {one.key: 1 for one in history} if arrived is None else arrived
    rows = [cast("Row", {"source": f"tok_{key}", "arrived": number}) for key, number in counts.items()]
    return ListedEvidence({t.ARRIVALS: rows, t.QUESTIONS: [cast("Row", {"asked": 3})]}, history, faults=faults)


async def test_a_chain_that_is_healthy_ten_seconds_after_the_heal_has_recovered() -> None:
    finding = await t.recovers_within_10s_of_heal(evidence(load(30, sick=(5, 19))))
    assert finding.status is Status.HELD
    assert finding.note == "healthy 8.9 s after the heal"


async def test_what_fails_later_than_ten_seconds_after_the_heal_is_named() -> None:
    finding = await t.recovers_within_10s_of_heal(evidence(load(30, sick=(5, 22))))
    assert finding.status is Status.BROKEN
    assert finding.offenders[0] == "k0020.00"
    assert finding.offenders[-1] == "k0021.95"
    assert finding.count == 2 * RATE


async def test_a_chain_that_never_works_again_is_named_to_the_end_of_the_load() -> None:
    finding = await t.recovers_within_10s_of_heal(evidence(load(40, sick=(5, 40))))
    assert finding.count == 20 * RATE - 1  # the last one is in no full window
    assert finding.note == "never again while the load lasted"


async def test_a_relapse_after_a_healthy_stretch_is_no_recovery() -> None:
    finding = await t.recovers_within_10s_of_heal(evidence(load(40, sick=(30, 33))))
    assert finding.count == 3 * RATE


async def test_one_failure_among_twenty_is_no_outage() -> None:
    assert (await t.recovers_within_10s_of_heal(evidence(load(40, sick=(10, 40), every=20)))).status is Status.HELD
    assert (await t.recovers_within_10s_of_heal(evidence(load(40, sick=(10, 40), every=10)))).status is Status.BROKEN


async def test_a_load_that_ends_too_soon_shows_nothing() -> None:
    finding = await t.recovers_within_10s_of_heal(evidence(load(17)))
    assert finding.status is Status.UNKNOWN
    assert "ended less than 8 s" in finding.note


async def test_a_short_load_is_judged_over_its_last_seconds() -> None:
    assert (await t.recovers_within_10s_of_heal(evidence(load(19, sick=(5, 14))))).status is Status.HELD
    assert (await t.recovers_within_10s_of_heal(evidence(load(19, sick=(5, 17))))).count > 0


async def test_without_a_fault_there_is_no_recovery_to_judge() -> None:
    with pytest.raises(NotApplicableError):
        await t.recovers_within_10s_of_heal(evidence(load(40), faults=()))


async def test_what_the_generator_never_sent_is_nobodys_failure() -> None:
    unsent = tuple(
        replace(one, sent_at=None, done_at=None, outcome=FAIL) if 25 <= one.intended_at < 35 and number % 2 else one
        for number, one in enumerate(load(40))
    )
    assert (await t.recovers_within_10s_of_heal(evidence(unsent))).status is Status.HELD
    assert (await t.edge_answers_within_budget(evidence(unsent))).status is Status.HELD


async def test_a_request_at_the_bank_for_each_operation_and_a_tenth_more_is_allowed() -> None:
    history = load(5)
    arrived = {one.key: 2 if number % 10 == 0 else 1 for number, one in enumerate(history)}
    finding = await t.bank_is_not_amplified(evidence(history, arrived))
    assert (finding.status, finding.note) == (Status.HELD, "1.10 requests per operation")


async def test_an_amplified_bank_names_what_was_sent_again() -> None:
    history = load(5)
    arrived = {one.key: 27 if number in (3, 4) else 1 for number, one in enumerate(history)}
    finding = await t.bank_is_not_amplified(evidence(history, arrived))
    assert (finding.status, finding.offenders) == (Status.BROKEN, ("k0000.15", "k0000.20"))
    assert finding.note == "1.5 requests per operation, 27 for one of them"


async def test_amplification_of_nothing_is_unknown() -> None:
    assert (await t.bank_is_not_amplified(evidence(()))).status is Status.UNKNOWN


async def test_one_late_answer_of_a_hundred_is_within_the_budget_two_are_not() -> None:
    history = load(5)
    late = (at(90.0, took=1.06), at(91.0, took=3.3))
    assert (await t.edge_answers_within_budget(evidence((*history, late[0])))).status is Status.HELD
    finding = await t.edge_answers_within_budget(evidence((*history, *late)))
    assert (finding.status, finding.offenders) == (Status.BROKEN, ("k0090.00", "k0091.00"))
    assert finding.note == "up to 3.3 s"


async def test_the_budget_and_fifty_milliseconds_are_not_late() -> None:
    assert (await t.edge_answers_within_budget(evidence((at(1.0, took=1.049),)))).status is Status.HELD


async def test_an_operation_without_any_answer_is_late() -> None:
    finding = await t.edge_answers_within_budget(evidence((at(1.0, took=None),)))
    assert (finding.status, finding.note) == (Status.BROKEN, "")


async def test_the_figures_say_how_much_how_late_and_how_long() -> None:
    history = load(40, sick=(5, 21))
    arrived = {one.key: 1 if one.outcome is OK else 20 for one in history}
    found = {figure.name: figure.value for figure in await t.figures(evidence(history, arrived))}
    assert found == {
        "requests at the bank per operation": 8.6,
        "the same, operations that reached it and failed": 20.0,
        "questions to the bank per operation": 0.0,
        "latency at the edge, p99": 100.0,
        "healthy after the heal": pytest.approx(10.85),
        "ok in the last 5 s of load": 100.0,
        "load after the heal": pytest.approx(29.95),
    }


async def test_a_chain_that_never_recovers_has_no_figure_for_it() -> None:
    found = {one.name: one.value for one in await t.figures(evidence(load(40, sick=(5, 40))))}
    assert found["healthy after the heal"] is None
    assert found["ok in the last 5 s of load"] == 0.0


async def test_columns_of_another_kind_surface() -> None:
    wrong = ListedEvidence({t.ARRIVALS: [cast("Row", {"source": 5, "arrived": 1})]}, load(2))
    with pytest.raises(TypeError, match="other columns"):
        await t.bank_is_not_amplified(wrong)


@given(st.lists(st.booleans(), min_size=1, max_size=400))
def test_a_recovered_chain_has_only_healthy_windows_from_then_on(fates: list[bool]) -> None:
    history = [at(number / RATE, OK if fate else UNKNOWN) for number, fate in enumerate(fates)]
    after = t.recovery_seconds(history, 0.0)
    windows = t.sick_windows(history, 0.0)
    if after is None:
        assert not windows or windows[-1][1]
    else:
        assert not any(sick for start, sick in windows if start >= after)
