"""The click log takes what it can without waiting, sends it at least once, and says what it dropped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from uuid import UUID

import msgspec
import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.structs import OffsetAndTimestamp

from services.contracts.search import Click
from services.kit import ids
from services.kit.kafka import Headers, header
from services.patterns.backoff import Backoff
from services.search.clicks import BATCH, ClickLog, Place, Seen
from services.search.ranking import Experiment, Kind
from services.search.ranking.experiment import Arm
from services.search.ranking.personal import NOBODY
from services.search.taste import EVENTS_OF_ONE, Tastes, begin

NOW = datetime(2026, 3, 1, tzinfo=UTC)
KNOWN = Place(7, "home/lighting/lamps")


def seen(number: int, person: str = "ann") -> Seen:
    return Seen(UUID(int=number), person, Kind.CLICK, UUID(int=1000 + number), NOW, query="lamp", position=1)


@dataclass
class Broker:
    """Refuses the first `refusals` records."""

    refusals: int = 0
    sent: list[tuple[str, Click, str]] = field(default_factory=list)
    stuck: asyncio.Event | None = None

    async def ready(self) -> None:
        if self.stuck is not None:
            await self.stuck.wait()

    async def send_and_wait(self, topic: str, value: bytes, *, key: bytes | None, headers: Headers) -> object:
        if self.refusals:
            self.refusals -= 1
            raise KafkaConnectionError
        identity = header(headers, "ce_id")
        assert identity is not None
        assert key is not None
        click = msgspec.json.decode(value, type=Click)
        assert key.decode() == click.person
        self.sent.append((topic, click, identity))
        return None


async def places(products: Sequence[UUID]) -> Mapping[UUID, Place]:
    return {each: KNOWN for each in products if each.int != 1002}


@asynccontextmanager
async def running(broker: Broker, most: int = 1000) -> AsyncIterator[ClickLog]:
    log = ClickLog(broker, places, "lab_", most, Backoff(0.001, 0.001), Random(1))
    loop = asyncio.create_task(log.run())
    try:
        yield log
    finally:
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)


async def test_what_was_clicked_is_sent_with_its_place_and_in_the_persons_order() -> None:
    broker = Broker()
    async with running(broker) as log:
        assert log.offer([seen(1), seen(2)]) == 2
        assert await log.drain(10) == 0
    assert [(topic, click.brand_id, click.category) for topic, click, _ in broker.sent] == [
        ("lab_search.click.v1", 7, "home/lighting/lamps"),
        ("lab_search.click.v1", None, None),
    ]
    assert broker.sent[0][1].product == ids.encode("prd", UUID(int=1001))


async def test_more_than_a_batch_goes_in_several() -> None:
    broker = Broker()
    async with running(broker) as log:
        log.offer([seen(number) for number in range(BATCH * 2 + 5)])
        assert await log.drain(10) == 0
    assert [UUID(identity).int for _, _, identity in broker.sent] == list(range(BATCH * 2 + 5))


async def test_a_broker_that_is_away_gets_the_same_events_later() -> None:
    broker = Broker(refusals=3)
    async with running(broker) as log:
        log.offer([seen(1), seen(2)])
        assert await log.drain(10) == 0
    assert {identity for _, _, identity in broker.sent} == {str(UUID(int=1)), str(UUID(int=2))}


async def test_a_full_buffer_drops_the_newest_at_once_and_counts_them() -> None:
    broker = Broker(stuck=asyncio.Event())
    async with running(broker, most=3) as log:
        assert log.offer([seen(1), seen(2)]) == 2
        assert log.offer([seen(3), seen(4), seen(5)]) == 1
        assert log.offer([seen(6)]) == 0
        assert await log.drain(0.01) == 3
        assert broker.stuck is not None
        broker.stuck.set()
        assert await log.drain(10) == 0
    assert [UUID(identity).int for _, _, identity in broker.sent] == [1, 2, 3]


# --- taste --------------------------------------------------------------------------------------------------------------


def click(person: str = "ann", brand: int | None = 7, at: datetime = NOW) -> Click:
    return Click(person, "purchase", "prd_x", at, brand, "home/lighting/lamps" if brand else None)


def tastes(most: int = 100, experiment: Experiment | None = None) -> Tastes:
    return Tastes(most, lambda: NOW, experiment)


def test_who_bought_something_likes_its_brand_and_category() -> None:
    known = tastes()
    known.note("1", click())
    assert dict(known.affinity("ann").brands) == {7: 0.5}
    assert known.affinity("bob") == NOBODY


def test_an_event_that_comes_twice_counts_once() -> None:
    once, twice = tastes(), tastes()
    for known, times in ((once, 1), (twice, 3)):
        for _ in range(times):
            known.note("1", click())
    assert once.affinity("ann") == twice.affinity("ann")


def test_only_so_many_people_and_events_are_kept_and_the_silent_go_first() -> None:
    known = tastes(most=2)
    for number, person in enumerate(["ann", "bob", "ann", "cid"]):
        known.note(str(number), click(person))
    assert known.affinity("bob") == NOBODY
    assert known.affinity("ann") != NOBODY
    for number in range(EVENTS_OF_ONE):
        known.note(f"more {number}", click("ann", brand=8))
    assert dict(known.affinity("ann").brands).keys() == {8}


def test_what_cannot_be_read_says_nothing() -> None:
    known = tastes()
    for value in (None, b"", b"{}", b"\xff", b'{"person": 1}', b"[]", b'{"x":' + b"[" * 100_000):
        known.read("1", value)
    known.read(None, msgspec.json.encode(click()))
    known.read("2", msgspec.json.encode(click(at=datetime(2026, 3, 1))))  # noqa: DTZ001
    known.read("3", msgspec.json.encode(click(brand=None)))
    known.read("3", msgspec.json.encode(click(brand=2**31)))
    known.read("3", msgspec.json.encode(click("a" * 65)))
    assert known.affinity("ann") == NOBODY
    known.read("4", msgspec.json.encode(click()))
    assert known.affinity("ann") != NOBODY


def test_an_experiment_decides_who_sees_what() -> None:
    split = Experiment("autumn", (Arm("bm25", 1), Arm("boosted", 1)))
    assert tastes().ranking("ann") is None
    assert tastes(experiment=split).ranking("ann") == split.arm("ann")


@dataclass
class Log:
    """A consumer of one partition, in which a record arrives between any two questions."""

    end: int
    first_since: int | None
    position: int | None = None

    def assignment(self) -> set[TopicPartition]:
        return {TopicPartition("clicks", 0)} if self.end >= 0 else set()

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        self.end += 1
        return dict.fromkeys(partitions, self.end - 1)

    async def offsets_for_times(
        self, times: Mapping[TopicPartition, int]
    ) -> Mapping[TopicPartition, OffsetAndTimestamp | None]:
        self.end += 1
        found = None if self.first_since is None else OffsetAndTimestamp(self.first_since, 0)
        return dict.fromkeys(times, found)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.position = offset


@pytest.mark.parametrize(("first", "position"), [(None, 5), (2, 2)])
async def test_what_is_written_while_a_process_looks_where_to_begin_is_read(first: int | None, position: int) -> None:
    log = Log(end=5, first_since=first)
    await begin(log, NOW)  # type: ignore[arg-type]  # as much of a consumer as is needed
    assert log.position == position


async def test_a_topic_that_is_not_there_is_no_empty_one() -> None:
    with pytest.raises(KafkaError, match="no such topic"):
        await begin(Log(end=-1, first_since=None), NOW)  # type: ignore[arg-type]
