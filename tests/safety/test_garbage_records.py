"""Garbage on every topic that somebody reads: set aside with a reason, nothing waits for it, and the next good record is handled.

The topics and their readers are those of services/contracts/topics.py; one that is not in READERS fails.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast
from uuid import UUID

import msgspec
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from services.contracts import topics
from services.contracts.payments import PaymentEvent
from services.contracts.search import CLICK_EVENT, Click
from services.kit import ids, kafka
from tests.integration.catalog.stack import Stack as CatalogStack
from tests.integration.payments.stack import Stack as PaymentsStack
from tests.integration.search.stack import Stack as SearchStack
from tests.integration.search.stack import some
from tests.integration.webhooks.stack import Stack as WebhooksStack
from tests.records import everything
from tests.servers import KafkaServer, PostgresServer
from tests.stack import Process, ServiceStack, until

pytestmark = pytest.mark.integration

PATIENCE = 120.0
Headers = tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True)
class Sent:
    """A record as it is sent."""

    key: bytes | None
    value: bytes | None
    headers: Headers = ()


def junk() -> list[bytes]:
    """Bodies that are no event of anybody's."""
    noise = random.Random(7).randbytes(4096)
    return [
        b"",
        b"\x00",
        b"\xff\xfe\xfd",
        noise,
        b"null",
        b"1",
        b'"text"',
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"x":' + b"[" * 100_000,
        b'{"x":' + b'{"a":' * 50_000,
        b'{"x": NaN}',
        b'{"x": "\\ud800"}',
        b"\xef\xbb\xbf{}",
        b"x" * 500_000,
        b"\x00\x00\x00\x00\x01" + noise[:50],
    ]


WRONG: tuple[Any, ...] = (
    None,
    1,
    -1,
    2**31,
    2**63,
    10**40,
    1.5,
    True,
    "",
    "\x00",
    "x" * 70_000,
    [],
    {},
    "9999-12-31T23:59:59Z",
)


IDS: tuple[Any, ...] = (None, 0, -1, 2**31, 2**63, "4", True, [], {})
"""Which no row has."""
LARGEST_BATCH = 1_048_588
"""What a broker takes, unless it is told otherwise."""


def largest(key: bytes | None, headers: Headers) -> Sent:
    """As large as may be sent: with the reason beside it, it is larger."""
    heads = sum(len(name) + len(value or b"") + 6 for name, value in headers)
    return Sent(key, b"x" * (LARGEST_BATCH - 61 - 40 - len(key or b"") - heads), headers)


def spoiled(good: dict[str, Any]) -> list[bytes]:
    """The good body with each field left out, and with every wrong value in turn. Some of it may still make sense."""
    found = []
    for name in good:
        found.append({key: value for key, value in good.items() if key != name})
        found += [{**good, name: value} for value in WRONG]
    return [msgspec.json.encode(each) for each in found]


HEADS: tuple[Headers, ...] = (
    (),
    (("ce_id", None), ("ce_type", None)),
    (("ce_id", b"\xff\xfe"), ("ce_type", b"\xff")),
    (("ce_id", b"x" * 50_000), ("ce_type", b"y" * 50_000)),
    (("ce_id", b"a\x00b"), ("ce_type", b"a\x00b")),
    (("", b""), ("ce_time", b"never"), ("traceparent", b"\xff" * 55), ("expirytime", b"yesterday")),
)
"""Instead of a CloudEvent's."""


class Reader(Protocol):
    """One process that reads one topic."""

    topic: ClassVar[topics.Topic]
    consumer: ClassVar[str]

    @property
    def stack(self) -> ServiceStack: ...

    async def start(self) -> Process:
        """With all that it needs."""

    def garbage(self) -> Iterable[Sent]:
        """What must be set aside, every record of it."""

    def odd(self) -> Iterable[Sent]:
        """What may make sense, and must stop nothing."""

    async def good(self, number: int) -> Sent:
        """A record whose effect can be seen."""

    async def handled(self, number: int) -> bool:
        """Whether it is."""

    async def reasons(self) -> list[str]:
        """Why each record was set aside; it is empty for one that was set aside without."""

    async def caught_up(self) -> bool:
        """Whether its lag is zero."""


async def letters(stack: ServiceStack, topic: topics.Topic) -> list[str]:
    """The reasons in a dead letter topic."""
    found = []
    for each in await everything(stack.bootstrap, stack.prefix + topic.name, partitions=topic.partitions):
        found.append(kafka.header(each.headers, "dlq_reason") or "")
    return found


@dataclass
class PaymentEventsReader:
    """What the readers of payments' events have in common."""

    topic: ClassVar[topics.Topic] = topics.PAYMENT_EVENTS
    group: ClassVar[str]
    dlq: ClassVar[topics.Topic]
    bought: ClassVar[dict[str, str]] = {}
    stack: ServiceStack

    @staticmethod
    def _head(event: str) -> Headers:
        head = kafka.EventHead(event, "payments.payment.captured", "/payments", "pay_1", datetime.now(UTC))
        return tuple(head.headers())

    def _body(self) -> dict[str, Any]:
        body = PaymentEvent("pay_1", "mer_demo", "order-1", "tok_1", "captured", 1000, "EUR", 1000, 0, 1, self.bought)
        found: dict[str, Any] = msgspec.to_builtins(body)
        return found

    def garbage(self) -> Iterable[Sent]:
        whole = msgspec.json.encode(self._body())
        yield from (Sent(b"pay_1", value, self._head(f"junk-{n}")) for n, value in enumerate(junk()))
        yield from (Sent(None, whole, heads) for heads in HEADS)
        yield Sent(b"none", None, self._head("none"))
        yield largest(b"pay_1", self._head("largest"))

    def odd(self) -> Iterable[Sent]:
        for number, value in enumerate(spoiled(self._body())):
            yield Sent(f"pay_{number}".encode(), value, self._head(f"odd-{number}"))

    async def good(self, number: int) -> Sent:
        return Sent(b"pay_1", msgspec.json.encode(self._body()), self._head(f"good-{number}"))

    async def reasons(self) -> list[str]:
        return await letters(self.stack, self.dlq)

    async def caught_up(self) -> bool:
        return await group_is_done(self.stack, self.group, self.topic)


@dataclass
class SourceReader(PaymentEventsReader):
    consumer: ClassVar[str] = "webhooks-source"
    group: ClassVar[str] = "webhooks.source"
    dlq: ClassVar[topics.Topic] = topics.WEBHOOKS_SOURCE_DLQ
    stack: WebhooksStack

    async def start(self) -> Process:
        await self.stack.migrate()
        return await self.stack.start("source")

    async def handled(self, number: int) -> bool:
        return bool(await self.stack.sql("SELECT 1 FROM messages WHERE event_id = $1", f"good-{number}"))


@dataclass
class ChangesReader:
    topic: ClassVar[topics.Topic] = topics.CATALOG_PRODUCT_CHANGES
    consumer: ClassVar[str] = "search-indexer"
    group: ClassVar[str] = "search.indexer"
    dlq: ClassVar[topics.Topic] = topics.CATALOG_PRODUCT_CHANGES_DLQ
    stack: SearchStack

    async def start(self) -> Process:
        await self.stack.migrate_all()
        await self.stack.fill(10)
        await self.stack.tell_everything()
        return await self.stack.start("indexer")

    @staticmethod
    def _body() -> dict[str, Any]:
        source = {"table": "products", "lsn": 1, "txId": 3}
        return {"op": "u", "source": source, "before": None, "after": {}, "ts_ms": 1}

    def garbage(self) -> Iterable[Sent]:
        # A key there is always: the broker takes no record without one into a compacted topic.
        yield from (Sent(str(some(1).id).encode(), value) for value in junk())
        whole = msgspec.json.encode(self._body())
        yield from (Sent(key, whole) for key in (b"", b"7", b"\xff" * 36, b"x" * 100_000, b"\x00" * 36))
        yield largest(str(some(1).id).encode(), ())

    def odd(self) -> Iterable[Sent]:
        key = str(some(2).id).encode()
        source: dict[str, Any] = self._body()["source"]
        yield from (Sent(key, value, heads) for value, heads in zip(spoiled(self._body()), HEADS * 20, strict=False))
        for each in spoiled(source):
            yield Sent(key, b'{"op":"u","source":' + each + b"}")
        yield Sent(str(UUID(int=0)).encode(), msgspec.json.encode(self._body()))
        yield Sent(key, None)

    async def good(self, number: int) -> Sent:
        product = some(3).id
        await self.stack.catalog("UPDATE products SET price = $2 WHERE id = $1", product, 1000 + number)
        return Sent(str(product).encode(), msgspec.json.encode(self._body()))

    async def handled(self, number: int) -> bool:
        return (await self.stack.prices()).get(some(3).id) == 1000 + number

    async def reasons(self) -> list[str]:
        return await letters(self.stack, self.dlq)

    async def caught_up(self) -> bool:
        return await group_is_done(self.stack, self.group, self.topic)


@dataclass
class ReferencesReader(ChangesReader):
    topic: ClassVar[topics.Topic] = topics.CATALOG_REFERENCE_CHANGES
    group: ClassVar[str] = "search.indexer-references"
    dlq: ClassVar[topics.Topic] = topics.CATALOG_REFERENCE_CHANGES_DLQ

    @staticmethod
    def _body() -> dict[str, Any]:
        source = {"table": "brands", "lsn": 1, "txId": 3}
        return {"op": "u", "source": source, "before": None, "after": {"id": some(3).brand}, "ts_ms": 1}

    def garbage(self) -> Iterable[Sent]:
        yield from (Sent(b"4", value) for value in junk())
        for wrong in IDS:
            yield Sent(None, msgspec.json.encode({**self._body(), "after": {"id": wrong}}))
        yield largest(b"4", ())
        elsewhere = {**self._body(), "source": {"table": "pg_authid"}}
        yield Sent(b"\x00", msgspec.json.encode(elsewhere))

    async def good(self, number: int) -> Sent:
        await self.stack.catalog("UPDATE brands SET name = $2 WHERE id = $1", some(3).brand, f"Good {number}")
        return Sent(b"4", msgspec.json.encode(self._body()))

    async def handled(self, number: int) -> bool:
        async with self.stack.engine() as engine:
            alias = f"{self.stack.prefix}products"
            await engine.refresh(alias)
            return await engine.count(alias, {"term": {"brand": f"Good {number}"}}) > 0


@dataclass
class ClicksReader:
    """Has no dead letters: what cannot be read says nothing of anybody, and is counted."""

    topic: ClassVar[topics.Topic] = topics.SEARCH_CLICKS
    consumer: ClassVar[str] = "search-api"
    stack: SearchStack
    process: Process | None = field(default=None)

    async def start(self) -> Process:
        await self.stack.migrate_all()
        self.process = await self.stack.start("api", environment={"SEARCH_CURSOR_KEY": "a-key-for-tests-only"})
        return self.process

    @staticmethod
    def _head(event: str) -> Headers:
        return tuple(kafka.EventHead(event, CLICK_EVENT, "/search", "x", datetime.now(UTC)).headers())

    @staticmethod
    def _body() -> dict[str, Any]:
        body = Click(
            "ann", "click", ids.encode("prd", some(0).id), datetime.now(UTC), 7, "home/lighting", "lamp", 1, "bm25"
        )
        found: dict[str, Any] = msgspec.to_builtins(body)
        return found

    def garbage(self) -> Iterable[Sent]:
        yield from (Sent(b"ann", value, self._head(f"junk-{n}")) for n, value in enumerate(junk()))
        whole = msgspec.json.encode(self._body())
        yield from (Sent(b"ann", whole, heads) for heads in HEADS[:3])
        yield largest(b"ann", self._head("largest"))
        yield Sent(b"none", None, self._head("none"))

    def odd(self) -> Iterable[Sent]:
        yield from (Sent(b"ann", each, self._head(f"odd-{n}")) for n, each in enumerate(spoiled(self._body())))
        yield from (Sent(b"ann", msgspec.json.encode(self._body()), heads) for heads in HEADS[3:])

    async def good(self, number: int) -> Sent:
        self._used = await self._counted("used")
        return Sent(b"bob", msgspec.json.encode({**self._body(), "person": "bob"}), self._head(f"good-{number}"))

    async def handled(self, number: int) -> bool:
        del number
        return await self._counted("used") > self._used

    async def reasons(self) -> list[str]:
        return ["unusable"] * int(await self._counted("unusable"))

    async def caught_up(self) -> bool:
        """It has no group: all that was sent is counted, whatever became of it."""
        every = await everything(
            self.stack.bootstrap, self.stack.prefix + self.topic.name, partitions=self.topic.partitions
        )
        return sum([await self._counted(result) for result in ("used", "doubled", "unusable")]) >= len(every)

    async def _counted(self, result: str) -> float:
        assert self.process is not None
        return await self.stack.metric(self.process, f'search_taste_events_total{{result="{result}"}}')


@dataclass
class SalesReader(PaymentEventsReader):
    consumer: ClassVar[str] = "catalog-sales"
    group: ClassVar[str] = "catalog.sales"
    dlq: ClassVar[topics.Topic] = topics.CATALOG_SALES_DLQ
    bought: ClassVar[dict[str, str]] = {"sku": "LAMP", "quantity": "1"}
    stack: CatalogStack

    async def start(self) -> Process:
        await self.stack.migrate()
        await self.stack.tree()
        await self.stack.start("api")
        await self.stack.create("LAMP", stock=1000)
        return await self.stack.start("sales")

    def garbage(self) -> Iterable[Sent]:
        yield from super().garbage()
        for number, quantity in enumerate(("", "0", "-1", "1e3", "9" * 5000, "\u0664", "\x00")):
            order = {**self._body(), "metadata": {"sku": "LAMP", "quantity": quantity}}
            yield Sent(b"pay_1", msgspec.json.encode(order), self._head(f"quantity-{number}"))
        for number, sku in enumerate(("", "NO-SUCH", "x" * 70_000, "\x00", "' OR 1=1")):
            order = {**self._body(), "metadata": {"sku": sku}}
            yield Sent(b"pay_1", msgspec.json.encode(order), self._head(f"sku-{number}"))

    async def handled(self, number: int) -> bool:
        return bool(await self.stack.sql("SELECT 1 FROM sales WHERE event_id = $1", f"good-{number}"))


@dataclass
class ReconciliationsReader:
    """An empty order is a good one."""

    topic: ClassVar[topics.Topic] = topics.CRON_RECONCILIATIONS
    consumer: ClassVar[str] = "payments-reconciler"
    group: ClassVar[str] = "payments.reconciliation"
    stack: PaymentsStack

    async def start(self) -> Process:
        await self.stack.migrate()
        await self.stack.start("bank")
        return await self.stack.start("reconciler")

    @staticmethod
    def _head(run: str) -> Headers:
        return tuple(kafka.EventHead(run, "cron.run.due", "/cron", "job_1", datetime.now(UTC)).headers())

    def garbage(self) -> Iterable[Sent]:
        unreadable = [value for value in junk() if not value.startswith((b"{}", b'{"x": '))]
        yield from (Sent(b"job_1", value, self._head(f"junk-{n}")) for n, value in enumerate(unreadable))
        yield from (Sent(None, b"{}", heads) for heads in HEADS)
        yield Sent(b"none", None, self._head("none"))
        yield largest(b"job_1", self._head("largest"))
        yield Sent(b"job_1", b"{}", (*self._head("expiry"), ("ce_expirytime", b"yesterday")))
        yield Sent(b"job_1", b'{"because": 7}', self._head("because"))

    def odd(self) -> Iterable[Sent]:
        for number, value in enumerate(spoiled({"because": "00-"})):
            yield Sent(b"job_1", value, self._head(f"odd-{number}"))

    async def good(self, number: int) -> Sent:
        return Sent(b"job_1", b"{}", self._head(f"good-{number}"))

    async def handled(self, number: int) -> bool:
        query = "SELECT 1 FROM scheduled_reconciliations WHERE run_id = $1"
        return bool(await self.stack.sql(query, f"good-{number}"))

    async def reasons(self) -> list[str]:
        return await letters(self.stack, topics.PAYMENTS_RECONCILIATIONS_DLQ)

    async def caught_up(self) -> bool:
        return await group_is_done(self.stack, self.group, self.topic)


READERS: tuple[type[Reader], ...] = (
    SourceReader,
    ChangesReader,
    ReferencesReader,
    ClicksReader,
    SalesReader,
    ReconciliationsReader,
)


def test_every_reader_of_a_topic_is_fed_garbage() -> None:
    declared = {(topic.name, consumer) for topic in topics.TOPICS for consumer in topic.consumers}
    assert {(reader.topic.name, reader.consumer) for reader in READERS} == declared


async def sent(stack: ServiceStack, topic: topics.Topic, records: Sequence[Sent]) -> None:
    async with kafka.running(kafka.producer(stack.bootstrap, client_id="test")) as producer:
        waiting = [
            await producer.send(stack.prefix + topic.name, value=each.value, key=each.key, headers=list(each.headers))
            for each in records
        ]
        await asyncio.gather(*waiting)


async def committed(stack: ServiceStack, group: str, topic: topics.Topic) -> int:
    """How many records of the topic its reader is done with."""
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.bootstrap)
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(stack.prefix + group)
    finally:
        await admin.close()
    mine: dict[TopicPartition, Any] = {
        where: at for where, at in offsets.items() if where.topic == stack.prefix + topic.name
    }
    return sum(max(at.offset, 0) for at in mine.values())


Send = Callable[[ServiceStack, topics.Topic, Sequence[Sent]], Awaitable[None]]


async def endured(reader: Reader, send: Send = sent, within: float = PATIENCE) -> None:
    """Starts it, feeds it, and fails unless all of it comes to an end."""
    stack = reader.stack
    process = await reader.start()

    async def comes(condition: Callable[[], Awaitable[bool]], what: str) -> None:
        async def there() -> bool:
            assert process.popen.poll() is None, f"the reader has ended:\n{process.log.read_text()[-3000:]}"
            return await condition()

        try:
            await until(there, within=within, what=what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{process.log.read_text()[-3000:]}") from None

    bad, odd = list(reader.garbage()), list(reader.odd())
    await send(stack, reader.topic, [await reader.good(1)])
    await comes(lambda: reader.handled(1), "the first good record")
    before = len(await reader.reasons())
    await send(stack, reader.topic, [*bad, *odd])
    await send(stack, reader.topic, [await reader.good(2)])

    async def all_set_aside() -> bool:
        return len(await reader.reasons()) >= before + len(bad)

    await comes(all_set_aside, f"{len(bad)} records set aside")
    await comes(lambda: reader.handled(2), "the next good record")
    await comes(reader.caught_up, "a lag of zero")
    assert all(await reader.reasons()), "a record was set aside without a reason"
    assert "Traceback" not in process.log.read_text()


async def group_is_done(stack: ServiceStack, group: str, topic: topics.Topic) -> bool:
    """Whether the group has committed all that is on the topic."""
    every = await everything(stack.bootstrap, stack.prefix + topic.name, partitions=topic.partitions)
    return await committed(stack, group, topic) >= len(every)


@pytest.mark.parametrize("kind", [SourceReader], ids=lambda kind: kind.__name__)
async def test_garbage_on_payments_topic_stops_nobody(
    kind: Callable[[WebhooksStack], Reader], postgres_server: PostgresServer, kafka_server: KafkaServer
) -> None:
    stack = WebhooksStack(postgres_server, kafka_server.bootstrap)
    await stack.create_topics()
    try:
        await endured(kind(stack))
    finally:
        stack.stop()


async def test_garbage_among_payments_sells_nothing_and_stops_nobody(
    postgres_server: PostgresServer, kafka_server: KafkaServer
) -> None:
    stack = CatalogStack(postgres_server, kafka_server.bootstrap, extra={"CATALOG_SALES_MERCHANT": "mer_demo"})
    await stack.create_topics()
    try:
        await endured(SalesReader(stack))
        rows = await stack.sql("SELECT p.stock, (SELECT sum(quantity) FROM sales) AS sold FROM products p")
        assert [1000 - row["stock"] for row in rows] == [row["sold"] for row in rows]
    finally:
        stack.stop()


async def test_garbage_among_orders_of_a_schedule_stops_nobody(
    postgres_server: PostgresServer, kafka_server: KafkaServer
) -> None:
    stack = PaymentsStack(postgres_server, kafka_server.bootstrap)
    await stack.create_topics()
    try:
        await endured(ReconciliationsReader(stack))
    finally:
        stack.stop()


@pytest.mark.parametrize("kind", [ChangesReader, ReferencesReader, ClicksReader], ids=lambda kind: str(kind.__name__))
async def test_garbage_on_searchs_topics_stops_nobody(
    kind: Callable[[SearchStack], Reader],
    request: pytest.FixtureRequest,
    postgres_server: PostgresServer,
    kafka_server: KafkaServer,
) -> None:
    stack = SearchStack(postgres_server, kafka_server.bootstrap, search=request.getfixturevalue("search_server"))
    await stack.create_topics()
    try:
        await endured(kind(stack))
    finally:
        stack.stop()
        await stack.drop_indices()


# --- the test finds what it looks for -------------------------------------------------------------------------------


@dataclass
class Popen:
    """Of a process that runs, or has ended."""

    returncode: int | None = None

    def poll(self) -> int | None:
        return self.returncode


@dataclass
class PlantedReader:
    """Sets aside three pieces of garbage and handles what is good, but for one planted fault."""

    topic: ClassVar[topics.Topic] = topics.PAYMENT_EVENTS
    consumer: ClassVar[str] = "planted"
    log: Path
    fault: str = ""
    stack: Any = None
    popen: Popen = field(default_factory=Popen)
    taken: int = 0

    async def start(self) -> Process:
        self.log.write_text("Traceback (most recent call last)" if self.fault == "traceback" else "")
        return Process("planted", 1, cast("Any", self.popen), self.log)

    def garbage(self) -> Iterable[Sent]:
        return [Sent(None, b"junk")] * 3

    def odd(self) -> Iterable[Sent]:
        return []

    async def good(self, number: int) -> Sent:
        return Sent(None, b"good %d" % number)

    async def handled(self, number: int) -> bool:
        return not (self.fault == "stuck" and number == 2)

    async def reasons(self) -> list[str]:
        if not self.taken:
            return []
        return {"loses": ["why"], "reasonless": ["why", "", "why"]}.get(self.fault, ["why"] * 3)

    async def caught_up(self) -> bool:
        return self.fault != "lags"

    async def send(self, _: ServiceStack, __: topics.Topic, records: Sequence[Sent]) -> None:
        self.taken += sum(each.value == b"junk" for each in records)
        if self.fault == "crashes" and self.taken:
            self.popen.returncode = 1


async def test_a_reader_that_endures_is_let_pass(tmp_path: Path) -> None:
    reader = PlantedReader(tmp_path / "log")
    await endured(reader, reader.send, 0.1)


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("crashes", "has ended"),
        ("stuck", "the next good record"),
        ("loses", "records set aside"),
        ("lags", "a lag of zero"),
        ("reasonless", "without a reason"),
        ("traceback", "Traceback"),
    ],
)
async def test_a_reader_that_does_not_endure_is_found(tmp_path: Path, fault: str, sentence: str) -> None:
    reader = PlantedReader(tmp_path / "log", fault)
    with pytest.raises(AssertionError, match=sentence):
        await endured(reader, reader.send, 0.1)
