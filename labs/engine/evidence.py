"""Evidence from the real stores of one variant: Postgres, Kafka, Prometheus. Read-only."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus

import aiohttp
import asyncpg
import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from labs.engine.clock import RunClock
from labs.engine.model import (
    SEARCH_ENGINE,
    EvidenceError,
    FaultRecord,
    Json,
    NotApplicableError,
    Operation,
    Row,
    TopicRecord,
    Variant,
)

SQL_SECONDS = 30.0
TOPIC_SECONDS = 30.0
ENGINE_CALL = aiohttp.ClientTimeout(total=10)
DATABASE_ERRORS = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""As in services/kit/postgres.py: the engine shares no code with what it judges."""
LACKS = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError, asyncpg.InvalidCatalogNameError)


@dataclass(frozen=True, slots=True)
class Stores:
    """Where the infrastructure of this project listens."""

    postgres: tuple[str, int]
    postgres_password: str
    kafka: tuple[str, int]
    prometheus: tuple[str, int]
    engine_at: Callable[[str], tuple[str, int]] | None = None

    async def connect(self, database: str) -> asyncpg.Connection:
        """A connection as the superuser. Raises asyncpg.PostgresError, OSError, TimeoutError."""
        host, port = self.postgres
        return await asyncpg.connect(
            host=host, port=port, user="postgres", password=self.postgres_password, database=database, timeout=5
        )

    @property
    def bootstrap(self) -> str:
        """For Kafka clients; not through a proxy."""
        return f"{self.kafka[0]}:{self.kafka[1]}"


class _Sample(msgspec.Struct):
    value: tuple[float, str]


class _Vector(msgspec.Struct):
    result: list[_Sample]


class _Answer(msgspec.Struct):
    data: _Vector


@dataclass(frozen=True, slots=True)
class StoreEvidence:
    """`Evidence` of one variant in one scenario; see labs.engine.model.Evidence for what each method promises."""

    scenario: str
    variant_name: str
    variant: Variant
    history: tuple[Operation, ...]
    faults: tuple[FaultRecord, ...]
    prefix: str
    stores: Stores
    clock: RunClock
    session: aiohttp.ClientSession
    window: tuple[float, float] = (0.0, math.inf)

    def since_start(self, moment: datetime) -> float:
        """Seconds from the start of the run."""
        return self.clock.from_wall(moment)

    def moment(self, at: float) -> datetime:
        """The wall-clock time of a second of the run."""
        return self.clock.wall_of(at)

    async def sql(self, database: str, query: str, *args: object) -> Sequence[Row]:
        """One connection a query: a store that was killed a moment ago leaves no stale one."""
        try:
            connection = await self.stores.connect(self.prefix + database)
            try:
                await connection.execute("SET default_transaction_read_only = on")
                return await connection.fetch(query, *args, timeout=SQL_SECONDS)
            finally:
                await connection.close(timeout=5)
        except LACKS as error:
            raise NotApplicableError(f"{self.variant_name} has no such thing: {error}") from error
        except DATABASE_ERRORS as error:
            raise EvidenceError(f"{database} could not be read: {type(error).__name__} {error}".rstrip()) from error

    async def topic(self, name: str) -> tuple[TopicRecord, ...]:
        """Read with read_committed, so that aborted transactions stay out of sight."""
        partitions = await self._partitions(name)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.stores.bootstrap,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
        )
        try:
            async with asyncio.timeout(TOPIC_SECONDS):
                await consumer.start()
                return await self._read_partitions(consumer, partitions, name)
        except (KafkaError, OSError, TimeoutError) as error:
            raise EvidenceError(f"topic {name} could not be read: {type(error).__name__} {error}".rstrip()) from error
        finally:
            await consumer.stop()

    async def _partitions(self, name: str) -> list[TopicPartition]:
        full = self.prefix + name
        admin = AIOKafkaAdminClient(bootstrap_servers=self.stores.bootstrap, request_timeout_ms=10_000)
        try:
            await admin.start()
            if full not in await admin.list_topics():
                raise NotApplicableError(f"{self.variant_name} has no topic {name}")
            (described,) = await admin.describe_topics([full])
        except (KafkaError, OSError) as error:
            raise EvidenceError(f"topic {name} could not be read: {type(error).__name__} {error}".rstrip()) from error
        finally:
            await admin.close()
        return [TopicPartition(full, number) for number in sorted(p["partition"] for p in described["partitions"])]

    async def _read_partitions(
        self, consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition], name: str
    ) -> tuple[TopicRecord, ...]:
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        await consumer.seek_to_beginning(*partitions)
        found: list[TopicRecord] = []
        while any([await consumer.position(partition) < end for partition, end in ends.items()]):
            batches = await consumer.getmany(timeout_ms=200)
            for partition, records in batches.items():
                found += [self._record(name, r) for r in records if r.offset < ends[partition]]
        return tuple(sorted(found, key=lambda r: (r.partition, r.offset)))

    def _record(self, name: str, record: ConsumerRecord[bytes, bytes]) -> TopicRecord:
        return TopicRecord(
            topic=name,
            partition=record.partition,
            offset=record.offset,
            key=None if record.key is None else record.key.decode(errors="replace"),
            headers={key: value.decode(errors="replace") for key, value in record.headers},
            value=record.value or b"",
            at=self.clock.from_wall(datetime.fromtimestamp(record.timestamp / 1000, tz=self.clock.wall.tzinfo)),
        )

    async def metric(self, promql: str) -> float | None:
        """The first series of an instant query."""
        host, port = self.stores.prometheus
        url = f"http://{host}:{port}/api/v1/query"
        parameters: Mapping[str, str] = {"query": promql}
        try:
            async with self.session.get(url, params=parameters, timeout=aiohttp.ClientTimeout(total=10)) as answer:
                answer.raise_for_status()
                found = msgspec.json.decode(await answer.read(), type=_Answer)
        except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError) as error:
            raise EvidenceError(f"Prometheus did not answer {promql}: {error}") from error
        return float(found.data.result[0].value[1]) if found.data.result else None

    async def engine(
        self, path: str, body: Mapping[str, Json] | None = None, *, nodes: Sequence[str] = (SEARCH_ENGINE,)
    ) -> Json:
        """The first node that answers; see the Protocol."""
        silent = []
        for node in nodes:
            try:
                return await self._asked(node, path.replace("{prefix}", self.prefix), body)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                silent.append(f"{node}: {type(error).__name__}")
        raise EvidenceError(f"no search engine answered {path}: {', '.join(silent)}")

    async def _asked(self, node: str, path: str, body: Mapping[str, Json] | None) -> Json:
        assert self.stores.engine_at is not None, "these stores have no search engine"
        host, port = self.stores.engine_at(node)
        data = None if body is None else msgspec.json.encode(body)
        headers = {"Content-Type": "application/json"}
        method = "GET" if body is None else "POST"
        async with self.session.request(
            method, f"http://{host}:{port}/{path}", data=data, headers=headers, timeout=ENGINE_CALL
        ) as answer:
            text = await answer.read()
        if answer.status == HTTPStatus.NOT_FOUND:
            raise NotApplicableError(f"{self.variant_name} has no {path} in the search engine")
        if answer.status >= HTTPStatus.BAD_REQUEST:
            raise EvidenceError(f"the search engine refused {path} with {answer.status}: {text[:200]!r}")
        found: Json = msgspec.json.decode(text)
        return found
