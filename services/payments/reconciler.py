"""Compares the bank's settlement file of today and of yesterday with payments and ledger, again and again.

`python -m services.payments reconciler` runs the process; `... reconciler --file x.csv --day 2026-11-22 --once` compares one
file and prints what it found. The same file twice changes nothing; a newer version of a day's file clears what it no longer
shows.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import logging
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
from fastapi import FastAPI

from services.kit import ids, postgres
from services.kit.clock import Clock, SystemClock
from services.kit.failpoint import failpoint
from services.kit.http import Tasks, serve, service_app
from services.kit.settings import ProcessSettings, load, refuse_default_secrets
from services.payments import failpoints, metrics
from services.payments.bank import Bank, BankUnavailable
from services.payments.handlers import OPERATION_PREFIX
from services.payments.reconcile import Finding, FindingKind, Line, MalformedFile, Ours, parse, reconcile
from services.payments.settings import PaymentsSettings
from services.payments.store import StoreUnavailable, connection

if TYPE_CHECKING:
    from services.payments.store import Connection, Pool

log = logging.getLogger(__name__)

CHUNK = 5_000
STATEMENT_SECONDS = 60.0

# Operation ids are UUIDv7, so a day of them is a range of the primary key; nothing else needs an index by time.
_OURS = """
SELECT o.id, o.kind, o.status, o.amount, p.currency, p.automatic_capture, o.created_at, o.resolved_at,
       (SELECT abs(sum(e.amount))::bigint FROM ledger_entries e WHERE e.transaction_id = o.id AND e.account = 'bank') AS booked
FROM operations o JOIN payments p ON p.id = o.payment_id
"""
_OURS_OF_DAY = _OURS + "WHERE o.id >= $1 AND o.id < $2"
_OURS_NAMED = _OURS + "WHERE o.id = ANY($1::uuid[])"

_FILE = """
INSERT INTO settlement_files (sha256, day, lines, findings, cut_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING RETURNING 1
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
_OPEN = "SELECT kind, count(*) AS n FROM reconciliation_findings WHERE cleared_at IS NULL GROUP BY kind"


@dataclass(frozen=True, slots=True)
class Result:
    """`new` is False if the very same file had been compared before; then nothing was written."""

    day: date
    new: bool
    lines: int
    findings: tuple[Finding, ...]


class Reconciler:
    """Reads payments and ledger, writes findings. Every method raises StoreUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def compare(self, day: date, content: bytes, cut: datetime) -> Result:
        """Compare a file that the bank made after `cut`. Raises MalformedFile."""
        digest = hashlib.sha256(day.isoformat().encode() + b"\n" + content).digest()
        async with connection(self._pool) as db:
            if await db.fetchval("SELECT EXISTS (SELECT FROM settlement_files WHERE sha256 = $1)", digest):
                return Result(day, False, 0, ())
            try:
                lines = list(await asyncio.to_thread(_parsed, content))
            except UnicodeDecodeError:
                raise MalformedFile("The settlement file is not UTF-8.") from None
            ours = await self._ours(db, day, lines)
        findings = tuple(await asyncio.to_thread(lambda: list(reconcile(day, lines, ours, cut))))
        async with connection(self._pool) as db, db.transaction():
            # One day's files take turns; readers are not held up.
            await db.execute("SELECT pg_advisory_xact_lock($1)", day.toordinal())
            if await db.fetchval(_FILE, digest, day, len(lines), len(findings), cut) is None:
                return Result(day, False, 0, ())
            await db.execute(_CLEAR, day)
            await db.execute(_FINDING, day, *_columns(findings))
        metrics.RECONCILED_LINES.inc(len(lines))
        return Result(day, True, len(lines), findings)

    async def open_findings(self) -> dict[str, int]:
        """Counts by kind."""
        async with connection(self._pool) as db:
            counts = {row["kind"]: row["n"] for row in await db.fetch(_OPEN)}
        return {kind.value: counts.get(kind.value, 0) for kind in FindingKind}

    async def _ours(self, db: Connection, day: date, lines: Iterable[Line]) -> dict[str, Ours]:
        # One day before as well: an operation that began yesterday may have been decided today.
        begin, end = _first_id(day - timedelta(days=1)), _first_id(day + timedelta(days=1))
        ours: dict[str, Ours] = {}
        async with db.transaction(readonly=True):
            async for row in db.cursor(_OURS_OF_DAY, begin, end, prefetch=CHUNK):
                own = _own(row)
                ours[own.reference] = own
        missing = [found for line in lines if line.reference not in ours and (found := _operation_id(line.reference))]
        for at in range(0, len(missing), CHUNK):
            for row in await db.fetch(_OURS_NAMED, missing[at : at + CHUNK]):
                own = _own(row)
                ours[own.reference] = own
        return ours


def _parsed(content: bytes) -> list[Line]:
    return list(parse(content.decode()))


def _operation_id(reference: str) -> UUID | None:
    return ids.decode(OPERATION_PREFIX, reference)


def _first_id(day: date) -> UUID:
    midnight = datetime.combine(day, time(), UTC)
    return UUID(int=int(midnight.timestamp() * 1000) << 80)


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


@dataclass(slots=True)
class Rounds:
    """The loop of the process."""

    reconciler: Reconciler
    bank: Bank
    clock: Clock
    interval: float

    async def run(self) -> None:
        """Compare until cancelled."""
        while True:
            try:
                await self.round()
            except (BankUnavailable, StoreUnavailable, MalformedFile) as error:
                log.warning("not reconciled this time", extra={"error": str(error)})
            await asyncio.sleep(self.interval)

    async def round(self) -> None:
        """Yesterday's file, then today's. Raises BankUnavailable, StoreUnavailable, MalformedFile."""
        today = self.clock.now().astimezone(UTC).date()
        for day in (today - timedelta(days=1), today):
            # Whatever we knew as done before the request must be in the answer.
            cut = self.clock.now()
            content = await self.bank.settlement(day)
            await failpoint(failpoints.RECONCILER_AFTER_FETCH)
            result = await self.reconciler.compare(day, content, cut)
            await failpoint(failpoints.RECONCILER_AFTER_COMMIT)
            if result.new:
                log.info("reconciled", extra={"day": str(day), "lines": result.lines, "findings": len(result.findings)})
        for kind, count in (await self.reconciler.open_findings()).items():
            metrics.FINDINGS.labels(kind).set(count)


def create_worker(
    process: ProcessSettings, settings: PaymentsSettings, *, clock: Clock | None = None
) -> tuple[FastAPI, Tasks]:
    """The reconciler process."""
    failpoints.register(*failpoints.RECONCILER)
    tasks = Tasks()
    pools: list[Pool] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        bank = Bank(settings.bank_url, settings.bank_api_key.get_secret_value(), timeout=settings.bank_timeout_seconds)
        async with await _pool(settings) as pool, bank:
            pools.append(pool)
            rounds = Rounds(Reconciler(pool), bank, clock or SystemClock(), settings.reconciler_interval_seconds)
            tasks.start("reconciler", rounds.run())
            yield
            await tasks.stop()
            pools.clear()

    async def database() -> bool:
        return bool(pools) and await postgres.answers(pools[0])

    return service_app("payments-reconciler", process, lifespan=lifespan, checks={"database": database}), tasks


async def _pool(settings: PaymentsSettings) -> Pool:
    return await postgres.create_pool(
        settings.database_url.get_secret_value(),
        name="payments-reconciler",
        minimum=1,
        maximum=3,
        statement_timeout_ms=int(STATEMENT_SECONDS * 1000),
    )


async def compare_file(settings: PaymentsSettings, path: Path, day: date) -> Result:
    """Compare one file from disk, made when it was last modified. Raises StoreUnavailable, MalformedFile, OSError."""
    content = await asyncio.to_thread(path.read_bytes)
    made = datetime.fromtimestamp((await asyncio.to_thread(path.stat)).st_mtime, UTC)
    async with await _pool(settings) as pool:
        return await Reconciler(pool).compare(day, content, made)


def main(arguments: list[str]) -> int:
    """The process, or with --file one comparison. Exit 0 without findings, 1 with, 2 for wrong usage or a bad file."""
    parser = argparse.ArgumentParser(prog="python -m services.payments reconciler")
    parser.add_argument("--file", type=Path, help="compare this settlement file instead of asking the bank")
    parser.add_argument("--day", type=date.fromisoformat, help="the file's day (UTC), default today")
    parser.add_argument("--once", action="store_true", help="with --file: stop after one comparison")
    options = parser.parse_args(arguments)
    if (options.file is None) == options.once:
        parser.error("--file and --once belong together")
    settings = load(PaymentsSettings)
    if options.file is None:
        process = load(ProcessSettings)
        refuse_default_secrets(process, settings)
        app, tasks = create_worker(process, settings)
        serve(app, process, name="payments-reconciler", tasks=tasks)
        return 0
    try:
        result = asyncio.run(compare_file(settings, options.file, options.day or datetime.now(UTC).date()))
    except (OSError, MalformedFile, StoreUnavailable) as error:
        sys.stderr.write(f"Not reconciled: {error}\n")
        return 2
    return _print(result)


def _print(result: Result) -> int:
    if not result.new:
        sys.stdout.write("This very file was compared before; nothing changed.\n")
        return 0
    counts = Counter(finding.kind.value for finding in result.findings)
    said = ", ".join(f"{kind} {counts[kind]}" for kind in FindingKind)
    sys.stdout.write(f"{result.day}: {result.lines} lines, {len(result.findings)} findings: {said}\n")
    for finding in result.findings[:100]:
        expected = "-" if finding.expected is None else finding.expected
        actual = "-" if finding.actual is None else finding.actual
        sys.stdout.write(
            f"{finding.kind.value} {finding.side.value} {finding.subject} {finding.operation_kind} "
            f"expected {expected} found {actual} {finding.currency}\n"
        )
    return 1 if result.findings else 0
