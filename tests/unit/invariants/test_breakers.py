"""Each invariant is seen red on a planted bug, green without it, and unknown where the evidence does not suffice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from labs.engine.model import FaultRecord, NotApplicableError, Operation, Outcome, Phase, Row, Status
from labs.invariants import breakers as b
from tests.unit.invariants.evidence import ListedEvidence, operation

OK, FAIL, UNKNOWN = Outcome.OK, Outcome.FAIL, Outcome.UNKNOWN
VICTIM = 3


def fault(role: str = f"sut.shard{VICTIM}", start: float = 10.0, end: float | None = 20.0) -> FaultRecord:
    return FaultRecord("down", role, "payments.shard3", {}, 0.0, start, end, None, None)


SHARD_OF = {f"k{n}": b.shard_of(f"tok_k{n}", b.SHARDS) for n in range(2000)}


def card_of(shard: int, number: int = 0) -> str:
    return [card for card, its in SHARD_OF.items() if its == shard][number]


def paid(
    key: str, at: float, *, outcome: Outcome = OK, took: float | None = 0.01, error: str | None = None
) -> Operation:
    done_at = None if took is None else at + took
    return replace(operation(key, outcome), intended_at=at, sent_at=at, done_at=done_at, error=error)


def live(count: int, *, failed: int = 0, at: float = 15.0) -> tuple[Operation, ...]:
    """Operations on shards other than the victim's; the first `failed` of them were not answered."""
    keys = [card_of(shard, number) for number in range(20) for shard in range(b.SHARDS) if shard != VICTIM][:count]
    return tuple(paid(key, at, outcome=UNKNOWN if n < failed else OK) for n, key in enumerate(keys))


def evidence(*operations: Operation, faults: tuple[FaultRecord, ...] = (fault(),)) -> ListedEvidence:
    return ListedEvidence(history=operations, faults=faults)


async def test_live_shards_that_are_answered_hold_whatever_happens_to_the_dead_one() -> None:
    dead = tuple(paid(card_of(VICTIM, n), 15, outcome=UNKNOWN) for n in range(15))
    finding = await b.live_shards_answered(0.99)(evidence(*live(100, failed=1), *dead))
    assert finding.status is Status.HELD
    assert finding.note == "99 of 100 operations on live shards were answered within 2 s"


async def test_live_shards_that_are_refused_are_named() -> None:
    operations = live(100, failed=2)
    finding = await b.live_shards_answered(0.99)(evidence(*operations))
    assert (finding.status, finding.offenders) == (Status.BROKEN, (operations[0].key, operations[1].key))


@pytest.mark.parametrize("took", [2.5, None])
async def test_an_answer_that_comes_too_late_or_never_is_none(took: float | None) -> None:
    late = paid(card_of(0), 15, took=took)
    assert (await b.live_shards_answered(1.0)(evidence(late))).offenders == (late.key,)


async def test_a_refused_card_is_an_answer() -> None:
    declined = paid(card_of(0), 15, outcome=FAIL)
    assert (await b.live_shards_answered(1.0)(evidence(declined))).status is Status.HELD


async def test_only_what_was_sent_during_the_outage_is_judged() -> None:
    before, after = paid(card_of(0), 9.9, outcome=UNKNOWN), paid(card_of(0, 1), 20.0, outcome=UNKNOWN)
    control = replace(paid(card_of(0, 2), 15, outcome=UNKNOWN), phase=Phase.CONTROL)
    finding = await b.live_shards_answered(1.0)(evidence(before, after, control, paid(card_of(0, 3), 15)))
    assert finding.status is Status.HELD


async def test_without_a_fault_everything_holds_and_says_so() -> None:
    for invariant in (
        b.live_shards_answered(1.0),
        b.hit_shards_refused(1.0),
        b.told_at_once(1.0),
        b.recovered_soon(1.0),
    ):
        for faults in ((), (fault(end=None),)):
            finding = await invariant(evidence(paid(card_of(0), 15, outcome=UNKNOWN), faults=faults))
            assert (finding.status, finding.note) == (Status.HELD, "no fault yet")


@pytest.mark.parametrize("role", ["sut.bank", " ".join(f"sut.shard{n}" for n in range(b.SHARDS))])
async def test_there_is_nothing_to_compare_when_no_or_every_shard_was_hit(role: str) -> None:
    finding = await b.live_shards_answered(0.99)(evidence(*live(5), faults=(fault(role),)))
    assert finding.status is Status.UNKNOWN


async def test_no_operations_prove_nothing() -> None:
    for invariant in (b.live_shards_answered(1.0), b.told_at_once(1.0), b.recovered_soon(1.0)):
        assert (await invariant(evidence(paid(card_of(VICTIM), 1.0)))).status is Status.UNKNOWN


async def test_who_waits_for_a_timeout_although_the_outage_is_known_was_not_told_at_once() -> None:
    at = 10 + b.DETECTION_SECONDS + 0.1
    told = [paid(f"t{n}", at, outcome=UNKNOWN, took=0.01) for n in range(7)]
    waits = [paid(f"w{n}", at, outcome=UNKNOWN, took=2.0) for n in range(3)]
    early = paid("early", 10.1, outcome=UNKNOWN, took=2.0)
    assert (await b.told_at_once(0.7)(evidence(*told, *waits, early))).status is Status.HELD
    assert (await b.told_at_once(0.8)(evidence(*told, *waits))).offenders == ("w0", "w1", "w2")


async def test_a_guard_that_never_refuses_has_not_told_the_cards_of_the_dead_shard() -> None:
    """It serves all others, and would pass without this."""
    at = 10 + b.DETECTION_SECONDS
    refused = [paid(card_of(VICTIM, n), at, outcome=UNKNOWN, error=b.REFUSED) for n in range(6)]
    waits = [paid(card_of(VICTIM, n), at, outcome=UNKNOWN, took=0.01) for n in range(6, 10)]
    early = paid(card_of(VICTIM, 10), at - 0.1, outcome=UNKNOWN)
    slow = paid(card_of(VICTIM, 11), at, outcome=UNKNOWN, took=1.5, error=b.REFUSED)
    assert (await b.hit_shards_refused(0.6)(evidence(*refused, *waits, early, *live(9)))).status is Status.HELD
    finding = await b.hit_shards_refused(0.6)(evidence(*refused, *waits, slow))
    assert finding.offenders == (*(one.key for one in waits), slow.key)
    assert finding.note == "6 of 11 cards of dead or slow shards were told at once that nothing was done"
    assert (await b.hit_shards_refused(0.5)(evidence(early, *live(9)))).status is Status.UNKNOWN


async def test_a_breaker_that_stays_open_after_the_heal_has_not_recovered() -> None:
    at = 20 + b.RECOVERY_SECONDS
    shut = [paid(f"s{n}", at + n / 10, outcome=UNKNOWN, error=b.REFUSED) for n in range(4)]
    served = [paid(f"o{n}", at + n / 10) for n in range(40)]
    soon = paid("soon", at - 0.1, outcome=UNKNOWN)
    assert (await b.recovered_soon(0.95)(evidence(*served, soon))).status is Status.HELD
    finding = await b.recovered_soon(0.95)(evidence(*served, *shut))
    assert (finding.status, finding.count) == (Status.BROKEN, 4)


async def test_who_was_told_that_nothing_was_done_must_not_be_charged() -> None:
    refused = [paid(key, 15, outcome=UNKNOWN, error=b.REFUSED) for key in ("a", "b")]
    other = paid("c", 15, outcome=UNKNOWN, error="urn:lab:bank_timeout")
    charged: list[Row] = [{"source": "tok_b"}]
    planted = ListedEvidence({b.CHARGED: charged}, (*refused, other))
    assert (await b.refused_was_not_charged(planted)).offenders == ("b",)
    held = await b.refused_was_not_charged(ListedEvidence({b.CHARGED: []}, (*refused, other)))
    assert (held.status, held.note) == (Status.HELD, "2 were told so")
    with pytest.raises(NotApplicableError):
        await b.refused_was_not_charged(ListedEvidence())


def test_an_outage_is_as_long_as_its_faults_and_names_the_shards() -> None:
    both = evidence(faults=(fault("sut.shard1", 10, 12), fault("sut.shard2 sut.shard7", 11, 15)))
    assert b.outage(both) == b.Outage(10, 15, frozenset({1, 2, 7}))


def test_the_figures_tell_when_it_refused_first_and_served_again() -> None:
    found = b.Outage(10, 20, frozenset({VICTIM}))
    refusals = [paid(f"r{n}", 12 + n, outcome=UNKNOWN, error=b.REFUSED) for n in range(3)]
    after = [paid(f"a{n}", 20 + n / 10, outcome=OK if n >= 7 else UNKNOWN) for n in range(40)]
    history = evidence(*refusals, *after)
    assert b.first_refusal(history, found) == 2.01
    assert b.served_again(history, found) == 0.7
    assert b.first_refusal(evidence(), found) is None
    assert b.served_again(evidence(), found) is None
    assert b.served_again(evidence(*(replace(one, outcome=UNKNOWN) for one in after)), found) is None
    assert b.answered_share(()) is None
