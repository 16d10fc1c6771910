"""The reconciler on 100,000 settled payments with seeded mistakes: how long, how many found, how many false alarms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from time import monotonic, process_time
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg

from benchmarks.figures.payments import ReconciliationFigures
from services.kit import ids, postgres
from services.payments.domain import OPERATION_PREFIX
from services.payments.reconciler import Reconciler
from services.simulators.bank.behaviours import SettlementMistakes
from services.simulators.bank.settlement import HEADER, Line, as_csv, settle

MISTAKES = SettlementMistakes(missing=0.001, extra=0.001, wrong_amount=0.001, duplicate=0.001, seed=42)
FINDING_OF = {
    "missing": "missing_there",
    "extra": "missing_here",
    "wrong_amount": "amount",
    "duplicate": "duplicate",
}
MERCHANT = "mer_bench"


async def measure(url: str, *, rows: int) -> ReconciliationFigures:
    """In a migrated, empty payments database: fill it, compare an honest file, then one with mistakes.

    `url` is a superuser's. `cpu_seconds` are of this process, which does the reconciler's work; Postgres' come on top.
    """
    now = datetime.now(UTC)
    if now.hour == 0:
        now -= timedelta(hours=1)
    at = now - timedelta(minutes=10)
    effects = await _fill(url, rows, at)
    honest = (HEADER + as_csv(settle(at.date(), effects, SettlementMistakes()).lines)).encode()
    settlement = settle(at.date(), effects, MISTAKES)
    async with await postgres.create_pool(url, name="bench-reconciler", statement_timeout_ms=60_000) as pool:
        reconciler = Reconciler(pool)
        alarms = len((await reconciler.compare(at.date(), honest, now)).findings)
        begun, cpu = monotonic(), process_time()
        result = await reconciler.compare(at.date(), (HEADER + as_csv(settlement.lines)).encode(), now)
        seconds, cpu_seconds = monotonic() - begun, process_time() - cpu
    expected = Counter(FINDING_OF[each.mistake] for each in settlement.planted)
    found = Counter(each.kind.value for each in result.findings)
    return ReconciliationFigures(
        lines=result.lines,
        seconds=round(seconds, 2),
        cpu_seconds=round(cpu_seconds, 2),
        planted=expected.total(),
        recall=round((expected & found).total() / expected.total(), 4),
        false_alarms=alarms + (found - expected).total(),
    )


async def _fill(url: str, rows: int, at: datetime) -> Sequence[Line]:
    operations = [ids.uuid7(at_ms=int(at.timestamp() * 1000)) for _ in range(rows)]
    payments = [ids.uuid7() for _ in range(rows)]
    amounts = [100 + number % 9_900 for number in range(rows)]
    connection = await asyncpg.connect(urlsplit(url).geturl())
    try:
        # Rows in their final state: the triggers that watch transitions are not what is measured here.
        await connection.execute("SET session_replication_role = replica")
        await _copy(connection, operations, payments, amounts, at)
        await connection.execute("VACUUM ANALYZE payments, operations, ledger_transactions, ledger_entries")
    finally:
        await connection.close()
    return [
        Line(
            number,
            f"ch_{number}",
            ids.encode(OPERATION_PREFIX, operation),
            "capture",
            amount,
            "EUR",
            f"tok_{number}",
            at,
        )
        for number, (operation, amount) in enumerate(zip(operations, amounts, strict=True))
    ]


async def _copy(
    connection: asyncpg.Connection[asyncpg.Record],
    operations: Sequence[UUID],
    payments: Sequence[UUID],
    amounts: Sequence[int],
    at: datetime,
) -> None:
    each = list(zip(range(len(payments)), payments, operations, amounts, strict=True))
    await connection.copy_records_to_table(
        "payments",
        columns=("id", "merchant_id", "reference", "active_reference", "source", "amount", "currency", "automatic_capture",
                 "status", "captured_amount", "created_at", "updated_at"),
        records=[(payment, MERCHANT, f"r{n}", f"r{n}", f"tok_{n}", amount, "EUR", True, "captured", amount, at, at)
                 for n, payment, _, amount in each],
    )  # fmt: skip
    await connection.copy_records_to_table(
        "operations",
        columns=("id", "payment_id", "kind", "amount", "status", "bank_reference", "due_at", "created_at", "resolved_at"),
        records=[(operation, payment, "authorise", amount, "succeeded", ids.encode(OPERATION_PREFIX, operation), at, at, at)
                 for _, payment, operation, amount in each],
    )  # fmt: skip
    await connection.copy_records_to_table(
        "ledger_transactions",
        columns=("id", "payment_id", "kind", "created_at"),
        records=[(operation, payment, "capture", at) for _, payment, operation, _ in each],
    )
    entries = [
        (operation, line, account, sign * amount, "EUR")
        for _, _, operation, amount in each
        for line, account, sign in ((1, "bank", 1), (2, f"merchant:{MERCHANT}", -1))
    ]
    columns = ("transaction_id", "line", "account", "amount", "currency")
    await connection.copy_records_to_table("ledger_entries", columns=columns, records=entries)
