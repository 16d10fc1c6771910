"""The one table of topics: who produces, who consumes, how many partitions. `python -m services.contracts.topics create`."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaConnectionError, KafkaError, NodeNotReadyError, for_code


@dataclass(frozen=True, slots=True)
class Topic:
    """`retention_hours` bounds the log; `producers` and `consumers` are process names."""

    name: str
    partitions: int
    producers: tuple[str, ...]
    consumers: tuple[str, ...] = ()
    retention_hours: int = 24


PAYMENT_EVENTS = Topic("payments.payment.v1", 6, producers=("payments-relay",))

TOPICS: tuple[Topic, ...] = (PAYMENT_EVENTS,)

ALREADY_EXISTS = 36


async def create(bootstrap: str, prefix: str, *, wait_seconds: float = 30.0) -> list[str]:
    """Create what is missing, with `prefix` before each name; return the names. Raises KafkaError."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, client_id="kafka-topics")
    deadline = asyncio.get_running_loop().time() + wait_seconds
    while True:
        try:
            await admin.start()
            break
        except (KafkaConnectionError, NodeNotReadyError):
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.2)
    try:
        wanted = [
            NewTopic(
                prefix + topic.name,
                topic.partitions,
                1,
                topic_configs={"retention.ms": str(topic.retention_hours * 3_600_000)},
            )
            for topic in TOPICS
        ]
        answer: Any = await admin.create_topics(wanted)
        for name, code, *_ in answer.topic_errors:
            if code not in (0, ALREADY_EXISTS):
                raise for_code(code)(name)
    finally:
        await admin.close()
    return [topic.name for topic in wanted]


def main() -> int:
    if sys.argv[1:] != ["create"]:
        sys.stderr.write("usage: python -m services.contracts.topics create\n")
        return 2
    try:
        names = asyncio.run(create(os.environ["KAFKA_BOOTSTRAP"], os.environ.get("LAB_PREFIX", "")))
    except KafkaError as error:
        sys.stderr.write(f"Topics were not created: {error}\n")
        return 1
    sys.stdout.write("topics: " + ", ".join(names) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
