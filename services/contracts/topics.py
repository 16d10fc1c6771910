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
    """`retention_hours` bounds the log; `producers` and `consumers` are process names.

    Of a `compacted` topic the last record of each key stays for good, and a tombstone for `retention_hours`.
    """

    name: str
    partitions: int
    producers: tuple[str, ...]
    consumers: tuple[str, ...] = ()
    retention_hours: int = 24
    compacted: bool = False
    largest_bytes: int | None = None
    """Of one record; None for the broker's own bound of 1 MiB."""

    def configuration(self) -> dict[str, str]:
        """As the broker takes it."""
        kept = str(self.retention_hours * 3_600_000)
        size = {} if self.largest_bytes is None else {"max.message.bytes": str(self.largest_bytes)}
        if not self.compacted:
            return {"retention.ms": kept, **size}
        return {"cleanup.policy": "compact", "delete.retention.ms": kept, "segment.bytes": str(64 << 20), **size}


LETTER_BYTES = 2 << 20
"""A dead letter is the largest record there is with its reason beside it: what cannot be parked stops its reader for good."""

PAYMENT_EVENTS = Topic(
    "payments.payment.v1", 6, producers=("payments-relay",), consumers=("webhooks-source", "catalog-sales")
)
WEBHOOKS_OPERATIONAL = Topic("webhooks.operational.v1", 3, producers=("webhooks-keeper",))
WEBHOOKS_SOURCE_DLQ = Topic(
    "webhooks.source.dlq", 1, producers=("webhooks-source",), retention_hours=14 * 24, largest_bytes=LETTER_BYTES
)

CRON_RUNS = Topic("cron.run.v1", 6, producers=("cron-scheduler",))
"""For jobs whose target is Kafka: the body is the job's own, the headers say which run it is."""

CRON_RECONCILIATIONS = Topic(
    "cron.reconciliation.v1", 1, producers=("cron-scheduler",), consumers=("payments-reconciler",)
)
"""A job that writes here has payments compared with the bank at once."""
PAYMENTS_RECONCILIATIONS_DLQ = Topic(
    "payments.reconciliation.dlq",
    1,
    producers=("payments-reconciler",),
    retention_hours=14 * 24,
    largest_bytes=LETTER_BYTES,
)

CATALOG_SALES_DLQ = Topic(
    "catalog.sales.dlq", 1, producers=("catalog-sales",), retention_hours=14 * 24, largest_bytes=LETTER_BYTES
)
CATALOG_PRODUCT_CHANGES = Topic(
    "catalog.product-changes.v1",
    6,
    producers=("connect",),
    consumers=("search-indexer",),
    retention_hours=7 * 24,
    compacted=True,
)
"""Compacted: a reader that is late, or new, still meets every product once, however large a snapshot was."""
CATALOG_REFERENCE_CHANGES = Topic(
    "catalog.reference-changes.v1", 1, producers=("connect",), consumers=("search-indexer",), retention_hours=7 * 24
)
"""Brands and categories. The key is the row's id; `source.table` says of which table."""
CATALOG_PRODUCT_CHANGES_DLQ = Topic(
    "catalog.product-changes.v1.dlq",
    1,
    producers=("search-indexer",),
    retention_hours=14 * 24,
    largest_bytes=LETTER_BYTES,
)
CATALOG_REFERENCE_CHANGES_DLQ = Topic(
    "catalog.reference-changes.v1.dlq",
    1,
    producers=("search-indexer",),
    retention_hours=14 * 24,
    largest_bytes=LETTER_BYTES,
)
CATALOG_CDC_HEARTBEAT = Topic("catalog.cdc-heartbeat.v1", 1, producers=("connect",), retention_hours=1)
"""Connect writes down how far it is with each record; in an idle database these are the only ones."""

SEARCH_CLICKS = Topic(
    "search.click.v1", 6, producers=("search-api",), consumers=("search-api",), retention_hours=30 * 24
)
"""Every process of the API reads all of it, to know what people like."""

TOPICS: tuple[Topic, ...] = (
    PAYMENT_EVENTS,
    WEBHOOKS_OPERATIONAL,
    WEBHOOKS_SOURCE_DLQ,
    CRON_RUNS,
    CRON_RECONCILIATIONS,
    PAYMENTS_RECONCILIATIONS_DLQ,
    CATALOG_SALES_DLQ,
    CATALOG_PRODUCT_CHANGES,
    CATALOG_REFERENCE_CHANGES,
    CATALOG_PRODUCT_CHANGES_DLQ,
    CATALOG_REFERENCE_CHANGES_DLQ,
    CATALOG_CDC_HEARTBEAT,
    SEARCH_CLICKS,
)

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
            NewTopic(prefix + topic.name, topic.partitions, 1, topic_configs=topic.configuration()) for topic in TOPICS
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
