"""What is on a topic, read by a client of the test's own."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from services.kit import kafka

FIRST_SECONDS = 20

Record = ConsumerRecord[bytes, bytes]


async def everything(bootstrap: str, topic: str, *, partitions: int = 1) -> list[Record]:
    """All records up to the ends of now, in order per partition."""
    all_of_it = [TopicPartition(topic, number) for number in range(partitions)]
    async with kafka.running(AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)) as consumer:
        consumer.assign(all_of_it)
        await consumer.seek_to_beginning(*all_of_it)
        ends = await consumer.end_offsets(all_of_it)
        found: list[Record] = []
        while any([await consumer.position(each) < ends[each] for each in all_of_it]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                found += records
        return found


async def some(bootstrap: str, topic: str, count: int = 1) -> list[Record]:
    """The first records of it, once they are there. Raises TimeoutError."""
    reader = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    async with kafka.running(reader) as consumer, asyncio.timeout(FIRST_SECONDS):
        return [await consumer.getone() for _ in range(count)]
