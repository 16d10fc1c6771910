"""Compares the bank's settlement file of today and of yesterday with payments and ledger, again and again, and on order.

`python -m services.payments reconciler` runs the process; `... reconciler --file x.csv --day 2026-11-22 --once` compares one
file and prints what it found. The same file twice changes nothing, unless we have decided an operation in between; a newer
version of a day's file clears what it no longer shows.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import io
import logging
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from fastapi import FastAPI

from services.contracts.topics import CRON_RECONCILIATIONS, PAYMENTS_RECONCILIATIONS_DLQ
from services.kit import postgres, tracing
from services.kit.clock import Clock, SystemClock
from services.kit.consumer import Observer, Reading, TopicConsumer
from services.kit.current import Current
from services.kit.failpoint import failpoint
from services.kit.http import Tasks, serve, service_app
from services.kit.settings import ProcessSettings, load, refuse_default_secrets
from services.patterns.dlq import DeadLetter
from services.payments import failpoints, metrics
from services.payments.bank import Bank, BankUnavailable, bank_client
from services.payments.portions import PORTION_LINES, Portion, split
from services.payments.reconcile import Comparison, Finding, FindingKind, MalformedFile, Ours, parse
from services.payments.scheduled import GROUP, Scheduled
from services.payments.settings import PaymentsSettings
from services.payments.store import Pool, ReconciliationStore, StoreUnavailable

log = logging.getLogger(__name__)

STATEMENT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Result:
    """`new` is False if the very same file had been compared with all we know before; then nothing was written."""

    day: date
    new: bool
    lines: int
    findings: tuple[Finding, ...]


class Reconciler:
    """Compares files and keeps what it finds. Every method raises StoreUnavailable."""

    def __init__(self, pool: Pool, portion_lines: int = PORTION_LINES) -> None:
        self._store = ReconciliationStore(pool)
        self._portion_lines = portion_lines

    async def compare(self, day: date, content: bytes, cut: datetime) -> Result:
        """Compare a file that the bank made after `cut`. Raises MalformedFile."""
        digest = hashlib.sha256(day.isoformat().encode() + b"\n" + content).digest()
        if await self._store.up_to_date(digest, day, cut):
            return Result(day, False, 0, ())
        try:
            portions = await asyncio.to_thread(_portions, day, content, self._portion_lines)
        except UnicodeDecodeError:
            raise MalformedFile("The settlement file is not UTF-8.") from None
        lines = sum(len(each.packed) for each in portions)
        findings = tuple([finding for each in portions for finding in await self._compared(day, cut, each)])
        if not await self._store.record(digest, day, lines, findings, cut):
            return Result(day, False, 0, ())
        metrics.RECONCILED_LINES.inc(lines)
        return Result(day, True, lines, findings)

    async def _compared(self, day: date, cut: datetime, portion: Portion) -> list[Finding]:
        comparison = await asyncio.to_thread(lambda: Comparison(day, cut, portion.lines()))
        found = comparison.doubled
        if portion.began is not None:
            async with aclosing(self._store.operations(*portion.began)) as operations:
                async for some in operations:
                    found += await asyncio.to_thread(_against, comparison, some)
        async with aclosing(self._store.named(comparison.unmet)) as operations:
            async for some in operations:
                found += await asyncio.to_thread(_against, comparison, some)
        return [*found, *comparison.rest()]

    async def traces(self, findings: Sequence[Finding]) -> list[str]:
        """Where the operations began that something was found of; tracing.MOST_LINKS at most."""
        return await self._store.traces(findings, tracing.MOST_LINKS)

    async def open_findings(self) -> dict[str, int]:
        """Counts by kind."""
        return await self._store.open_findings()

    @property
    def store(self) -> ReconciliationStore:
        """For what a schedule orders."""
        return self._store


def _against(comparison: Comparison, operations: Sequence[Ours]) -> list[Finding]:
    return list(comparison.against(operations))


def _portions(day: date, content: bytes, size: int) -> list[Portion]:
    with io.TextIOWrapper(io.BytesIO(content), "utf-8", newline="") as text:
        return split(day, parse(text), size)


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

    async def round(self, parent: str | None = None) -> int:
        """Yesterday's file, then today's; how many findings are open then. `parent`: the traceparent of who ordered it.

        Raises BankUnavailable, StoreUnavailable, MalformedFile.
        """
        with tracing.span("reconcile", parent=parent, new_trace=parent is None) as span:
            return await self._round(span)

    async def _round(self, span: tracing.Span) -> int:
        today = self.clock.now().astimezone(UTC).date()
        for day in (today - timedelta(days=1), today):
            # Whatever we knew as done before the request must be in the answer.
            cut = self.clock.now()
            content = await self.bank.settlement(day)
            await failpoint(failpoints.RECONCILER_AFTER_FETCH)
            result = await self.reconciler.compare(day, content, cut)
            await failpoint(failpoints.RECONCILER_AFTER_COMMIT)
            if result.new:
                for traceparent in await self.reconciler.traces(result.findings) if span.recorded else ():
                    span.link(traceparent)
                log.info("reconciled", extra={"day": str(day), "lines": result.lines, "findings": len(result.findings)})
        found = await self.reconciler.open_findings()
        for kind, count in found.items():
            metrics.FINDINGS.labels(kind).set(count)
        return sum(found.values())

    def scheduled(self, settings: PaymentsSettings, prefix: str) -> TopicConsumer:
        """Takes the orders of a schedule, beside the loop's own rounds."""
        orders = Scheduled(self.reconciler.store, self.round, self.clock, prefix + GROUP)
        reading = Reading(
            "payments-reconciler",
            settings.kafka_bootstrap,
            prefix + CRON_RECONCILIATIONS.name,
            prefix + PAYMENTS_RECONCILIATIONS_DLQ.name,
            prefix + GROUP,
            batch=10,
        )
        away = (BankUnavailable, StoreUnavailable)
        return TopicConsumer(reading, orders.work, away=away, observer=OrdersObserver())


class OrdersObserver(Observer):
    """Keeps the metrics of what a schedule orders."""

    def waiting(self, records: int) -> None:
        metrics.SCHEDULED_LAG.set(records)

    def parked(self, letter: DeadLetter) -> None:
        metrics.SCHEDULED.labels("parked").inc()


def create_worker(
    process: ProcessSettings, settings: PaymentsSettings, *, clock: Clock | None = None
) -> tuple[FastAPI, Tasks]:
    """The reconciler process."""
    failpoints.register(*failpoints.RECONCILER)
    tasks, current = Tasks(), Current[Pool]()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        bank = bank_client(settings)
        async with await _pool(settings) as pool, bank:
            rounds = Rounds(Reconciler(pool), bank, clock or SystemClock(), settings.reconciler_interval_seconds)
            with current.holding(pool):
                tasks.start("reconciler", rounds.run())
                tasks.start("scheduled", rounds.scheduled(settings, process.lab_prefix).run())
                yield
                await tasks.stop()

    checks = {"database": current.ready(postgres.answers)}
    return service_app("payments-reconciler", process, lifespan=lifespan, checks=checks), tasks


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
