"""All SQL of the service (but the schema, which is in migrations), and the mapping of the database's errors."""

from services.payments.store.connection import Connection, Pool, StoreUnavailable, connection
from services.payments.store.outbox import Outbox, OutboxRow, lag, open_outbox
from services.payments.store.payments import (
    BEGIN_PAYMENT,
    FINISH,
    Claim,
    Event,
    Finished,
    NewKey,
    OperationDraft,
    OperationLive,
    Pauses,
    PaymentMissing,
    PaymentStore,
    ReferenceTaken,
    StoredKey,
)
from services.payments.store.reconciliation import ReconciliationStore

__all__ = [
    "BEGIN_PAYMENT",
    "FINISH",
    "Claim",
    "Connection",
    "Event",
    "Finished",
    "NewKey",
    "OperationDraft",
    "OperationLive",
    "Outbox",
    "OutboxRow",
    "Pauses",
    "PaymentMissing",
    "PaymentStore",
    "Pool",
    "ReconciliationStore",
    "ReferenceTaken",
    "StoreUnavailable",
    "StoredKey",
    "connection",
    "lag",
    "open_outbox",
]
