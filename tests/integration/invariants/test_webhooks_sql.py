"""The webhooks invariants' own SQL on the real tables of the service and of the receivers, with bugs planted in them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from importlib import resources
from uuid import UUID, uuid4

import asyncpg
import pytest
from pydantic import SecretStr

from labs.engine.model import Operation, Outcome, Phase, Row, Status
from labs.invariants import webhooks as w
from labs.week02.webhook_story import story
from services.kit.postgres import create_database
from services.webhooks import migrate
from services.webhooks.settings import MigrateSettings
from tests.servers import PostgresServer
from tests.unit.invariants.evidence import ListedEvidence

pytestmark = pytest.mark.integration

EVENT = "o1-000001"
TYPE = "lab.group7"
RECEIVERS = w.receivers_of(TYPE)[:2]


@dataclass
class RealEvidence(ListedEvidence):
    """Two real databases."""

    sender: asyncpg.Connection | None = None
    receivers: asyncpg.Connection | None = None

    async def sql(self, database: str, query: str, *args: object) -> Sequence[Row]:
        connection = {"webhooks": self.sender, "receivers": self.receivers}[database]
        assert connection is not None
        return await connection.fetch(query, *args)


@dataclass
class Stores:
    """One event for two endpoints; a test says how it went."""

    sender: asyncpg.Connection
    receivers: asyncpg.Connection
    deliveries: dict[int, UUID]

    async def received(self, receiver: int, times: int = 1, status: int | None = 200, verified: bool = True) -> None:
        for _ in range(times):
            await self.receivers.execute(
                "INSERT INTO requests (receiver, webhook_id, event_id, at, status, verified, behaviour)"
                " VALUES ($1, 'msg_1', $2, now(), $3, $4, NULL)",
                receiver, EVENT, status, verified,
            )  # fmt: skip

    async def state(self, receiver: int, state: str) -> None:
        await self.sender.execute(
            "UPDATE deliveries SET state = $2, next_attempt_at = CASE WHEN $2 = 'scheduled' THEN now() END,"
            " dead_reason = CASE WHEN $2 = 'dead' THEN 'exhausted' END WHERE id = $1",
            self.deliveries[receiver], state,
        )  # fmt: skip

    async def attempt(self, receiver: int, outcome: str, number: int = 1) -> None:
        await self.sender.execute(
            "INSERT INTO attempts (id, delivery_id, endpoint_id, number, started_at, outcome)"
            " SELECT $1, id, endpoint_id, $3, now(), $4 FROM deliveries WHERE id = $2",
            uuid4(), self.deliveries[receiver], number, outcome,
        )  # fmt: skip

    def evidence(self) -> RealEvidence:
        operation = Operation(
            id=EVENT, key=EVENT, kind="event", phase=Phase.INJECT, intended_at=0.0, sent_at=0.0, done_at=0.1, attempts=1,
            status=202, outcome=Outcome.OK, error=None, result={"event_type": TYPE},
        )  # fmt: skip
        return RealEvidence(history=(operation,), sender=self.sender, receivers=self.receivers)


@pytest.fixture(scope="module")
def databases(postgres_server: PostgresServer) -> tuple[str, str]:
    sender = postgres_server.url(f"webhooks_sql_{os.getpid()}")
    app = postgres_server.url(f"webhooks_sql_{os.getpid()}", migrate.APP, "lab-only-test")
    settings = MigrateSettings(admin_database_url=SecretStr(sender), database_url=SecretStr(app))
    migrate.run(settings, demo=True)
    receivers = postgres_server.url(f"receivers_sql_{os.getpid()}")
    schema = resources.files("services.simulators.receivers").joinpath("schema.sql").read_text()
    asyncio.run(create_database(receivers, schema, lock=1))
    return sender, receivers


@pytest.fixture
async def stores(databases: tuple[str, str]) -> AsyncIterator[Stores]:
    sender, receivers = [await asyncpg.connect(url) for url in databases]
    await sender.execute("TRUNCATE messages, deliveries, attempts, endpoints CASCADE")
    await receivers.execute("TRUNCATE requests")
    message = uuid4()
    await sender.execute(
        "INSERT INTO messages (id, application_id, event_id, event_type, payload, fingerprint, created_at)"
        " VALUES ($1, 'app_demo', $2, $3, '{}', '', now())",
        message, EVENT, TYPE,
    )  # fmt: skip
    deliveries = {}
    for receiver in RECEIVERS:
        endpoint, deliveries[receiver] = uuid4(), uuid4()
        await sender.execute(
            "INSERT INTO endpoints (id, application_id, url, secrets) VALUES ($1, 'app_demo', $2, '')",
            endpoint, f"http://127.0.0.1:1/r/{receiver}",
        )  # fmt: skip
        await sender.execute(
            "INSERT INTO deliveries (id, message_id, endpoint_id, application_id, state, created_at, updated_at)"
            " VALUES ($1, $2, $3, 'app_demo', 'delivered', now(), now())",
            deliveries[receiver], message, endpoint,
        )  # fmt: skip
    yield Stores(sender, receivers, deliveries)
    await sender.close()
    await receivers.close()


@pytest.fixture(autouse=True)
def _only_two_receivers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(w, "receivers_of", lambda _: RECEIVERS)


async def test_what_was_delivered_once_to_each_holds_everywhere(stores: Stores) -> None:
    for receiver in RECEIVERS:
        await stores.received(receiver)
        await stores.attempt(receiver, "delivered")
    evidence = stores.evidence()
    for invariant in (
        w.every_event_reaches_every_endpoint,
        w.delivered_means_received,
        w.nothing_received_unasked,
        w.duplicates_are_explained,
        w.every_signature_verifies,
    ):
        assert (await invariant(evidence)).status is Status.HELD, invariant.__name__
    assert await w.still_open(evidence) == ""
    assert await w.events_found(evidence) == {EVENT: 1}


@pytest.mark.parametrize("state", ["scheduled", "dead"])
async def test_what_is_written_down_is_not_lost(stores: Stores, state: str) -> None:
    await stores.received(RECEIVERS[0])
    await stores.received(RECEIVERS[1], status=503)
    await stores.state(RECEIVERS[1], state)
    evidence = stores.evidence()
    assert (await w.every_event_reaches_every_endpoint(evidence)).status is Status.HELD
    assert await w.still_open(evidence) == ("1 scheduled" if state == "scheduled" else "")
    counts = await w.count(evidence)
    assert (counts.wanted, counts.received, counts.dead + counts.scheduled, counts.lost) == (2, 1, 1, 0)


async def test_a_row_that_says_delivered_and_a_receiver_that_does_not_know_are_both_named(stores: Stores) -> None:
    await stores.received(RECEIVERS[0])
    for status in (None, 500):
        await stores.received(RECEIVERS[1], status=status)
    for invariant in (w.delivered_means_received, w.every_event_reaches_every_endpoint):
        assert (await invariant(stores.evidence())).offenders == (f"{EVENT} -> {RECEIVERS[1]}",)


async def test_a_missing_row_is_a_loss(stores: Stores) -> None:
    await stores.received(RECEIVERS[0])
    await stores.sender.execute("DELETE FROM deliveries WHERE id = $1", stores.deliveries[RECEIVERS[1]])
    assert (await w.every_event_reaches_every_endpoint(stores.evidence())).count == 1


@pytest.mark.parametrize("outcome", ["interrupted", "timed_out", "unreachable"])
async def test_a_repeat_is_explained_by_an_attempt_of_unknown_fate_only(stores: Stores, outcome: str) -> None:
    for receiver in RECEIVERS:
        await stores.received(receiver, times=2)
        await stores.attempt(receiver, "delivered", 2)
    await stores.attempt(RECEIVERS[0], outcome)
    await stores.attempt(RECEIVERS[1], "refused")
    found = await w.duplicates_are_explained(stores.evidence())
    assert found.offenders == (f"{EVENT} -> {RECEIVERS[1]}",)
    assert (await w.count(stores.evidence())).allowed == 1


async def test_a_wrong_signature_is_named(stores: Stores) -> None:
    await stores.received(RECEIVERS[0])
    await stores.received(RECEIVERS[1], verified=False)
    assert (await w.every_signature_verifies(stores.evidence())).offenders == (f"{EVENT} -> {RECEIVERS[1]}",)


async def test_the_story_of_an_offender_is_told_from_all_sides(stores: Stores) -> None:
    await stores.received(RECEIVERS[0], status=None)
    await stores.attempt(RECEIVERS[0], "timed_out")
    lines = await story(stores.evidence(), f"{EVENT} -> {RECEIVERS[0]}")
    told = " / ".join(line.what for line in lines)
    assert "does not answer" in told
    assert "attempt 1: timed_out" in told
    assert "the delivery is delivered" in told
    assert "is told 202: taken" in told
    assert {line.who for line in lines} == {"client", "receiver", "sender"}
