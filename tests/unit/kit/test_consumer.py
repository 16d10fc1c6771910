"""A batch that takes long keeps its partitions, and nothing that arrives meanwhile is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from services.kit.consumer import Reading, Record, TopicConsumer
from services.kit.kafka import dead_letter
from services.patterns.dlq import DeadLetter, Unprocessable
from tests.stack import until
from tests.unit.search.test_indexer import record

OURS, NEW = TopicPartition("t", 0), TopicPartition("t", 1)


class Consumer:
    """Says what was done with it; brings `arrives` at the first poll of a pause, as a rebalance may."""

    def __init__(self, arrives: dict[TopicPartition, list[Record]] | None = None) -> None:
        self.assigned = {OURS}
        self.paused: set[TopicPartition] = set()
        self.sought: list[tuple[TopicPartition, int]] = []
        self.polls = 0
        self.arrives = arrives or {}

    def assignment(self) -> set[TopicPartition]:
        return set(self.assigned)

    def pause(self, *partitions: TopicPartition) -> None:
        self.paused |= set(partitions)

    def resume(self, *partitions: TopicPartition) -> None:
        assert set(partitions) <= self.assigned
        self.paused -= set(partitions)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.sought.append((partition, offset))

    async def getmany(self, *, timeout_ms: int) -> dict[TopicPartition, list[Record]]:
        self.polls += 1
        arrived, self.arrives = self.arrives, {}
        self.assigned |= set(arrived)
        return arrived


async def nothing(_: Sequence[Record]) -> list[DeadLetter]:
    return []


async def held(consumer: Consumer, work: Any) -> list[DeadLetter]:
    reading = Reading("consumer", "", "t", "t.dlq", "g", batch=10, hold=0.001)
    return await TopicConsumer(reading, nothing)._held(cast("AIOKafkaConsumer", consumer), work)


async def polled(consumer: Consumer, times: int) -> None:
    async def enough() -> bool:
        return consumer.polls >= times

    await until(enough, what=f"{times} polls")


async def test_work_that_is_quick_pauses_nothing() -> None:
    consumer = Consumer()
    assert await held(consumer, nothing([])) == []
    assert (consumer.polls, consumer.paused) == (0, set())


async def test_while_work_takes_long_the_consumer_is_paused_and_polls() -> None:
    consumer, over = Consumer(), asyncio.Event()

    async def long() -> list[DeadLetter]:
        await over.wait()
        assert consumer.paused == {OURS}
        return []

    waiting = asyncio.create_task(held(consumer, long()))
    await polled(consumer, 3)
    over.set()
    await waiting
    assert consumer.paused == set()


async def test_what_a_rebalance_brings_during_a_pause_is_put_back_to_be_read_again() -> None:
    consumer, over = Consumer({NEW: [record(b"k", b"v", 41), record(b"k", b"v", 42)]}), asyncio.Event()

    async def long() -> list[DeadLetter]:
        await over.wait()
        return []

    waiting = asyncio.create_task(held(consumer, long()))
    await polled(consumer, 2)
    consumer.assigned.discard(OURS)
    over.set()
    await waiting
    assert consumer.sought == [(NEW, 41)]
    assert consumer.paused == {OURS}, "a partition that is another's by now is not resumed"


async def test_work_that_fails_or_is_cut_leaves_nothing_paused_and_nothing_running() -> None:
    consumer = Consumer()

    async def fails() -> list[DeadLetter]:
        await asyncio.sleep(0.01)
        raise KeyError

    with pytest.raises(KeyError):
        await held(consumer, fails())
    assert consumer.paused == set()

    consumer, ended = Consumer(), asyncio.Event()

    async def endless() -> list[DeadLetter]:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()
        return []

    waiting = asyncio.create_task(held(consumer, endless()))
    await polled(consumer, 1)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert ended.is_set()
    assert consumer.paused == set()


def test_a_dead_letter_is_the_record_as_it_came_with_its_place_and_cause() -> None:
    made = dead_letter(record(b"\xff", None, 7), Unprocessable("malformed_key", "No id."))
    assert (made.key, made.value, made.offset, made.reason) == (b"\xff", None, 7, "malformed_key")
    assert ("dlq_offset", b"7") in made.parked_headers()
