"""Where the story looks: the running stack, by HTTP, SQL and Kafka, as somebody from outside reaches it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
import asyncpg
import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from infra.runtime import Runtime, RuntimeProblem
from labs.engine.evidence import DATABASE_ERRORS
from services.contracts.topics import Topic
from services.kit import kafka

CALL = aiohttp.ClientTimeout(total=15)
AWAY = (aiohttp.ClientError, TimeoutError, OSError, KafkaError, *DATABASE_ERRORS)
"""What may be over at the next look."""
STARTED = frozenset({"running", "paused", "exited"})
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """Of an HTTP call; `document` is None where the body is no JSON."""

    status: int
    document: Any
    text: str


@dataclass(frozen=True, slots=True)
class Told:
    """A Kafka record's place and headers."""

    partition: int
    offset: int
    headers: Mapping[str, str]


class House(Protocol):
    """A stack that runs."""

    @property
    def prefix(self) -> str:
        """Before names of databases and topics."""

    def url(self, service: str) -> str:
        """Base URL of a service that publishes a port."""

    def variable(self, name: str) -> str:
        """Of the compose file."""

    def store(self) -> tuple[str, int, str]:
        """Postgres: host, port, the superuser's password."""

    def bootstrap(self) -> str:
        """Kafka, for a client outside."""


@dataclass(frozen=True, slots=True)
class LiveHouse:
    """A project of this checkout. Its methods raise RuntimeProblem for what does not run."""

    runtime: Runtime
    prefix: str = ""

    def url(self, service: str) -> str:
        host, port = self.runtime.address(service)
        return f"http://{host}:{port}"

    def variable(self, name: str) -> str:
        return self.runtime.variable(name)

    def store(self) -> tuple[str, int, str]:
        host, port = self.runtime.address("postgres")
        return host, port, self.runtime.variable("POSTGRES_PASSWORD")

    def bootstrap(self) -> str:
        host, port = self.runtime.address("kafka")
        return f"{host}:{port}"


def require_started(runtime: Runtime, wanted: Sequence[str], profile: str) -> None:
    """Raises RuntimeProblem that names the profile to start. What was started and broken since is for the story to find."""
    started = {row.service for row in runtime.status() if row.state in STARTED}
    if missing := [name for name in wanted if name not in started]:
        some = ", ".join(missing[:4]) + (" and others" if len(missing) > 4 else "")
        raise RuntimeProblem(f"The story needs all systems, but {some} did not start: make up profile={profile}")


@dataclass(slots=True)
class Outside:
    """Calls and queries. Each raises what AWAY names where the other side does not answer."""

    house: House
    http: aiohttp.ClientSession

    async def call(
        self,
        method: str,
        service: str,
        path: str,
        *,
        key: str = "",
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """One request; `key` is a bearer token."""
        given = {**({"Authorization": f"Bearer {key}"} if key else {}), **(headers or {})}
        data = None if body is None else msgspec.json.encode(body)
        if data is not None:
            given["Content-Type"] = "application/json"
        url = f"{self.house.url(service)}{path}"
        async with self.http.request(method, url, data=data, headers=given, timeout=CALL) as answer:
            text = (await answer.read()).decode("utf-8", "replace")
        try:
            document = msgspec.json.decode(text)
        except msgspec.DecodeError:
            document = None
        return Reply(answer.status, document, text)

    async def sql(self, database: str, query: str, *arguments: object) -> Sequence[Row]:
        """As the superuser, reading only."""
        host, port, password = self.house.store()
        name = self.house.prefix + database
        db = await asyncpg.connect(
            host=host, port=port, user="postgres", password=password, database=name, timeout=5, command_timeout=10
        )
        try:
            await db.execute("SET default_transaction_read_only = on")
            return [dict(row) for row in await db.fetch(query, *arguments)]
        finally:
            await db.close(timeout=5)

    async def records(self, topic: Topic, key: str, since_ms: int) -> list[Told]:
        """Those under a key since a time (Unix milliseconds)."""
        reader = AIOKafkaConsumer(
            bootstrap_servers=self.house.bootstrap(), enable_auto_commit=False, isolation_level="read_committed"
        )
        await kafka.start(reader)
        try:
            places = [TopicPartition(self.house.prefix + topic.name, number) for number in range(topic.partitions)]
            return await _since(reader, places, key.encode(), since_ms)
        finally:
            await kafka.stop(reader)


async def _since(reader: AIOKafkaConsumer, places: list[TopicPartition], key: bytes, since_ms: int) -> list[Told]:
    reader.assign(places)
    ends = await reader.end_offsets(places)
    begins = await reader.offsets_for_times(dict.fromkeys(places, since_ms))
    for place in places:
        reader.seek(place, ends[place] if begins[place] is None else begins[place].offset)
    found: list[Told] = []
    while any([await reader.position(place) < end for place, end in ends.items()]):
        for place, records in (await reader.getmany(timeout_ms=200)).items():
            for record in records:
                if record.key == key:
                    names = [name for name, _ in record.headers]
                    headers = {name: kafka.header(record.headers, name) or "" for name in names}
                    found.append(Told(place.partition, record.offset, headers))
    return found
