"""What the reconciler reads of payments and ledger, and the findings it keeps."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

import asyncpg

from services.kit import ids
from services.payments.domain import OPERATION_PREFIX
from services.payments.reconcile import Finding, FindingKind, Ours
from services.payments.store.connection import Connection, Pool, connection

CHUNK = 5_000

# Operation ids are UUIDv7, so a day of them is a range of the primary key; nothing else needs an index by time.
_OURS = """
SELECT o.id, o.kind, o.status, o.amount, p.currency, p.automatic_capture, o.created_at, o.resolved_at,
       (SELECT abs(sum(e.amount))::bigint FROM ledger_entries e WHERE e.transaction_id = o.id AND e.account = 'bank') AS booked
FROM operations o JOIN payments p ON p.id = o.payment_id
"""
_OURS_BEGAN = _OURS + "WHERE o.id >= $1 AND o.id < $2"
_OURS_NAMED = _OURS + "WHERE o.id = ANY($1::uuid[])"

_FILE = """
INSERT INTO settlement_files AS old (sha256, day, lines, findings, cut_at, received_at)
VALUES ($1, $2, $3, $4, $5, clock_timestamp())
ON CONFLICT (sha256) DO UPDATE
    SET findings = excluded.findings, cut_at = greatest(old.cut_at, excluded.cut_at), received_at = excluded.received_at
"""
# Also the very same file says something new once an operation has been decided that it ought to show.
_UP_TO_DATE = """
SELECT EXISTS (
    SELECT FROM (SELECT sha256, cut_at FROM settlement_files WHERE day = $2 ORDER BY received_at DESC LIMIT 1) f
    WHERE f.sha256 = $1 AND NOT EXISTS (
        SELECT FROM operations o WHERE o.id >= $4 AND o.id < $5 AND o.resolved_at >= f.cut_at AND o.resolved_at < $3))
"""
_CLEAR = "UPDATE reconciliation_findings SET cleared_at = now() WHERE day = $1 AND cleared_at IS NULL"
_FINDING = """
INSERT INTO reconciliation_findings
    (day, kind, side, subject, operation_kind, payment_id, expected_amount, actual_amount, currency)
SELECT $1, f.kind, f.side, f.subject, f.operation_kind, o.payment_id, f.expected, f.actual, f.currency
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::text[], $9::uuid[])
    AS f (kind, side, subject, operation_kind, expected, actual, currency, operation_id)
LEFT JOIN operations o ON o.id = f.operation_id
ON CONFLICT (day, kind, side, subject, operation_kind) DO UPDATE
    SET cleared_at = NULL, expected_amount = excluded.expected_amount, actual_amount = excluded.actual_amount
"""
_TRACES = "SELECT traceparent FROM operations WHERE id = ANY($1::uuid[]) AND traceparent IS NOT NULL"
_RUN_KNOWN = "SELECT EXISTS (SELECT FROM scheduled_reconciliations WHERE run_id = $1)"
_KEEP_RUN = """
WITH old AS (DELETE FROM scheduled_reconciliations WHERE compared_at < now() - interval '30 days')
INSERT INTO scheduled_reconciliations (run_id, outcome, open_findings, traceparent) VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING
"""
_OPEN = "SELECT kind, count(*) AS n FROM reconciliation_findings WHERE cleared_at IS NULL GROUP BY kind"


class ReconciliationStore:
    """Every method raises StoreUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def up_to_date(self, digest: bytes, day: date, cut: datetime) -> bool:
        """Whether this is the day's latest file, and no operation was decided since it was compared and before `cut`."""
        async with connection(self._pool) as db:
            return await _up_to_date(db, digest, day, cut)

    async def operations(self, begin: datetime, end: datetime) -> AsyncGenerator[list[Ours], None]:
        """Those that began from `begin` to before `end`, as they all were at one moment; CHUNK at a time."""
        async with connection(self._pool) as db, db.transaction(readonly=True):
            cursor = await db.cursor(_OURS_BEGAN, _first_id(begin), _first_id(end))
            while rows := await cursor.fetch(CHUNK):
                yield [_own(row) for row in rows]

    async def named(self, references: Iterable[str]) -> AsyncGenerator[list[Ours], None]:
        """Those of these references that are ours; CHUNK at a time."""
        wanted = [found for each in references if (found := _operation_id(each))]
        for at in range(0, len(wanted), CHUNK):
            async with connection(self._pool) as db:
                rows = await db.fetch(_OURS_NAMED, wanted[at : at + CHUNK])
            yield [_own(row) for row in rows]

    async def record(self, digest: bytes, day: date, lines: int, findings: tuple[Finding, ...], cut: datetime) -> bool:
        """Keep a file's findings, and clear those of the day that it no longer shows. False if it was `up_to_date`."""
        async with connection(self._pool) as db, db.transaction():
            # One day's files take turns; readers are not held up.
            await db.execute("SELECT pg_advisory_xact_lock($1)", day.toordinal())
            if await _up_to_date(db, digest, day, cut):
                return False
            await db.execute(_FILE, digest, day, lines, len(findings), cut)
            await db.execute(_CLEAR, day)
            await db.execute(_FINDING, day, *_columns(findings))
        return True

    async def traces(self, findings: Iterable[Finding], limit: int) -> list[str]:
        """Traceparents of the operations that findings name, as far as they are known."""
        named = [found for each in findings if (found := _operation_id(each.subject))][:limit]
        async with connection(self._pool) as db:
            return [row["traceparent"] for row in await db.fetch(_TRACES, named)]

    async def open_findings(self) -> dict[str, int]:
        """Counts by kind."""
        async with connection(self._pool) as db:
            counts = {row["kind"]: row["n"] for row in await db.fetch(_OPEN)}
        return {kind.value: counts.get(kind.value, 0) for kind in FindingKind}

    async def run_is_known(self, run_id: str) -> bool:
        """Whether a schedule's run was carried out before."""
        async with connection(self._pool) as db:
            return bool(await db.fetchval(_RUN_KNOWN, run_id))

    async def keep_run(self, run_id: str, outcome: str, findings: int, traceparent: str | None) -> None:
        """Remember it for thirty days; `findings` are those of all days that are open now."""
        async with connection(self._pool) as db:
            await db.execute(_KEEP_RUN, run_id, outcome, findings, traceparent)


async def _up_to_date(db: Connection, digest: bytes, day: date, cut: datetime) -> bool:
    return bool(await db.fetchval(_UP_TO_DATE, digest, day, cut, *_range(day)))


def _operation_id(reference: str) -> UUID | None:
    return ids.decode(OPERATION_PREFIX, reference)


def _range(day: date) -> tuple[UUID, UUID]:
    # One day before as well: an operation that began yesterday may have been decided today.
    midnight = datetime.combine(day, time(), UTC)
    return _first_id(midnight - timedelta(days=1)), _first_id(midnight + timedelta(days=1))


def _first_id(moment: datetime) -> UUID:
    return UUID(int=int(moment.timestamp() * 1000) << 80)


def _own(row: asyncpg.Record) -> Ours:
    kind: str = row["kind"]
    moves = {"capture": "capture", "refund": "refund", "authorise": "capture" if row["automatic_capture"] else None}
    return Ours(
        reference=ids.encode(OPERATION_PREFIX, row["id"]),
        kind=moves.get(kind),
        amount=row["amount"],
        currency=row["currency"],
        began_at=row["created_at"],
        ended_at=row["resolved_at"],
        decided={"succeeded": True, "failed": False}.get(row["status"]),
        ledger_amount=row["booked"],
    )


def _columns(findings: Iterable[Finding]) -> list[list[object]]:
    # A subject may be wrong twice in the same way (a line three times); the table holds it once.
    unique = {(each.kind, each.side, each.subject, each.operation_kind): each for each in findings}.values()
    return [
        [each.kind.value for each in unique],
        [each.side.value for each in unique],
        [each.subject for each in unique],
        [each.operation_kind for each in unique],
        [each.expected for each in unique],
        [each.actual for each in unique],
        [each.currency for each in unique],
        [_operation_id(each.subject) for each in unique],
    ]
