"""Each invariant of scheduled jobs is seen red on a planted bug, green without it, and silent about nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest

from labs.engine.model import (
    EvidenceError,
    FaultRecord,
    Finding,
    Invariant,
    Operation,
    Outcome,
    Phase,
    Receipt,
    Row,
    Status,
)
from labs.invariants import cron as c
from tests.unit.invariants.evidence import START, ListedEvidence

EVERY = 2
DUE = 5
"""Instants of each job that are due: 2, 4 ... 10 s after START, and it is 16 s after it."""
NOW = START + timedelta(seconds=16)


def created(key: str, target: str = "both", outcome: Outcome = Outcome.OK) -> Operation:
    result = {"job": f"job_{key}", "anchor": START.isoformat(), "every_seconds": str(EVERY), "target": target}
    return Operation(
        id=key, key=key, kind="job", phase=Phase.INJECT, intended_at=0.0, sent_at=0.0, done_at=0.1, attempts=1,
        status=201, outcome=outcome, error=None, result=result,
    )  # fmt: skip


def instant(number: int) -> datetime:
    return START + timedelta(seconds=EVERY * number)


@dataclass
class World:
    """Jobs whose every instant was fired once, unless a test spoils it."""

    jobs: dict[str, str] = field(default_factory=lambda: {"a": "both", "b": "both"})
    rows: list[dict[str, object]] = field(default_factory=list)
    effects: list[dict[str, object]] = field(default_factory=list)
    faults: tuple[FaultRecord, ...] = ()
    operations: tuple[Operation, ...] = ()

    def __post_init__(self) -> None:
        for number in range(1, DUE + 1):
            for key in self.jobs:
                self.row(key, number)
                self.effect(key, number)

    def row(self, key: str, number: int, state: str = "fired", **changes: object) -> None:
        fired_at = instant(number) + timedelta(seconds=0.1)
        self.rows.append(
            {
                "job": f"job_{key}", "scheduled_for": instant(number), "state": state, "reason": None,
                "fired_at": fired_at, "epoch": "1", "node": None,
            } | changes
        )  # fmt: skip

    def effect(self, key: str, number: int, *, epoch: int | None = 1, late: float = 0.05, **changes: object) -> None:
        self.effects.append(
            {
                "target": self.jobs.get(key, "both"), "run_id": f"run_{key}_{number}", "job": f"job_{key}",
                "scheduled_for": instant(number).isoformat(), "epoch": epoch,
                "at": instant(number) + timedelta(seconds=late), "applied": True, "reason": "applied",
            } | changes
        )  # fmt: skip

    @property
    def evidence(self) -> ListedEvidence:
        history = tuple(created(key, target) for key, target in self.jobs.items()) + self.operations
        answers: dict[str, list[Row]] = {c.NOW: [{"now": NOW}], c.RUNS: [], c.EFFECTS: []}
        answers[c.RUNS] += self.rows  # type: ignore[arg-type]  # a dict is a Row as far as it is read
        answers[c.EFFECTS] += self.effects  # type: ignore[arg-type]  # as above
        return ListedEvidence(answers, history, faults=self.faults)


ALL: tuple[Invariant, ...] = (
    c.every_instant_has_one_row,
    c.no_double_effect,
    c.effects_agree_with_rows,
    c.fair_weather_skips_nothing,
    c.nothing_fired_early,
    c.no_effect_of_a_deposed_leader,
    c.failover_in_time,
    c.each_check_alone_fails,
)


def broken(finding: Finding) -> tuple[str, ...]:
    assert finding.status is Status.BROKEN
    assert finding.count == len(finding.offenders)
    return finding.offenders


@pytest.mark.parametrize("invariant", ALL)
async def test_a_calendar_kept_holds(invariant: Invariant) -> None:
    assert (await invariant(World().evidence)).status is Status.HELD


@pytest.mark.parametrize("invariant", ALL[:7])
async def test_a_store_that_cannot_be_read_is_no_proof(invariant: Invariant) -> None:
    evidence = World().evidence
    evidence.broken = True
    with pytest.raises(EvidenceError):
        await invariant(evidence)


async def test_an_instant_without_a_row_is_named() -> None:
    world = World()
    world.rows = [row for row in world.rows if (row["job"], row["scheduled_for"]) != ("job_b", instant(3))]
    assert broken(await c.every_instant_has_one_row(world.evidence)) == ("b@3",)


async def test_a_job_without_any_row_is_named_by_every_instant() -> None:
    world = World()
    world.rows = [row for row in world.rows if row["job"] != "job_a"]
    assert broken(await c.every_instant_has_one_row(world.evidence)) == tuple(f"a@{n}" for n in range(1, 6))


async def test_an_instant_with_two_rows_is_named() -> None:
    world = World()
    world.row("a", 2)
    assert broken(await c.every_instant_has_one_row(world.evidence)) == ("a@2",)


async def test_a_row_that_is_never_finished_is_named() -> None:
    world = World(rows=[])
    world.rows = [row for row in world.rows if row["scheduled_for"] != instant(4)]
    world.row("a", 4, "firing")
    world.row("b", 4)
    assert broken(await c.every_instant_has_one_row(world.evidence)) == ("a@4",)


async def test_a_row_for_an_instant_that_was_never_due_is_named() -> None:
    world = World()
    world.row("a", 3, scheduled_for=instant(3) + timedelta(seconds=0.7))
    assert broken(await c.every_instant_has_one_row(world.evidence)) == ("a@?",)


async def test_an_instant_of_this_moment_may_still_wait_for_its_row() -> None:
    world = World()
    assert (await c.every_instant_has_one_row(world.evidence)).note == "10 due"


async def test_a_job_whose_creation_was_not_acknowledged_is_promised_nothing() -> None:
    world = World(operations=(created("c", outcome=Outcome.UNKNOWN),))
    assert (await c.every_instant_has_one_row(world.evidence)).status is Status.HELD


async def test_a_double_effect_is_named_and_a_refused_call_is_none() -> None:
    world = World()
    world.effect("a", 1, epoch=2, applied=False, reason="duplicate_run")
    held = await c.no_double_effect(world.evidence)
    assert (held.status, held.note) == (Status.HELD, "1 refused as duplicate_run")
    world.effect("a", 2, run_id=None, epoch=None)
    assert broken(await c.no_double_effect(world.evidence)) == ("a@2",)


async def test_a_double_effect_at_a_target_with_one_check_is_not_held_against_the_scheduler() -> None:
    world = World(jobs={"a": "both", "f": "fencing-only"})
    world.effect("f", 1, epoch=2)
    assert (await c.no_double_effect(world.evidence)).status is Status.HELD


async def test_a_run_called_fired_that_had_no_effect_is_named() -> None:
    world = World()
    world.effects = [one for one in world.effects if one["scheduled_for"] != instant(2).isoformat()]
    finding = await c.effects_agree_with_rows(world.evidence)
    assert broken(finding) == ("a@2", "b@2")
    assert finding.note == "2 fired without effect"


@pytest.mark.parametrize("state", ["skipped", "coalesced"])
async def test_a_run_called_skipped_that_had_its_effect_is_named(state: str) -> None:
    world = World()
    world.rows = [row for row in world.rows if (row["job"], row["scheduled_for"]) != ("job_a", instant(5))]
    world.row("a", 5, state, reason="deadline")
    assert broken(await c.effects_agree_with_rows(world.evidence)) == ("a@5",)


async def test_an_effect_without_any_row_is_named() -> None:
    world = World()
    world.rows = [row for row in world.rows if (row["job"], row["scheduled_for"]) != ("job_a", instant(1))]
    assert broken(await c.effects_agree_with_rows(world.evidence)) == ("a@1",)


@pytest.mark.parametrize("state", ["skipped", "coalesced", "failed"])
async def test_an_instant_that_is_passed_over_without_any_fault_is_named(state: str) -> None:
    world = without_effect("a", 3)
    world.rows = [row for row in world.rows if (row["job"], row["scheduled_for"]) != ("job_a", instant(3))]
    world.row("a", 3, state)
    assert broken(await c.fair_weather_skips_nothing(world.evidence)) == ("a@3",)


@pytest.mark.parametrize(("injected", "healed", "spared"), [(7.0, 8.0, True), (20.0, 21.0, False), (5.0, None, True)])
async def test_what_a_fault_may_have_cost_is_spared(injected: float, healed: float | None, spared: bool) -> None:
    world = without_effect("a", 3)
    world.faults = (FaultRecord("kill", "leader", "node", {}, injected, injected, healed, Receipt(True, "died"), None),)
    finding = await c.fair_weather_skips_nothing(world.evidence)
    assert (finding.status is Status.HELD) is spared


def without_effect(key: str, number: int) -> World:
    world = World()
    named = (f"job_{key}", instant(number).isoformat())
    world.effects = [one for one in world.effects if (one["job"], one["scheduled_for"]) != named]
    return world


async def test_an_effect_before_its_instant_is_named() -> None:
    world = World()
    world.effect("b", 900, late=-1790.0)
    finding = await c.nothing_fired_early(world.evidence)
    assert broken(finding) == ("b@900",)
    assert finding.note == "up to 1790.0 s early"


async def test_an_effect_of_a_deposed_leader_is_named() -> None:
    world = World()
    world.effect("a", 6, epoch=3)
    world.effect("b", 6, epoch=2, applied=False, reason="stale_epoch")
    assert (await c.no_effect_of_a_deposed_leader(world.evidence)).status is Status.HELD
    world.effect("b", 6, epoch=2)
    assert broken(await c.no_effect_of_a_deposed_leader(world.evidence)) == ("b@6",)


async def test_a_program_without_epochs_cannot_be_judged_by_them() -> None:
    world = World()
    for effect in world.effects:
        effect["epoch"] = None
    assert (await c.no_effect_of_a_deposed_leader(world.evidence)).status is Status.NOT_APPLICABLE


def fault(kind: str, at: float, role: str = "leader", **parameters: str) -> FaultRecord:
    receipt = Receipt(True, "it struck")
    return FaultRecord(kind, role, "node-1", parameters, at, at, at + 1, receipt, None)


async def test_a_failover_within_the_lease_and_two_seconds_holds() -> None:
    world = World(faults=(fault("kill", 4.5),))
    gaps = await c.failover_gaps(world.evidence)
    assert [round(gap.seconds, 2) for gap in gaps] == [5.95]
    world.effect("a", 5, at=START + timedelta(seconds=12))
    assert (await c.failover_in_time(world.evidence)).status is Status.HELD


async def test_a_slow_failover_is_named_by_its_fault() -> None:
    world = World(faults=(fault("one_way", 4.5, "leader.store"),))
    world.effects = [one for one in world.effects if one["at"] < START + timedelta(seconds=5)]  # type: ignore[operator]  # a datetime
    assert broken(await c.failover_in_time(world.evidence)) == ("one_way on node-1: 11.9 s",)


@pytest.mark.parametrize(("kind", "role"), [("wrong_clock", "leader"), ("kill", "follower"), ("kill", "sut")])
async def test_a_fault_that_takes_no_leader_away_is_no_failover(kind: str, role: str) -> None:
    assert await c.failover_gaps(World(faults=(fault(kind, 4.5, role),)).evidence) == []


def both_alone() -> World:
    world = World(jobs={"a": "both", "d": "dedup-only", "f": "fencing-only"})
    world.faults = (
        fault("target.holds_request", 2, "target", target="dedup-only"),
        fault("kill_at_failpoint", 6, subject="fencing-only"),
    )
    world.effect("d", 6, epoch=2)
    world.effect("d", 5, epoch=1)
    world.effect("f", 5, epoch=2)
    return world


async def test_each_check_alone_is_seen_to_fail() -> None:
    finding = await c.each_check_alone_fails(both_alone().evidence)
    assert finding.status is Status.HELD
    assert finding.note == "dedup alone: 1 effects of a deposed leader; fencing alone: 1 double effects"


@pytest.mark.parametrize("which", ["dedup-only", "fencing-only"])
async def test_a_check_that_was_not_seen_to_fail_alone_leaves_the_claim_open(which: str) -> None:
    world = both_alone()
    world.effects = [one for one in world.effects if one["target"] != which]
    assert (await c.each_check_alone_fails(world.evidence)).status is Status.UNKNOWN


async def test_without_epochs_nothing_is_said_of_the_checks() -> None:
    world = both_alone()
    for effect in world.effects:
        effect["epoch"] = None
    assert (await c.each_check_alone_fails(world.evidence)).status is Status.NOT_APPLICABLE


async def test_the_probe_tells_how_many_instants_are_open() -> None:
    world = World()
    assert await c.still_open(world.evidence) == "4 of 14 instants have no finished row yet"
    for key in "ab":
        for number in (6, 7):
            world.row(key, number, "skipped")
    assert await c.still_open(world.evidence) == ""
    world.row("a", 7, "waiting")
    assert await c.still_open(world.evidence) == "1 of 14 instants have no finished row yet"


async def test_jobs_are_counted_by_the_operation_that_created_them() -> None:
    names: list[Row] = [{"name": "o1-000001-dedup-only", "jobs": 1}, {"name": "o1-000002-both", "jobs": 2}]
    assert await c.jobs_by_key(ListedEvidence({c.JOB_NAMES: names})) == {"o1-000001": 1, "o1-000002": 2}
