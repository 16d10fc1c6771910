"""How large everything is that could grow: tables, topics, the log that a replication slot holds back, log files."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from infra.native.layout import Layout
from infra.runtime import Runtime
from labs.engine.evidence import Stores
from labs.engine.model import Evidence, EvidenceError, Row

DATABASES = ("payments", "bank", "webhooks", "receivers", "cron", "target", "catalog", "search")
TOPICS_SECONDS = 30.0
CONFIGURATIONS = ("cleanup.policy", "retention.ms", "retention.bytes")

# Exact counts: a table that only grows by mistakes is small, and statistics are late.
TABLES = """
SELECT c.relname AS name, pg_total_relation_size(c.oid) AS bytes,
       (xpath('/row/n/text()', query_to_xml(format('SELECT count(*) AS n FROM %I.%I', n.nspname, c.relname), false, true, '')))[1]
           ::text::bigint AS rows
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname = 'public' ORDER BY c.relname
"""
SLOTS = """
SELECT slot_name::text AS name, coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint AS bytes
FROM pg_replication_slots WHERE database = current_database()
"""


class Table(msgspec.Struct, frozen=True):
    """Rows, and bytes with indexes and dead rows."""

    rows: int
    bytes: int


class Topic(msgspec.Struct, frozen=True):
    """`written` counts offsets since its creation, `kept` those that are still there. `bound` is what its configuration says."""

    written: int
    kept: int
    bound: str


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """At one moment, `at` seconds from the start of the run. Tables are called `database.table`; log files are bytes.

    `logs` is None where the runtime keeps them elsewhere (Docker).
    """

    at: float
    tables: dict[str, Table]
    topics: dict[str, Topic]
    slots: dict[str, int]
    logs: dict[str, int] | None


def bound_of(configuration: Mapping[str, str]) -> str:
    """In words; "" for a topic that keeps everything for good."""
    found = []
    if "compact" in configuration.get("cleanup.policy", ""):
        found.append("compacted")
    if "delete" in configuration.get("cleanup.policy", "delete"):
        if (kept := int(configuration.get("retention.ms", "-1"))) >= 0:
            found.append(f"{kept / 3_600_000:g} h")
        if (size := int(configuration.get("retention.bytes", "-1"))) >= 0:
            found.append(f"{size >> 20} MiB a partition")
    return ", ".join(found)


async def tables_of(evidence: Evidence, databases: Sequence[str] = DATABASES) -> dict[str, Table]:
    """All tables of all databases. Raises EvidenceError, NotApplicableError."""
    found = {}
    for database in databases:
        for row in await evidence.sql(database, TABLES):
            found[f"{database}.{row['name']}"] = Table(_number(row, "rows"), _number(row, "bytes"))
    return found


async def slots_of(evidence: Evidence) -> dict[str, int]:
    """Bytes of the write-ahead log that each replication slot keeps from being deleted."""
    return {str(row["name"]): _number(row, "bytes") for row in await evidence.sql("catalog", SLOTS)}


def _number(row: Row, name: str) -> int:
    value = row[name]
    if not isinstance(value, int):
        raise EvidenceError(f"{name} is {type(value).__name__}, not a number")
    return value


async def topics_of(stores: Stores, prefix: str) -> dict[str, Topic]:
    """By name without the prefix. Raises EvidenceError."""
    admin = AIOKafkaAdminClient(bootstrap_servers=stores.bootstrap, request_timeout_ms=10_000)
    consumer = AIOKafkaConsumer(bootstrap_servers=stores.bootstrap, group_id=None, enable_auto_commit=False)
    try:
        async with asyncio.timeout(TOPICS_SECONDS):
            await admin.start()
            await consumer.start()
            names = sorted(name for name in await admin.list_topics() if name.startswith(prefix))
            bounds = await _bounds(admin, names)
            partitions = [
                TopicPartition(one["topic"], part["partition"])
                for one in await admin.describe_topics(names)
                for part in one["partitions"]
            ]
            first = await consumer.beginning_offsets(partitions)
            last = await consumer.end_offsets(partitions)
    except (KafkaError, OSError, TimeoutError) as error:
        raise EvidenceError(f"the topics could not be measured: {type(error).__name__} {error}".rstrip()) from error
    finally:
        await consumer.stop()
        await admin.close()
    return {
        name.removeprefix(prefix): Topic(
            sum(end for one, end in last.items() if one.topic == name),
            sum(end - first[one] for one, end in last.items() if one.topic == name),
            bounds.get(name, ""),
        )
        for name in names
    }


async def _bounds(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, str]:
    wanted = dict.fromkeys(CONFIGURATIONS)
    answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name, wanted) for name in names])
    found = {}
    for answer in answers:
        for topic in answer.to_object()["resources"]:
            values = {one["config_names"]: one["config_value"] for one in topic["config_entries"]}
            found[topic["resource_name"]] = bound_of(
                {name: value for name, value in values.items() if value is not None}
            )
    return found


def logs_of(runtime: Runtime, root: Path) -> dict[str, int] | None:
    """Bytes of each process's log file. None with Docker, whose engine keeps them."""
    if runtime.name != "native":
        return None
    layout = Layout(root, root / ".lab", runtime.project)
    found = {}
    for row in runtime.status():
        log = layout.log(row.service)
        if log.exists():
            found[row.service] = log.stat().st_size
    return found


async def measured(
    evidence: Evidence, stores: Stores, runtime: Runtime, root: Path, *, prefix: str, at: float
) -> Sizes:
    """Everything now. Raises EvidenceError, NotApplicableError, RuntimeProblem."""
    return Sizes(
        at=round(at, 1),
        tables=await tables_of(evidence),
        topics=await topics_of(stores, prefix),
        slots=await slots_of(evidence),
        logs=await asyncio.to_thread(logs_of, runtime, root),
    )
