"""Evidence made of lists: what the stores would answer to each query, by the table it reads from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from labs.engine.model import (
    SEARCH_ENGINE,
    EvidenceError,
    FaultRecord,
    Json,
    NotApplicableError,
    Operation,
    Outcome,
    Phase,
    Row,
    TopicRecord,
    Variant,
    VariantRole,
)

START = datetime(2026, 1, 1, tzinfo=UTC)


def operation(key: str, outcome: Outcome) -> Operation:
    return Operation(
        id=key, key=key, kind="payment", phase=Phase.INJECT, intended_at=1.0, sent_at=1.0, done_at=2.0, attempts=1,
        status=201, outcome=outcome, error=None, result={},
    )  # fmt: skip


def event(payment: str, event_id: str, *, kind: str = "captured", reference: str = "") -> TopicRecord:
    headers = {"ce_id": event_id, "ce_type": f"payments.payment.{kind}", "ce_subject": payment}
    value = f'{{"reference": "{reference}", "sequence": 1}}'.encode()
    return TopicRecord("payments.payment.v1", 0, 0, payment, headers, value, 3.0)


@dataclass
class ListedEvidence:
    """`answers` maps a query (of labs.invariants.payments) to its rows; a query that is not there does not apply."""

    answers: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    history: tuple[Operation, ...] = ()
    records: tuple[TopicRecord, ...] | None = None
    broken: bool = False
    scenario: str = "main"
    variant_name: str = "naive"
    faults: tuple[FaultRecord, ...] = ()
    window: tuple[float, float] = (0.0, 60.0)

    @property
    def variant(self) -> Variant:
        return Variant(role=VariantRole.NAIVE, roles={}, processes=())

    async def sql(self, database: str, query: str, *args: object) -> Sequence[Row]:
        del database, args
        if self.broken:
            raise EvidenceError("the database is down")
        if query not in self.answers:
            raise NotApplicableError("no such table")
        return self.answers[query]

    async def topic(self, name: str) -> tuple[TopicRecord, ...]:
        if self.records is None:
            raise NotApplicableError(f"no topic {name}")
        return self.records

    async def metric(self, promql: str) -> float | None:
        del promql
        return None

    async def engine(
        self, path: str, body: Mapping[str, Json] | None = None, *, nodes: Sequence[str] = (SEARCH_ENGINE,)
    ) -> Json:
        del body, nodes
        raise NotApplicableError(f"no {path}")

    def since_start(self, moment: datetime) -> float:
        return (moment - START).total_seconds()

    def moment(self, at: float) -> datetime:
        return START + timedelta(seconds=at)
