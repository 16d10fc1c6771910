"""Reconciliations that a schedule orders, by Kafka: each run is carried out once, and what it found is kept.

Cron writes a command to `cron.reconciliation.v1`, with the run's id, which is the same for every try. A command that is too
late is dropped: the next one asks for the same.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from services.kit import kafka, tracing
from services.kit.clock import Clock
from services.kit.consumer import Record, processing
from services.kit.kafka import dead_letter
from services.patterns.deadline import DeadlineMalformed, Handling, MessageKind, handling
from services.patterns.dlq import DeadLetter, Unprocessable
from services.payments import metrics
from services.payments.reconcile import MalformedFile
from services.payments.store import ReconciliationStore

log = logging.getLogger(__name__)

GROUP = "payments.reconciliation"
LONGEST_RUN_ID = 100


class Order(msgspec.Struct, frozen=True):
    """The job's body, all of it optional. `because`: a traceparent that the comparison is to be linked with."""

    because: str | None = None


class Ended(StrEnum):
    """How a scheduled reconciliation went."""

    COMPARED = "compared"
    MALFORMED_FILE = "malformed_file"


@dataclass(frozen=True, slots=True)
class Command:
    """A record that can be read."""

    run_id: str
    because: str | None
    late: bool


def read(record: Record, clock: Clock) -> Command:
    """Raises Unprocessable."""
    run_id = kafka.header(record.headers, "ce_id")
    if run_id is None or not 0 < len(run_id) <= LONGEST_RUN_ID or "\x00" in run_id:
        raise Unprocessable("no_run", "ce_id must hold the id of a run, of at most 100 characters.")
    try:
        order = msgspec.json.decode(record.value or b"", type=Order)
        late = handling(MessageKind.COMMAND, kafka.header(record.headers, "ce_expirytime"), clock.now())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Unprocessable("malformed_body", "The body is no JSON object of a reconciliation's order.") from None
    except DeadlineMalformed:
        raise Unprocessable("malformed_head", "ce_expirytime is no instant.") from None
    return Command(run_id, tracing.valid(order.because), late is Handling.DROP)


@dataclass(slots=True)
class Scheduled:
    """`compare` is one round of the reconciler; it raises BankUnavailable, StoreUnavailable, MalformedFile."""

    store: ReconciliationStore
    compare: Callable[[str | None], Awaitable[int]]
    clock: Clock
    group: str = GROUP

    async def work(self, records: Sequence[Record]) -> list[DeadLetter]:
        """Carry out what these ask for; return what cannot be read. Raises BankUnavailable, StoreUnavailable."""
        parked: list[DeadLetter] = []
        for record in records:
            try:
                await self._one(record, read(record, self.clock))
            except Unprocessable as why:
                parked.append(dead_letter(record, why))
        return parked

    async def _one(self, record: Record, command: Command) -> None:
        if command.late:
            metrics.SCHEDULED.labels("late").inc()
            return
        if await self.store.run_is_known(command.run_id):
            metrics.SCHEDULED.labels("known").inc()
            return
        with processing(record, self.group, links=[command.because]):
            ended, findings = Ended.COMPARED, 0
            try:
                findings = await self.compare(tracing.current_traceparent())
            except MalformedFile as error:
                log.warning("the bank's file cannot be read", extra={"error": str(error)})
                ended = Ended.MALFORMED_FILE
            await self.store.keep_run(command.run_id, ended.value, findings, tracing.to_link())
        metrics.SCHEDULED.labels(ended.value).inc()
