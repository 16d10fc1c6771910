"""The exercise of day 2 can be solved, and the checker sees what plausible answers get wrong. A real bank, no lab run."""

from __future__ import annotations

import asyncio
import importlib
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import aiohttp
import asyncpg
import pytest
from aiokafka.errors import KafkaConnectionError

from labs.engine.model import Operation, Outcome, Phase, Status, TopicRecord
from labs.invariants import payments as p
from labs.week02.infrastructure import ensure_database
from services.kit.errors import Problem
from services.kit.kafka import Headers
from tests.integration.bank.conftest import KEY, BankProcess, Client
from tests.integration.labs.solutions_day2 import (
    EventAfterwards,
    LookThenInsert,
    NewPaymentEachTime,
    NoReference,
    Right,
    SilenceIsFailure,
)
from tests.integration.labs.test_yours_day5 import StoreEvidence
from tests.servers import PostgresServer

pytestmark = pytest.mark.integration

ATTEMPTS = 3
SETTLING_PASSES = 3
_numbers = itertools.count(1)


class DeathError(Exception):
    """The process is gone, and with it whatever it had not committed."""


@dataclass
class Topic:
    """A broker's memory. `away` is for so many sendings."""

    records: list[TopicRecord] = field(default_factory=list)
    away: int = 0

    async def send_and_wait(self, topic: str, value: bytes, *, key: bytes, headers: Headers) -> None:
        if self.away:
            self.away -= 1
            raise KafkaConnectionError
        told = {name: text.decode() for name, text in headers}
        self.records.append(TopicRecord(topic, 0, len(self.records), key.decode(), told, value, 0.0))


@dataclass
class Stage:
    """A learner's program without its shell, before a bank of this test's own. `outcomes` is what clients believe."""

    yours: ModuleType
    solution: Right
    world: Any
    bank: Client
    evidence: StoreEvidence
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    async def ask(self, reference: str) -> Outcome:
        """Once, with the payment's own key."""
        wanted = self.yours.NewPayment(1000, "EUR", f"tok_{reference}", reference)
        try:
            payment = await self.solution.pay(self.world, wanted, f"key-{reference}")
        except (DeathError, Problem):
            return Outcome.UNKNOWN
        return {"captured": Outcome.OK, "failed": Outcome.FAIL}.get(payment.status, Outcome.UNKNOWN)

    async def client(self, reference: str) -> None:
        """Asks until it knows, or gives up; an unknown outcome is followed by a try with the same key."""
        for _ in range(ATTEMPTS):
            self.outcomes[reference] = await self.ask(reference)
            if self.outcomes[reference] is not Outcome.UNKNOWN:
                return

    async def broken(self) -> set[str]:
        """Once everything that a program does by itself has been done."""
        for _ in range(SETTLING_PASSES):
            await self.solution.finish(self.world)
        self.evidence.history = tuple(
            Operation(key, key, "payment", Phase.INJECT, 0.0, 0.0, 1.0, 1, None, outcome, None, {})
            for key, outcome in self.outcomes.items()
        )
        self.evidence.records = tuple(self.world.events.records)
        found = {one.__name__: (await one(self.evidence)).status for one in INVARIANTS}
        assert set(found.values()) <= {Status.HELD, Status.BROKEN}, found
        return {name for name, status in found.items() if status is Status.BROKEN}


INVARIANTS = (
    p.charged_exactly_once,
    p.no_charge_without_payment,
    p.amounts_agree,
    p.nothing_contradicted,
    p.one_event_per_capture,
)


@pytest.fixture
def yours(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("HTTP_PORT", "1")
    module = importlib.import_module("labs.week02.yours_day2")

    async def passed(name: str, subject: str = "") -> None:
        del name, subject

    monkeypatch.setattr(module, "failpoint", passed, raising=False)
    return module


@pytest.fixture(scope="module")
def bank(postgres_server: PostgresServer) -> Iterator[BankProcess]:
    process = BankProcess(postgres_server.url(f"yours2_{os.getpid()}_bank"))
    process.start()
    yield process
    process.kill()


@asynccontextmanager
async def stage(
    kind: type[Right], yours: ModuleType, server: PostgresServer, bank: BankProcess
) -> AsyncIterator[Stage]:
    url = server.url(f"yours2_{os.getpid()}_{next(_numbers)}")
    await ensure_database(url, kind.tables)
    async with (
        asyncpg.create_pool(url, min_size=1) as db,
        asyncpg.create_pool(bank.database_url, min_size=1) as record,
        aiohttp.ClientSession(bank.url, headers={"Authorization": f"Bearer {KEY}"}) as session,
        aiohttp.ClientSession() as behaving,
    ):
        evidence = StoreEvidence(databases={"payments": db, "bank": record})
        client = Client(behaving, bank.url)
        yield Stage(yours, kind(yours), yours.World(db, session, Topic()), client, evidence)
        await client.call("DELETE", "/lab/behaviours/loses_answer")
        await record.execute("TRUNCATE charges, effects, references_seen, requests CASCADE")


async def the_answer_is_lost(scene: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bank charges and says nothing; the client asks again when it speaks again."""
    await scene.bank.behave("loses_answer", share=1)
    scene.outcomes["lost"] = await scene.ask("lost")
    await scene.bank.call("DELETE", "/lab/behaviours/loses_answer")
    if scene.outcomes["lost"] is Outcome.UNKNOWN:
        await scene.client("lost")


async def it_dies_before_it_saves(scene: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the bank's answer and the commit, once."""
    deaths = iter([True])

    async def die_once(name: str, subject: str = "") -> None:
        if name == "payments.after_bank_answer" and next(deaths, False):
            raise DeathError

    monkeypatch.setattr(scene.yours, "failpoint", die_once)
    await scene.client("died")


async def two_ask_at_once(scene: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's own time was over, and it asked again while the first request was still on its way."""
    both = asyncio.Barrier(2)

    async def wait_for_the_other(name: str, subject: str = "") -> None:
        if name == "between looking and inserting":
            await both.wait()

    monkeypatch.setattr(scene.yours, "failpoint", wait_for_the_other)
    told = await asyncio.gather(scene.ask("twice"), scene.ask("twice"))
    scene.outcomes["twice"] = Outcome.OK if Outcome.OK in told else told[0]
    if scene.outcomes["twice"] is Outcome.UNKNOWN:
        await scene.client("twice")


async def the_broker_is_away(scene: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the first sending."""
    scene.world.events.away = 1
    await scene.client("silent")


Play = Callable[[Stage, pytest.MonkeyPatch], Awaitable[None]]
PLAYS: tuple[Play, ...] = (the_answer_is_lost, it_dies_before_it_saves, two_ask_at_once, the_broker_is_away)


@pytest.mark.parametrize("play", PLAYS)
async def test_the_right_answer_holds(
    play: Play,
    yours: ModuleType,
    postgres_server: PostgresServer,
    bank: BankProcess,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with stage(Right, yours, postgres_server, bank) as scene:
        await play(scene, monkeypatch)
        assert await scene.broken() == set()
        assert set(scene.outcomes.values()) == {Outcome.OK}


@pytest.mark.parametrize(
    ("kind", "play", "broken"),
    [
        (NoReference, the_answer_is_lost, "charged_exactly_once"),
        (NoReference, it_dies_before_it_saves, "charged_exactly_once"),
        (LookThenInsert, two_ask_at_once, "charged_exactly_once"),
        (NewPaymentEachTime, it_dies_before_it_saves, "charged_exactly_once"),
        (SilenceIsFailure, the_answer_is_lost, "nothing_contradicted"),
        (EventAfterwards, the_broker_is_away, "one_event_per_capture"),
    ],
)
async def test_a_plausible_wrong_answer_is_seen(
    kind: type[Right],
    play: Play,
    broken: str,
    yours: ModuleType,
    postgres_server: PostgresServer,
    bank: BankProcess,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with stage(kind, yours, postgres_server, bank) as scene:
        await play(scene, monkeypatch)
        assert broken in await scene.broken()


async def test_the_stub_says_what_is_to_be_written(yours: ModuleType) -> None:
    wanted = yours.NewPayment(1000, "EUR", "tok_a", "a")
    with pytest.raises(Problem, match="Write pay"):
        await yours.pay(yours.World(None, None, None), wanted, "key-a")
    with pytest.raises(Problem, match="Write show"):
        await yours.show(yours.World(None, None, None), "pay_1")
