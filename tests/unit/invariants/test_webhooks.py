"""Each invariant of webhooks is seen red on a planted bug, green without it, and silent about what does not apply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from labs.engine.model import (
    EvidenceError,
    FaultRecord,
    Finding,
    Invariant,
    Json,
    Operation,
    Outcome,
    Phase,
    Row,
    Status,
)
from labs.invariants import webhooks as w
from tests.unit.invariants.evidence import ListedEvidence

TYPE = "lab.group3"
RECEIVERS = w.receivers_of(TYPE)
ALL = (
    w.every_event_reaches_every_endpoint,
    w.who_is_well_gets_everything,
    w.delivered_means_received,
    w.nothing_received_unasked,
    w.duplicates_are_explained,
    w.every_signature_verifies,
)


def published(key: str, outcome: Outcome = Outcome.OK, event_type: str = TYPE) -> Operation:
    result = {"message": f"msg_{key}", "event_type": event_type, "way": "api"} if outcome is Outcome.OK else {}
    return Operation(
        id=key, key=key, kind="event", phase=Phase.INJECT, intended_at=0.0, sent_at=0.0, done_at=0.1, attempts=1,
        status=202, outcome=outcome, error=None, result=result,
    )  # fmt: skip


@dataclass
class World:
    """Two events, each taken once by each of its receivers, unless a test spoils it."""

    operations: list[Operation] = field(default_factory=lambda: [published("b"), published("a")])
    received: dict[tuple[str, int], int] = field(default_factory=dict)
    states: dict[tuple[str, int], str] = field(default_factory=dict)
    doubtful: dict[tuple[str, int], int] = field(default_factory=dict)
    silent: dict[tuple[str, int], int] = field(default_factory=dict)
    unsigned: list[tuple[str, int]] = field(default_factory=list)
    signs: bool = True
    keeps_deliveries: bool = True

    def __post_init__(self) -> None:
        for one in self.operations:
            for receiver in RECEIVERS:
                self.received[one.key, receiver] = 1
                self.states[one.key, receiver] = "delivered"

    def evidence(self) -> ListedEvidence:
        seen: list[Row] = [{"event": event, "receiver": receiver} for event, receiver in self.received]
        answers: dict[str, Sequence[Row]] = {
            w.RECEIVED: [
                {"event": event, "receiver": receiver, "times": times}
                for (event, receiver), times in self.received.items()
            ],
            w.SEEN: seen,
            w.SILENT: [
                {"event": event, "receiver": receiver, "times": times}
                for (event, receiver), times in self.silent.items()
            ],
            w.SIGNED: [{"any": self.signs}],
            w.UNSIGNED: [{"event": event, "receiver": receiver} for event, receiver in self.unsigned],
            w.STORED: [{"event_id": one.key} for one in self.operations],
        }
        if self.keeps_deliveries:
            answers |= self._deliveries()
        return ListedEvidence(answers, tuple(self.operations))

    def _deliveries(self) -> Mapping[str, Sequence[Row]]:
        open_states = [state for state in self.states.values() if state in ("scheduled", "in_flight")]
        return {
            "SELECT FROM deliveries LIMIT 0": [],
            w.DELIVERIES: [
                {"event": event, "url": f"http://x/r/{receiver}", "state": state, "dead_reason": None}
                for (event, receiver), state in self.states.items()
            ],
            w.DOUBTFUL: [
                {"event": event, "url": f"http://x/r/{receiver}", "times": times}
                for (event, receiver), times in self.doubtful.items()
            ],
            w.INTERRUPTED: [{"times": 1}],
            w.OPEN: [{"state": state, "times": open_states.count(state)} for state in sorted(set(open_states))],
        }


async def judged(invariant: Invariant, world: World) -> Finding:
    return await invariant(world.evidence())


async def test_all_hold_when_each_event_came_once_to_each_receiver() -> None:
    for invariant in ALL:
        assert (await judged(invariant, World())).status is Status.HELD, invariant.__name__


@pytest.mark.parametrize("state", ["scheduled", "in_flight", "dead"])
async def test_what_was_not_received_and_is_written_down_is_not_lost(state: str) -> None:
    world = World()
    del world.received["a", RECEIVERS[0]]
    world.states["a", RECEIVERS[0]] = state
    assert (await judged(w.every_event_reaches_every_endpoint, world)).status is Status.HELD


@pytest.mark.parametrize(("first", "count", "spared"), [(RECEIVERS[0], 1, True), (RECEIVERS[0] + 1, 1, False)])
async def test_a_dead_letter_is_excused_by_a_fault_of_that_receiver_only(first: int, count: int, spared: bool) -> None:
    world = World()
    del world.received["a", RECEIVERS[0]]
    world.states["a", RECEIVERS[0]] = "dead"
    parameters: dict[str, Json] = {"first": first, "count": count}
    fault = FaultRecord("receivers.dead", "receivers", "sim-receivers", parameters, 0.0, 0.0, 1.0, None, None)
    evidence = world.evidence()
    evidence.faults = (fault,)
    found = await w.who_is_well_gets_everything(evidence)
    assert found.offenders == (() if spared else (f"a -> {RECEIVERS[0]}",))


async def test_what_was_neither_received_nor_written_down_is_lost() -> None:
    world = World()
    for pair in (("a", RECEIVERS[0]), ("b", RECEIVERS[1])):
        del world.received[pair]
        del world.states[pair]
    found = await judged(w.every_event_reaches_every_endpoint, world)
    assert found.status is Status.BROKEN
    assert found.offenders == (f"b -> {RECEIVERS[1]}", f"a -> {RECEIVERS[0]}")


async def test_a_sender_without_deliveries_loses_what_was_not_received() -> None:
    world = World(keeps_deliveries=False)
    del world.received["a", RECEIVERS[0]]
    assert (await judged(w.every_event_reaches_every_endpoint, world)).count == 1


async def test_an_event_that_was_not_acknowledged_may_be_missing() -> None:
    world = World()
    world.operations += [published("c", Outcome.UNKNOWN), published("d", Outcome.FAIL)]
    assert (await judged(w.every_event_reaches_every_endpoint, world)).status is Status.HELD


async def test_a_delivery_that_is_only_called_delivered_is_both_a_lie_and_a_loss() -> None:
    world = World()
    del world.received["a", RECEIVERS[0]]
    for invariant in (w.delivered_means_received, w.every_event_reaches_every_endpoint):
        assert (await judged(invariant, world)).offenders == (f"a -> {RECEIVERS[0]}",)


async def test_an_event_that_nobody_sent_or_wanted_is_noticed() -> None:
    world = World()
    world.received["z", RECEIVERS[0]] = 1
    world.received["a", RECEIVERS[0] + 1] = 1
    found = await judged(w.nothing_received_unasked, world)
    assert found.offenders == (f"a -> {RECEIVERS[0] + 1}", f"z -> {RECEIVERS[0]}")


async def test_an_event_with_an_unknown_ending_may_be_received() -> None:
    world = World()
    world.operations.append(published("c", Outcome.UNKNOWN))
    world.received["c", 17] = 1
    assert (await judged(w.nothing_received_unasked, world)).status is Status.HELD


async def test_an_attempt_that_the_receiver_did_not_take_excuses_no_repeat() -> None:
    pair = ("a", RECEIVERS[0])
    world = World(doubtful={pair: 3}, silent={pair: 3})
    world.received[pair] = 2
    found = await judged(w.duplicates_are_explained, world)
    assert found.offenders == (f"a -> {RECEIVERS[0]}",)


async def test_a_repeat_without_a_doubtful_attempt_is_noticed() -> None:
    world = World(doubtful={("a", RECEIVERS[0]): 1})
    world.received["a", RECEIVERS[0]] = 2
    assert (await judged(w.duplicates_are_explained, world)).status is Status.HELD
    world.received["a", RECEIVERS[0]] = 3
    world.received["b", RECEIVERS[0]] = 2
    found = await judged(w.duplicates_are_explained, world)
    assert found.offenders == (f"b -> {RECEIVERS[0]}", f"a -> {RECEIVERS[0]}")


async def test_a_signature_that_does_not_verify_is_noticed() -> None:
    world = World(unsigned=[("a", RECEIVERS[0])])
    assert (await judged(w.every_signature_verifies, world)).offenders == (f"a -> {RECEIVERS[0]}",)


async def test_who_signs_nothing_is_not_judged_by_signatures() -> None:
    world = World(unsigned=[("a", RECEIVERS[0])], signs=False)
    assert (await judged(w.every_signature_verifies, world)).status is Status.NOT_APPLICABLE


@pytest.mark.parametrize("invariant", [w.delivered_means_received, w.duplicates_are_explained])
async def test_without_deliveries_what_they_say_is_not_judged(invariant: Invariant) -> None:
    from labs.engine.model import NotApplicableError

    with pytest.raises(NotApplicableError):
        await judged(invariant, World(keeps_deliveries=False))


@pytest.mark.parametrize("invariant", ALL)
async def test_a_store_that_cannot_be_read_is_never_a_pass(invariant: Invariant) -> None:
    with pytest.raises(EvidenceError):
        await invariant(ListedEvidence(broken=True, history=(published("a"),)))


async def test_settled_is_when_nothing_waits() -> None:
    world = World()
    assert await w.still_open(world.evidence()) == ""
    world.states["a", RECEIVERS[0]] = "scheduled"
    world.states["a", RECEIVERS[1]] = "in_flight"
    assert await w.still_open(world.evidence()) == "1 in_flight, 1 scheduled"
    assert await w.still_open(World(keeps_deliveries=False).evidence()) == ""


async def test_the_figures_add_up_to_what_was_wanted() -> None:
    world = World(doubtful={("b", RECEIVERS[0]): 2, ("a", RECEIVERS[0]): 5})
    for receiver, state in zip(RECEIVERS, ("dead", "scheduled", "delivered", "in_flight"), strict=False):
        del world.received["a", receiver]
        world.states["a", receiver] = state
    del world.received["a", RECEIVERS[4]]
    del world.states["a", RECEIVERS[4]]
    world.received["b", RECEIVERS[0]] = 2
    counts = await w.count(world.evidence())
    assert (counts.wanted, counts.received, counts.dead, counts.scheduled, counts.lost) == (16, 11, 1, 2, 2)
    assert (counts.duplicates, counts.interrupted, counts.allowed) == (1, 1, 2)
    naive = await w.count(World(keeps_deliveries=False).evidence())
    assert (naive.lost, naive.interrupted, naive.allowed) == (0, None, None)


async def test_events_are_found_by_their_ids() -> None:
    assert await w.events_found(World().evidence()) == {"a": 1, "b": 1}


def test_every_receiver_is_registered_for_one_type_and_every_type_has_its_share() -> None:
    kinds = [w.type_of(number) for number in range(1, w.ENDPOINTS + 1)]
    assert len(set(kinds)) == w.GROUPS
    assert all(len(w.receivers_of(kind)) == w.ENDPOINTS // w.GROUPS for kind in set(kinds))
    assert all(number in w.receivers_of(w.type_of(number)) for number in (1, 17, 125, 1000))
    assert w.receivers_of("payments.payment.captured") == ()
