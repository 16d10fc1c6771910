from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from services.kit import kafka
from services.kit.deadline import DeadlineOver, bound
from services.patterns.deadline import Deadline, Handling, MessageKind, handling

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


class Silent:
    """A broker that never acknowledges, or does at once."""

    def __init__(self, *, silent: bool = True) -> None:
        self.silent = silent
        self.sent: list[bytes] = []

    async def send_and_wait(self, topic: str, value: bytes, *, key: bytes | None, headers: kafka.Headers) -> object:
        self.sent.append(value)
        if self.silent:
            await asyncio.Event().wait()
        return None


def head(expires_at: datetime | None = None) -> kafka.EventHead:
    return kafka.EventHead("evt_1", "a.b", "/a", "s", NOW, expires_at=expires_at)


def test_a_command_carries_the_instant_of_its_deadline_and_a_consumer_reads_it() -> None:
    deadline = Deadline.after(2.0, lambda: 5.0)
    expirytime = kafka.header(head(deadline.expiry(NOW)).headers(), "ce_expirytime")
    assert expirytime == "2026-11-22T12:00:02+00:00"
    assert handling(MessageKind.COMMAND, expirytime, NOW) is Handling.PROCESS
    assert handling(MessageKind.COMMAND, expirytime, datetime(2026, 11, 22, 12, 0, 2, tzinfo=UTC)) is Handling.DROP


def test_an_event_without_one_has_no_such_header() -> None:
    assert kafka.header(head().headers(), "ce_expirytime") is None


@pytest.mark.parametrize("value", [None, b"\xff\xfe"])
def test_a_header_that_is_null_or_no_text_is_as_good_as_none(value: bytes | None) -> None:
    assert kafka.header([("ce_id", b"evt_1"), ("ce_id", value)], "ce_id") is None


async def test_a_send_ends_with_the_deadline_of_the_request() -> None:
    with bound(Deadline.after(0.05)), pytest.raises(DeadlineOver):
        await kafka.send(Silent(), "t", b"v", key=None, headers=[])


async def test_without_time_nothing_is_sent() -> None:
    broker = Silent()
    with bound(Deadline.after(0.0)), pytest.raises(DeadlineOver):
        await kafka.send(broker, "t", b"v", key=None, headers=[])
    assert broker.sent == []


async def test_a_send_has_a_bound_of_its_own() -> None:
    with pytest.raises(TimeoutError):
        await kafka.send(Silent(), "t", b"v", key=None, headers=[], within=0.05)


async def test_an_acknowledged_send_returns() -> None:
    broker = Silent(silent=False)
    with bound(Deadline.after(5.0)):
        await kafka.send(broker, "t", b"v", key=b"k", headers=[])
    assert broker.sent == [b"v"]


@asynccontextmanager
async def silent_broker() -> AsyncIterator[tuple[str, asyncio.Event]]:
    """Takes connections and never says a word; yields its address and whether it was called."""
    called = asyncio.Event()
    taken: list[asyncio.StreamWriter] = []

    def take(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken.append(writer)
        called.set()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"{host}:{port}", called
    finally:
        server.close()
        for each in taken:
            each.close()


@pytest.mark.parametrize("kind", [AIOKafkaProducer, AIOKafkaConsumer])
@pytest.mark.parametrize("cancelled", [True, False])
async def test_a_client_that_is_cancelled_or_late_while_it_starts_is_closed(
    kind: type[AIOKafkaProducer | AIOKafkaConsumer], cancelled: bool, recwarn: pytest.WarningsRecorder
) -> None:
    gc.freeze()  # what else the test run holds is not looked through
    async with silent_broker() as (address, called):
        client = kind(bootstrap_servers=address)
        starting = asyncio.create_task(kafka.start(client, within=5 if cancelled else 0.2))
        await asyncio.wait_for(called.wait(), 10)
        if cancelled:
            starting.cancel()
        with pytest.raises(asyncio.CancelledError if cancelled else TimeoutError):
            await starting
    del client, starting
    for _ in range(3):
        await asyncio.sleep(0)
        gc.collect()
    assert [str(each.message) for each in recwarn if "Unclosed" in str(each.message)] == []
