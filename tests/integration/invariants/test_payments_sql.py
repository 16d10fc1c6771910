"""The invariants' own SQL on real tables: each query finds what was planted and nothing else."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

import asyncpg
import pytest

from labs.engine.model import Operation, Outcome, Row, Status
from labs.invariants import payments as p
from labs.invariants import sales
from services.simulators.bank.store import prepare_database
from tests.servers import PostgresServer
from tests.unit.invariants.evidence import ListedEvidence, operation

pytestmark = pytest.mark.integration
_numbers = itertools.count()

# The columns that the services promise to checkers.
TABLES = """
CREATE TABLE payments (id uuid PRIMARY KEY, merchant_id text, reference text, source text, amount bigint, currency text,
    status text, captured_amount bigint DEFAULT 0, refunded_amount bigint DEFAULT 0, metadata jsonb DEFAULT '{}');
CREATE TABLE sales (event_id text PRIMARY KEY, payment_id text, sku text, quantity integer);
CREATE TABLE operations (id uuid PRIMARY KEY, payment_id uuid, kind text, status text, bank_reference text);
CREATE TABLE ledger_transactions (id uuid PRIMARY KEY, payment_id uuid, kind text);
CREATE TABLE ledger_entries (transaction_id uuid, account text, amount bigint, currency text);
CREATE TABLE outbox (id bigint PRIMARY KEY);
"""


@dataclass
class RealEvidence(ListedEvidence):
    """One database holds both sides here; the names of their tables differ."""

    connection: asyncpg.Connection | None = None

    async def sql(self, database: str, query: str, *args: object) -> Sequence[Row]:
        del database
        assert self.connection is not None
        return await self.connection.fetch(query, *args)


@dataclass
class World:
    """Plants rows on both sides."""

    connection: asyncpg.Connection

    def evidence(self, *history: Operation) -> RealEvidence:
        return RealEvidence(connection=self.connection, history=history)

    async def bank_charge(self, key: str, *, captured: int = 1000, refunded: int = 0) -> None:
        charge = f"ch_{next(_numbers)}"
        await self.connection.execute(
            "INSERT INTO charges (id, source, amount, currency, status, captured, refunded, created_at)"
            " VALUES ($1, $2, 1000, 'EUR', 'captured', $3, $4, now())",
            charge, f"tok_{key}", captured, refunded,
        )  # fmt: skip
        effects = [("authorise", 1000), ("capture", captured), *([("refund", refunded)] if refunded else [])]
        await self.connection.executemany(
            "INSERT INTO effects (charge_id, kind, amount, at) VALUES ($1, $2, $3, now())",
            [(charge, kind, amount) for kind, amount in effects],
        )

    async def bank_authorisation(self, key: str) -> None:
        charge = f"ch_{next(_numbers)}"
        await self.connection.execute(
            "INSERT INTO charges (id, source, amount, currency, status, created_at)"
            " VALUES ($1, $2, 1000, 'EUR', 'authorised', now())", charge, f"tok_{key}",
        )  # fmt: skip
        await self.connection.execute(
            "INSERT INTO effects (charge_id, kind, amount, at) VALUES ($1, 'authorise', 1000, now())", charge
        )

    async def payment(self, key: str, status: str = "captured", *, captured: int = 1000, refunded: int = 0) -> UUID:
        identity = uuid4()
        await self.connection.execute(
            "INSERT INTO payments VALUES ($1, 'm', $2, $3, 1000, 'EUR', $4, $5, $6)",
            identity, key, f"tok_{key}", status, captured, refunded,
        )  # fmt: skip
        return identity

    async def ledger(self, payment: UUID, kind: str, *amounts: int) -> None:
        transaction = uuid4()
        await self.connection.execute("INSERT INTO ledger_transactions VALUES ($1, $2, $3)", transaction, payment, kind)
        await self.connection.executemany(
            "INSERT INTO ledger_entries VALUES ($1, 'account', $2, 'EUR')",
            [(transaction, amount) for amount in amounts],
        )

    async def operation(self, payment: UUID, status: str) -> None:
        await self.connection.execute(
            "INSERT INTO operations VALUES ($1, $2, 'authorise', $3, 'ref')", uuid4(), payment, status
        )


@pytest.fixture
async def world(postgres_server: PostgresServer) -> AsyncIterator[World]:
    url = postgres_server.url(f"invariants_{os.getpid()}_{next(_numbers)}")
    await prepare_database(url)
    connection = await asyncpg.connect(url)
    await connection.execute(TABLES)
    yield World(connection)
    await connection.close()


async def test_charges_are_counted_by_captures_that_were_not_refunded_in_full(world: World) -> None:
    await world.bank_charge("once")
    await world.bank_charge("twice")
    await world.bank_charge("twice")
    await world.bank_charge("undone")
    await world.bank_charge("undone", refunded=1000)
    await world.bank_charge("partly", refunded=999)
    await world.bank_authorisation("held")
    assert await p.charges_by_reference(world.evidence()) == {"once": 1, "twice": 2, "undone": 1, "partly": 1}
    history = [operation(key, Outcome.OK) for key in ("once", "twice", "undone", "partly")]
    finding = await p.charged_exactly_once(world.evidence(*history))
    assert (finding.status, finding.offenders) == (Status.BROKEN, ("twice",))


async def test_only_a_payment_that_is_paid_accounts_for_a_charge(world: World) -> None:
    for key, status in (
        ("paid", "captured"),
        ("stuck", "processing"),
        ("denied", "failed"),
        ("back", "partially_refunded"),
    ):
        await world.payment(key, status)
        await world.bank_charge(key)
    await world.bank_charge("stray")
    finding = await p.no_charge_without_payment(world.evidence())
    assert finding.offenders == ("denied", "stray", "stuck")


async def test_amounts_are_compared_where_the_numbers_agree(world: World) -> None:
    await world.bank_charge("right")
    await world.payment("right")
    await world.bank_charge("back", refunded=300)
    await world.payment("back", "partially_refunded", refunded=300)
    await world.bank_charge("more")
    await world.payment("more", captured=999)
    await world.bank_charge("twice")
    await world.bank_charge("twice")
    await world.payment("twice")
    await world.bank_authorisation("held")
    assert (await p.amounts_agree(world.evidence())).offenders == ("more",)


async def test_amounts_of_a_program_without_partial_captures_are_its_whole_amounts(world: World) -> None:
    await world.connection.execute("ALTER TABLE payments DROP COLUMN captured_amount, DROP COLUMN refunded_amount")
    await world.connection.execute(
        "INSERT INTO payments VALUES (gen_random_uuid(), 'm', 'a', 'tok_a', 1000, 'EUR', 'captured')"
    )
    await world.bank_charge("a")
    assert (await p.amounts_agree(world.evidence())).status is Status.HELD


async def test_the_ledger_is_compared_with_itself_and_with_the_payments(world: World) -> None:
    right = await world.payment("right", "partially_refunded", refunded=300)
    await world.ledger(right, "capture", 1000, -970, -30)
    await world.ledger(right, "refund", 300, -300)
    await world.payment("untouched", "processing", captured=0)
    assert (await p.ledger_balances(world.evidence())).status is Status.HELD
    await world.payment("unbooked")
    await world.ledger(await world.payment("lopsided"), "capture", 1000, -999)
    await world.ledger(await world.payment("wrong amount"), "capture", 900, -900)
    twice = await world.payment("booked twice")
    await world.ledger(twice, "capture", 1000, -1000)
    await world.ledger(twice, "capture", 1000, -1000)
    finding = await p.ledger_balances(world.evidence())
    assert set(finding.offenders) == {"unbooked", "lopsided", "wrong amount", "booked twice"}
    assert finding.note == "out of balance by {'EUR': 1}"


async def test_captured_payments_are_matched_with_events_by_type_id(world: World) -> None:
    await world.payment("lost")
    await world.payment("open", "processing", captured=0)
    evidence = world.evidence()
    evidence.records = ()
    assert (await p.one_event_per_capture(evidence)).offenders == ("lost",)


async def test_pending_and_unknown_operations_are_open(world: World) -> None:
    for status in ("pending", "unknown", "succeeded", "failed"):
        await world.operation(await world.payment(status), status)
    assert (await p.no_unknown_left(world.evidence())).offenders == ("pending", "unknown")
    assert await p.still_unknown(world.evidence()) == "2 payments are not certain yet"
    assert await p.still_unpublished(world.evidence()) == ""


async def test_each_charge_for_an_article_is_compared_with_the_sales(world: World) -> None:
    for key, about in (
        ("right", {"sku": "X-1", "quantity": "2"}),
        ("single", {"sku": "X-2"}),
        ("lost", {"sku": "X-3"}),
    ):
        payment = await world.payment(key)
        await world.bank_charge(key)
        await world.connection.execute(
            "UPDATE payments SET metadata = $2::jsonb WHERE id = $1", payment, json.dumps(about)
        )
        if key != "lost":
            await world.connection.execute(
                "INSERT INTO sales VALUES ($1, $2, $3, $4)",
                key, p.type_id("pay", str(payment)), about["sku"], int(about.get("quantity", 1)),
            )  # fmt: skip
    await world.payment("about nothing")
    await world.bank_charge("about nothing")
    finding = await sales.sold_once_for_each_charge(world.evidence())
    assert (finding.offenders, finding.note) == (("lost",), "1 lost")
