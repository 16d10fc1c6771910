"""What the service's own role cannot do, and what the database refuses at COMMIT."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg
import pytest

from services.payments.domain import LedgerUnbalanced
from services.payments.store import connection
from tests.integration.payments.stack import Stack

pytestmark = pytest.mark.integration

NOW = datetime.now(UTC)


@pytest.fixture
async def app(running: Stack) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection as payments_app to a database with at least one booked payment."""
    if not await running.sql("SELECT 1 FROM ledger_entries"):
        assert (await running.pay("for-the-ledger")).status == 201
    db = await asyncpg.connect(running.app_url)
    try:
        yield db
    finally:
        await db.close()


@pytest.mark.parametrize("table", ["ledger_entries", "ledger_transactions"])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE {} SET {} = {}",
        "DELETE FROM {}",
        "TRUNCATE {} CASCADE",
        "ALTER TABLE {} DISABLE TRIGGER ALL",
        "ALTER TABLE {} DISABLE TRIGGER USER",
        "DROP TABLE {} CASCADE",
        "ALTER TABLE {} OWNER TO payments_app",
        "CREATE TRIGGER t BEFORE INSERT ON {} FOR EACH ROW EXECUTE FUNCTION ledger_balances()",
    ],
)
async def test_the_ledger_only_grows(app: asyncpg.Connection[asyncpg.Record], table: str, statement: str) -> None:
    column = "account" if table == "ledger_entries" else "kind"
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await app.execute(statement.format(table, column, column))


@pytest.mark.parametrize(
    "statement",
    [
        "SET session_replication_role = replica",
        "DROP FUNCTION ledger_balances CASCADE",
        "CREATE OR REPLACE FUNCTION ledger_balances() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "SET ROLE payments_owner",
        "DELETE FROM payments",
        "UPDATE payments SET amount = 1",
        "UPDATE payments SET merchant_id = 'mer_other'",
        "UPDATE operations SET amount = 1",
        "INSERT INTO payment_transitions VALUES ('captured', 'authorised')",
        "INSERT INTO api_keys VALUES ('\\x00', 'mer_demo')",
        "CREATE TABLE mine (id int)",
    ],
)
async def test_the_service_has_no_rights_that_it_does_not_need(
    app: asyncpg.Connection[asyncpg.Record], statement: str
) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await app.execute(statement)


async def test_the_service_owns_nothing(running: Stack) -> None:
    owned = "SELECT relname FROM pg_class WHERE relowner = (SELECT oid FROM pg_roles WHERE rolname = 'payments_app')"
    assert not await running.sql(owned)


BOOK = "INSERT INTO ledger_entries (transaction_id, line, account, amount, currency) VALUES ($1, $2, $3, $4, $5)"


async def booking(app: asyncpg.Connection[asyncpg.Record], *entries: tuple[int, str, int, str]) -> None:
    """More entries for a transaction that exists."""
    transaction = await app.fetchval("SELECT id FROM ledger_transactions LIMIT 1")
    for line, account, amount, currency in entries:
        await app.execute(BOOK, transaction, line, account, amount, currency)


@pytest.mark.parametrize(
    "entries",
    [
        [(11, "bank", 1, "EUR")],
        [(11, "bank", 5, "EUR"), (12, "merchant:x", -4, "EUR")],
        [(11, "bank", 5, "EUR"), (12, "merchant:x", -5, "JPY")],
    ],
)
async def test_a_transaction_that_does_not_balance_is_refused_at_commit_and_not_before(
    app: asyncpg.Connection[asyncpg.Record], entries: list[tuple[int, str, int, str]]
) -> None:
    transaction = app.transaction()
    await transaction.start()
    await booking(app, *entries)
    with pytest.raises(asyncpg.CheckViolationError) as refused:
        await transaction.commit()
    assert refused.value.constraint_name == "ledger_balances"


async def test_constraints_cannot_be_put_off_beyond_the_commit(app: asyncpg.Connection[asyncpg.Record]) -> None:
    transaction = app.transaction()
    await transaction.start()
    await app.execute("SET CONSTRAINTS ALL DEFERRED")
    await booking(app, (11, "bank", 1, "EUR"))
    with pytest.raises(asyncpg.CheckViolationError):
        await transaction.commit()


async def test_the_store_maps_the_refusal(running: Stack) -> None:
    async with await asyncpg.create_pool(running.app_url, min_size=1, max_size=1) as pool:

        async def book() -> None:
            async with connection(pool) as db:
                transaction = await db.fetchval("SELECT id FROM ledger_transactions LIMIT 1")
                await db.execute(BOOK, transaction, 21, "bank", 7, "EUR")

        with pytest.raises(LedgerUnbalanced):
            await book()


ILLEGAL = [
    ("captured", "authorised"), ("captured", "processing"), ("failed", "captured"), ("voided", "captured"),
    ("refunded", "captured"), ("expired", "captured"), ("processing", "voided"), ("processing", "refunded"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "then"), ILLEGAL)
async def test_the_database_refuses_an_illegal_transition(running: Stack, before: str, then: str) -> None:
    refund = {"refunded": 10}
    captured = {"captured": 10, "refunded": 10}
    db = await asyncpg.connect(running.postgres.url(running.database))
    try:
        identity = await db.fetchval("SELECT gen_random_uuid()")
        await db.execute("ALTER TABLE payments DISABLE TRIGGER payment_begins")
        try:
            await db.execute(
                "INSERT INTO payments (id, merchant_id, reference, active_reference, source, amount, currency, automatic_capture,"
                " status, captured_amount, refunded_amount, created_at, updated_at)"
                " VALUES ($1, 'mer_x', $1::uuid::text, $2, 'tok', 10, 'EUR', true, $3, $4, $5, now(), now())",
                identity,
                None if before == "failed" else str(identity),
                before,
                captured.get(before, 0),
                refund.get(before, 0),
            )
        finally:
            await db.execute("ALTER TABLE payments ENABLE TRIGGER payment_begins")
        with pytest.raises(asyncpg.CheckViolationError) as refused:
            await db.execute("UPDATE payments SET status = $2 WHERE id = $1", identity, then)
        assert refused.value.constraint_name == "payment_transition"
    finally:
        await db.close()


@pytest.mark.parametrize(
    "change",
    [
        "captured_amount = amount + 1",
        "captured_amount = -1",
        "refunded_amount = captured_amount + 1",
        "status = 'paid'",
        "status = 'partially_refunded'",
        "captured_amount = captured_amount - 1",
        "active_reference = NULL",
        "active_reference = 'another'",
    ],
)
async def test_the_database_refuses_amounts_and_states_that_do_not_fit(
    app: asyncpg.Connection[asyncpg.Record], change: str
) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await app.execute(f"UPDATE payments SET {change} WHERE status = 'captured'")


async def test_a_payment_has_one_undecided_operation_at_most_and_a_decided_one_stays_decided(
    app: asyncpg.Connection[asyncpg.Record],
) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await app.execute("UPDATE operations SET status = 'unknown', resolved_at = NULL WHERE status = 'succeeded'")
    with pytest.raises(asyncpg.CheckViolationError):
        await app.execute("UPDATE operations SET attempts = 99 WHERE status = 'succeeded'")
    insert = (
        "INSERT INTO operations (id, payment_id, kind, amount, status, bank_reference, due_at, created_at)"
        " SELECT gen_random_uuid(), (SELECT id FROM payments LIMIT 1), 'refund', 1, 'pending', 'x', now() + interval '1 day', now()"
        " FROM generate_series(1, 2)"
    )
    with pytest.raises(asyncpg.UniqueViolationError):
        await app.execute(insert)
