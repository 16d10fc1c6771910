"""The naive webhooks of day 4, before the lab's receivers: what it does well, and that the checker sees what it loses."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import asyncpg
import pytest

from labs.engine.model import NotApplicableError, Operation, Outcome, Phase, Row, Status
from labs.invariants import webhooks as w
from tests.integration.labs.program import running
from tests.integration.receivers.conftest import ReceiversProcess, signed
from tests.servers import PostgresServer
from tests.unit.invariants.evidence import ListedEvidence

pytestmark = pytest.mark.integration

TYPE = "lab.group3"
RECEIVERS = w.receivers_of(TYPE)


@dataclass
class TwoStores(ListedEvidence):
    """The sender's database and the receivers'."""

    urls: dict[str, str] = field(default_factory=dict)

    async def sql(self, database: str, query: str, *args: object) -> Sequence[Row]:
        connection = await asyncpg.connect(self.urls[database])
        try:
            return await connection.fetch(query, *args)
        except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError) as error:
            raise NotApplicableError(str(error)) from error
        finally:
            await connection.close()


@dataclass
class Setting:
    """The program, its receivers, and what a client does with them."""

    naive: str
    receivers: ReceiversProcess
    session: aiohttp.ClientSession
    evidence: TwoStores
    operations: list[Operation] = field(default_factory=list)

    async def post(self, path: str, **more: object) -> tuple[int, str]:
        async with self.session.post(self.naive + path, **more) as answer:  # type: ignore[arg-type]  # forwarded
            return answer.status, answer.content_type

    async def publish(self, event: str) -> int:
        body = {"event_id": event, "event_type": TYPE, "payload": {"event_id": event}}
        status, _ = await self.post("/v1/messages", json=body)
        outcome = Outcome.OK if status == 202 else Outcome.UNKNOWN
        self.operations.append(
            Operation(
                id=event, key=event, kind="event", phase=Phase.INJECT, intended_at=0.0, sent_at=0.0, done_at=0.1,
                attempts=1, status=status, outcome=outcome, error=None, result={"event_type": TYPE},
            )
        )  # fmt: skip
        self.evidence.history = tuple(self.operations)
        return status

    async def switch(self, name: str, **parameters: float) -> None:
        url = f"{self.receivers.url}/lab/behaviours/{name}"
        async with self.session.put(url, json=parameters) as answer:
            assert answer.status == 204


@pytest.fixture(scope="module")
def receivers(postgres_server: PostgresServer) -> Iterator[ReceiversProcess]:
    process = ReceiversProcess(postgres_server.url(f"naive_receivers_{os.getpid()}"))
    process.start()
    yield process
    assert process.stop() == 0


@pytest.fixture(scope="module")
def naive(postgres_server: PostgresServer) -> Iterator[tuple[str, str]]:
    database = postgres_server.url(f"naive_webhooks_{os.getpid()}")
    with running("labs.week02.naive_webhooks", NAIVE_DATABASE_URL=database) as url:
        yield url, database


async def emptied(store: str, tables: str) -> None:
    connection = await asyncpg.connect(store)
    await connection.execute(f"TRUNCATE {tables}")
    await connection.close()


@asynccontextmanager
async def registered(naive: tuple[str, str], receivers: ReceiversProcess) -> AsyncIterator[Setting]:
    address, database = naive
    await emptied(database, "endpoints, messages")
    await emptied(receivers.database_url, "requests")
    evidence = TwoStores(urls={"webhooks": database, "receivers": receivers.database_url})
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        setting = Setting(address, receivers, session, evidence)
        for receiver in RECEIVERS:
            endpoint = {"url": f"{receivers.hooks}/r/{receiver}", "event_types": [TYPE], "secret": "whsec_x"}
            assert (await setting.post("/v1/endpoints", json=endpoint))[0] == 201
        # Makes its connections: with these the first event could take the second after which it sends again.
        warm = {"event_id": "warm", "event_type": TYPE, "payload": {}}
        assert (await setting.post("/v1/messages", json=warm))[0] == 202
        await emptied(database, "messages")
        await emptied(receivers.database_url, "requests")
        yield setting
        for name in ("dead", "failing", "lying"):
            async with session.delete(f"{receivers.url}/lab/behaviours/{name}"):
                pass


@pytest.fixture
async def setting(naive: tuple[str, str], receivers: ReceiversProcess) -> AsyncIterator[Setting]:
    async with registered(naive, receivers) as made:
        yield made


async def test_in_calm_weather_every_receiver_hears_of_every_event_once(setting: Setting) -> None:
    for number in range(5):
        assert await setting.publish(f"calm-{number}") == 202
    assert (await w.every_event_reaches_every_endpoint(setting.evidence)).status is Status.HELD
    assert (await w.nothing_received_unasked(setting.evidence)).status is Status.HELD
    assert (await w.every_signature_verifies(setting.evidence)).status is Status.NOT_APPLICABLE
    assert set((await w.received(setting.evidence)).values()) == {1}
    assert await w.events_found(setting.evidence) == {f"calm-{number}": 1 for number in range(5)}
    assert await w.still_open(setting.evidence) == ""


async def test_what_a_dead_receiver_does_not_get_in_three_attempts_is_lost_although_it_was_acknowledged(
    setting: Setting,
) -> None:
    await setting.switch("dead", first=RECEIVERS[0], count=1)
    assert await setting.publish("storm-1") == 202
    found = await w.every_event_reaches_every_endpoint(setting.evidence)
    assert found.offenders == (f"storm-1 -> {RECEIVERS[0]}",)
    counts = await w.count(setting.evidence)
    assert (counts.wanted, counts.received, counts.lost, counts.allowed) == (8, 7, 1, None)
    rows = await setting.evidence.sql("receivers", "SELECT count(*) AS times FROM requests WHERE behaviour = 'dead'")
    assert rows[0]["times"] == 3


async def test_a_lying_receiver_gets_it_three_times(setting: Setting) -> None:
    await setting.switch("lying", first=RECEIVERS[1], count=1)
    assert await setting.publish("lie-1") == 202
    assert (await w.received(setting.evidence))[w.Pair("lie-1", RECEIVERS[1])] == 3


async def test_its_own_deliveries_are_not_judged_because_it_keeps_none(setting: Setting) -> None:
    await setting.publish("plain-1")
    for invariant in (w.delivered_means_received, w.duplicates_are_explained):
        with pytest.raises(NotApplicableError):
            await invariant(setting.evidence)


async def test_a_signature_of_ours_is_told_from_one_that_is_wrong(setting: Setting) -> None:
    await setting.publish("signed-1")
    for receiver, signer in ((RECEIVERS[0], RECEIVERS[0]), (RECEIVERS[1], RECEIVERS[0])):
        body = b'{"event_id":"signed-1"}'
        url = f"{setting.receivers.hooks}/r/{receiver}"
        async with setting.session.post(url, data=body, headers=signed(signer, body)):
            pass
    found = await w.every_signature_verifies(setting.evidence)
    assert found.status is Status.BROKEN
    assert f"signed-1 -> {RECEIVERS[1]}" in found.offenders


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/messages", b"not json", 400),
        ("/v1/messages", b"{}", 422),
        ("/v1/messages", b'{"event_id": 1, "event_type": "x", "payload": {}}', 422),
        ("/v1/endpoints", b"[]", 422),
        ("/v1/endpoints", b'{"url": "http://x"}', 422),
    ],
)
async def test_bad_input_is_a_clear_problem(setting: Setting, path: str, body: bytes, status: int) -> None:
    headers = {"Content-Type": "application/json"}
    assert await setting.post(path, data=body, headers=headers) == (status, "application/problem+json")
