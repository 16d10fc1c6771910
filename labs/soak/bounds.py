"""What bounds each table and topic that grows, in writing, and how much of it the work of a soak explains.

A store that grows and is not here, or grows by more than this, is an unbounded one until somebody says what bounds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SLACK_ROWS = 50
FOR_GOOD = "kept for good: it is the books"
RECORD = "the record of a simulator: dropped with its database"
FIXED = "set up once"


@dataclass(frozen=True, slots=True)
class Bound:
    """Rows that may come: `each` for every operation of the source (0: none), `a_second` while the soak lasts.

    `because` says what ends the growth. `drains`: at rest it is empty.
    """

    because: str
    source: str = ""
    each: float = 0.0
    a_second: float = 0.0
    drains: bool = False

    def allowed(self, operations: Mapping[str, int], seconds: float) -> float:
        """So many rows more are explained after `seconds`. `operations` counts what each source sent."""
        sources = self.source.split()
        return SLACK_ROWS + self.each * sum(operations.get(one, 0) for one in sources) + self.a_second * seconds


PAYING = "payments checkout"
DELIVERIES = 8
"""A type has ENDPOINTS / GROUPS endpoints."""
FIRINGS_A_SECOND = 40.0
"""At most: 30 jobs at first and some more later, every 2 to 4 s."""

TABLES: Mapping[str, Bound] = {
    "payments.payments": Bound(FOR_GOOD, PAYING, 1),
    "payments.payment_transitions": Bound(FOR_GOOD, PAYING, 6),
    "payments.operations": Bound(FOR_GOOD, PAYING, 3),
    "payments.idempotency_keys": Bound("gone after 24 h", PAYING, 2),
    "payments.ledger_transactions": Bound(FOR_GOOD, PAYING, 2),
    "payments.ledger_entries": Bound(FOR_GOOD, PAYING, 6),
    "payments.outbox": Bound("gone when published", drains=True),
    "payments.bank_events": Bound("gone after their retention", PAYING, 3),
    "payments.settlement_files": Bound(FOR_GOOD, a_second=0.1),
    "payments.reconciliation_findings": Bound("one for each disagreement with the bank", PAYING, 0.05),
    "payments.scheduled_reconciliations": Bound("gone after 30 days"),
    "bank.charges": Bound(RECORD, PAYING, 1.5),
    "bank.effects": Bound(RECORD, PAYING, 4),
    "bank.references_seen": Bound(RECORD, PAYING, 4),
    "bank.requests": Bound(RECORD, PAYING, 12, a_second=5),
    "webhooks.messages": Bound("gone after 30 days", "webhooks payments checkout", 4),
    "webhooks.deliveries": Bound("gone with their message", "webhooks", DELIVERIES * 1.5),
    "webhooks.attempts": Bound("gone with their delivery", "webhooks", DELIVERIES * 8),
    "webhooks.outbox": Bound("gone when published", drains=True),
    "webhooks.endpoints": Bound(FIXED),
    "receivers.requests": Bound(RECORD, "webhooks", DELIVERIES * 8),
    "cron.jobs": Bound("as many as were ordered", "cron", 1),
    "cron.idempotency_keys": Bound("gone after 24 h", "cron", 1),
    "cron.runs": Bound("gone after 30 days", a_second=FIRINGS_A_SECOND),
    "cron.leases": Bound(FIXED),
    "target.effects": Bound(RECORD, a_second=FIRINGS_A_SECOND * 2),
    "target.epochs": Bound(FIXED),
    "target.applied_runs": Bound("remembered for a day", a_second=FIRINGS_A_SECOND),
    "catalog.products": Bound("as many as are on sale", "search", 1),
    "catalog.variants": Bound("gone with their product", "search", 3),
    "catalog.idempotency_keys": Bound("gone after 24 h", "search", 1.5),
    "catalog.sales": Bound("gone after 30 days, with the popularity that they made", PAYING, 1),
    "catalog.heartbeats": Bound(FIXED),
    "search.reindexes": Bound("one for each index that was built", a_second=0.01),
}

TOPICS: Mapping[str, Bound] = {
    "payments.payment.v1": Bound("", "payments checkout webhooks", 8),
    "webhooks.operational.v1": Bound("", "webhooks", DELIVERIES * 2),
    "cron.run.v1": Bound(""),
    "cron.reconciliation.v1": Bound(""),
    "catalog.product-changes.v1": Bound("", "search payments", 6, a_second=6),
    "catalog.reference-changes.v1": Bound("", a_second=0.5),
    "catalog.cdc-heartbeat.v1": Bound("", a_second=3),
    "search.click.v1": Bound("", "search", 1),
    "connect.configs": Bound("", a_second=1),
    "connect.offsets": Bound("", a_second=2),
    "connect.status": Bound("", a_second=1),
}
"""What bounds a topic stands in its own configuration; here only how much may come."""

DEAD_LETTERS = (
    "webhooks.source.dlq",
    "catalog.product-changes.v1.dlq",
    "catalog.reference-changes.v1.dlq",
    "catalog.sales.dlq",
    "payments.reconciliation.dlq",
)
"""The load sends nothing that could not be read: whatever is parked here is a mistake of ours."""
