"""Payments, operations, keys: the SQL of the API and the resolver.

A command costs two statements, each its own commit: `begin_payment` before the bank is called (key, payment, operation) and
`finish` or `park` after it (operation, payment, ledger, outbox, stored response). Business times are the caller's clock;
leases (`due_at`) are the database's, so that processes need not agree on the time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec

from services.kit import postgres, tracing
from services.patterns.idempotency import KeyRecord, StoredResponse
from services.payments.domain import (
    Done,
    Final,
    Operation,
    OperationKind,
    OperationStatus,
    Payment,
    PaymentError,
    PaymentStatus,
    Refused,
    Settled,
)
from services.payments.store.connection import Connection, Pool, StoreUnavailable, connection


class ReferenceTaken(PaymentError):
    """The merchant has a payment with this reference that did not fail."""

    def __init__(self, payment: UUID) -> None:
        super().__init__("reference in use")
        self.payment = payment


class PaymentMissing(PaymentError):
    """No such payment of this merchant."""


class OperationLive(PaymentError):
    """The payment has an operation whose outcome is not known."""


@dataclass(frozen=True, slots=True)
class Claim:
    """An operation that the holder may work on until its lease ends, with its payment and the key it came under.

    `traceparent` is who began it, for who did not. Not `may_send`: the bank may still be at an earlier sending, so it is only
    to be asked.
    """

    payment: Payment
    operation: Operation
    key: str | None
    traceparent: str | None = None
    may_send: bool = True


@dataclass(frozen=True, slots=True)
class Pauses:
    """Seconds until the operation is due again; and, if a sending got no answer just now, until it may be sent again."""

    due: float
    resend: float | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """What `finish` puts into the outbox."""

    id: UUID
    body: bytes
    traceparent: str | None


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key, and what it belongs to."""

    record: KeyRecord
    payment_id: UUID
    operation_id: UUID


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key to be stored with its command."""

    key: str
    fingerprint: bytes
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class OperationDraft:
    """What is known of an operation before its payment has been read."""

    merchant_id: str
    payment_id: UUID
    operation_id: UUID
    at: datetime


@dataclass(frozen=True, slots=True)
class Finished:
    """`live`: this call decided the operation. `answered`: the response given is now what the key answers."""

    live: bool
    answered: bool
    unknown_since: datetime | None


_PAYMENT = """p.id, p.merchant_id, p.reference, p.source, p.amount, p.currency, p.automatic_capture, p.description, p.status,
    p.created_at, p.updated_at, p.captured_amount, p.refunded_amount, p.charge_id, p.failure_code, p.expires_at,
    p.event_sequence, p.metadata"""

_OPERATION = """o.id AS operation_id, o.kind, o.amount AS operation_amount, o.bank_reference,
    o.created_at AS operation_created_at, o.status AS operation_status, o.attempts, o.unanswered, o.expiring"""

BEGIN_PAYMENT = """
WITH k AS (
    INSERT INTO idempotency_keys AS old (merchant_id, key, fingerprint, payment_id, operation_id, created_at, expires_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (merchant_id, key) DO UPDATE
        SET fingerprint = $3, payment_id = $4, operation_id = $5, created_at = $6, expires_at = $7,
            response_status = NULL, response_body = NULL
        WHERE old.expires_at <= $6
    RETURNING payment_id
), p AS (
    INSERT INTO payments (id, merchant_id, reference, active_reference, source, amount, currency, automatic_capture,
                          description, status, created_at, updated_at, metadata)
    SELECT $4, $1, $8, $8, $9, $10, $11, $12, $13, 'processing', $6, $6, $17::jsonb FROM k
    RETURNING id
)
INSERT INTO operations (id, payment_id, kind, amount, status, bank_reference, attempts, idempotency_key, due_at, created_at,
                        traceparent)
SELECT $5, p.id, 'authorise', $10, 'pending', $14, 1, $2, now() + make_interval(secs => $15), $6, $16 FROM p
RETURNING id
"""

_KEY = """
SELECT k.fingerprint, k.expires_at, k.response_status, k.response_body, k.payment_id, k.operation_id,
       o.status IN ('pending', 'unknown') AND o.due_at <= now() AS lease_over
FROM idempotency_keys k JOIN operations o ON o.id = k.operation_id
WHERE k.merchant_id = $1 AND k.key = $2
"""

_TAKE_OVER = f"""
WITH o AS (
    UPDATE operations SET due_at = now() + make_interval(secs => $2), attempts = attempts + 1
    WHERE id = $1 AND status IN ('pending', 'unknown') AND due_at <= now()
    RETURNING *
)
SELECT {_PAYMENT}, {_OPERATION}, o.idempotency_key, o.traceparent, o.send_again_at <= now() AS may_send
FROM o JOIN payments p ON p.id = o.payment_id
"""  # noqa: S608  # only the column lists above are put in

_CLAIM_DUE = f"""
WITH due AS (
    SELECT id FROM operations WHERE status IN ('pending', 'unknown') AND due_at <= now()
    ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED
), o AS (
    UPDATE operations SET due_at = now() + make_interval(secs => $1), attempts = attempts + 1
    FROM due WHERE operations.id = due.id
    RETURNING operations.*
)
SELECT {_PAYMENT}, {_OPERATION}, o.idempotency_key, o.traceparent, o.send_again_at <= now() AS may_send
FROM o JOIN payments p ON p.id = o.payment_id
"""  # noqa: S608  # only the column lists above are put in

_PARK = """
WITH o AS (
    UPDATE operations SET status = 'unknown', due_at = now() + make_interval(secs => $2),
                          unknown_since = coalesce(unknown_since, $3),
                          unanswered = unanswered + ($8::float8 IS NOT NULL)::int,
                          send_again_at = coalesce(now() + make_interval(secs => $8::float8), send_again_at)
    WHERE id = $1 AND status IN ('pending', 'unknown')
    RETURNING id
), k AS (
    UPDATE idempotency_keys SET response_status = $6, response_body = $7
    WHERE merchant_id = $4 AND key = $5 AND operation_id = $1 AND response_status IS NULL AND $6::smallint IS NOT NULL
      AND EXISTS (SELECT FROM o)
    RETURNING 1
)
SELECT EXISTS (SELECT FROM o) AS live, EXISTS (SELECT FROM k) AS answered
"""

# The operation's row is what two finishers meet at: the second finds it decided and changes nothing. The payment is
# changed under its row lock, and only from the very state that the new one was computed from.
FINISH = """
WITH o AS (
    UPDATE operations SET status = $2, bank_id = $3, failure_code = $4, resolved_at = $5
    WHERE id = $1 AND status IN ('pending', 'unknown')
    RETURNING id, unknown_since
), p AS (
    UPDATE payments SET status = $7, active_reference = CASE WHEN $7 = 'failed' THEN NULL ELSE active_reference END,
        captured_amount = $8, refunded_amount = $9, charge_id = $10, failure_code = $11, expires_at = $12,
        event_sequence = $13, updated_at = $14
    WHERE id = $6 AND event_sequence = $15 AND EXISTS (SELECT FROM o)
    RETURNING id
), t AS (
    INSERT INTO ledger_transactions (id, payment_id, kind, created_at)
    SELECT $1, p.id, $16, $5 FROM p WHERE $16::text IS NOT NULL
    RETURNING id
), e AS (
    INSERT INTO ledger_entries (transaction_id, line, account, amount, currency)
    SELECT t.id, x.line, x.account, x.amount, $17
    FROM t, unnest($18::text[], $19::bigint[]) WITH ORDINALITY AS x (account, amount, line)
), x AS (
    INSERT INTO outbox (payment_id, sequence, event_id, type, body, traceparent, created_at)
    SELECT p.id, $13, $21, $20, $22, $23, $5 FROM p WHERE $20::text IS NOT NULL
), k AS (
    UPDATE idempotency_keys SET response_status = $26, response_body = $27
    WHERE merchant_id = $24 AND key = $25 AND operation_id = $1 AND response_status IS NULL AND EXISTS (SELECT FROM o)
    RETURNING 1
)
SELECT demand((SELECT count(*) FROM o) = (SELECT count(*) FROM p), 'the payment changed under its live operation'),
       EXISTS (SELECT FROM o) AS live, EXISTS (SELECT FROM k) AS answered, (SELECT unknown_since FROM o) AS unknown_since
"""

_INSERT_KEY = """
INSERT INTO idempotency_keys AS old (merchant_id, key, fingerprint, payment_id, operation_id, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (merchant_id, key) DO UPDATE
    SET fingerprint = $3, payment_id = $4, operation_id = $5, created_at = $6, expires_at = $7,
        response_status = NULL, response_body = NULL
    WHERE old.expires_at <= $6
RETURNING 1
"""

_INSERT_OPERATION = """
INSERT INTO operations (id, payment_id, kind, amount, status, bank_reference, attempts, expiring, idempotency_key, due_at,
                        created_at, traceparent)
VALUES ($1, $2, $3, $4, 'pending', $5, $6, $7, $8, now() + make_interval(secs => $9), $10, $11)
"""

_LOCK = f"""
SELECT {_PAYMENT} FROM payments p WHERE id = $1 AND ($2::text IS NULL OR merchant_id = $2) FOR UPDATE
"""  # noqa: S608

_LIVE = "SELECT EXISTS (SELECT FROM operations WHERE payment_id = $1 AND status IN ('pending', 'unknown'))"

_VIEW = f"""
SELECT {_PAYMENT}, {_OPERATION}
FROM payments p LEFT JOIN operations o ON o.payment_id = p.id AND o.status IN ('pending', 'unknown')
"""  # noqa: S608

_EXPIRING = """
SELECT p.id FROM payments p
WHERE p.expires_at <= $1 AND p.status = 'authorised'
  AND NOT EXISTS (SELECT FROM operations o WHERE o.payment_id = p.id AND o.status IN ('pending', 'unknown'))
ORDER BY p.expires_at LIMIT $2
"""

_SWEEP_KEYS = """
DELETE FROM idempotency_keys WHERE (merchant_id, key) IN
    (SELECT merchant_id, key FROM idempotency_keys WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2
     FOR UPDATE SKIP LOCKED)
"""

_SWEEP_BANK_EVENTS = """
DELETE FROM bank_events WHERE id IN
    (SELECT id FROM bank_events WHERE received_at <= $1 ORDER BY received_at LIMIT $2)
"""

_UNKNOWN = """
SELECT count(*) AS count, coalesce(extract(epoch FROM now() - min(coalesce(unknown_since, created_at))), 0)::float8 AS oldest
FROM operations WHERE status = 'unknown'
"""

_BANK_EVENT = """
WITH seen AS (
    INSERT INTO bank_events (id, received_at) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING 1
), woken AS (
    UPDATE operations SET due_at = now() WHERE id = $3 AND status = 'unknown' AND EXISTS (SELECT FROM seen) RETURNING 1
)
SELECT EXISTS (SELECT FROM seen)
"""


class PaymentStore:
    """The payments database, as payments_app. Every method raises StoreUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def merchant_of(self, key_sha256: bytes) -> str | None:
        """Whose API key this is the hash of, if it is valid."""
        async with connection(self._pool) as db:
            found: str | None = await db.fetchval(
                "SELECT merchant_id FROM api_keys WHERE key_sha256 = $1 AND revoked_at IS NULL", key_sha256
            )
        return found

    async def begin_payment(self, payment: Payment, operation: Operation, key: NewKey, lease_seconds: float) -> bool:
        """Store key, payment and operation; False if the key is there already. Raises ReferenceTaken."""
        try:
            async with connection(self._pool) as db:
                begun = await db.fetchval(
                    BEGIN_PAYMENT,
                    payment.merchant_id,
                    key.key,
                    key.fingerprint,
                    payment.id,
                    operation.id,
                    payment.created_at,
                    key.expires_at,
                    payment.reference,
                    payment.source,
                    payment.amount,
                    payment.currency,
                    payment.automatic_capture,
                    payment.description,
                    operation.bank_reference,
                    lease_seconds,
                    tracing.to_link(),
                    msgspec.json.encode(payment.metadata).decode(),
                )
        except asyncpg.UniqueViolationError as error:
            if error.constraint_name != "payments_active_reference":
                raise
            raise ReferenceTaken(await self._holder(payment.merchant_id, payment.reference)) from None
        return begun is not None

    async def _holder(self, merchant_id: str, reference: str) -> UUID:
        async with connection(self._pool) as db:
            found: UUID | None = await db.fetchval(
                "SELECT id FROM payments WHERE merchant_id = $1 AND active_reference = $2", merchant_id, reference
            )
        if found is None:
            raise StoreUnavailable("the payment that held the reference has failed just now")
        return found

    async def begin_operation(
        self, draft: OperationDraft, key: NewKey, plan: Callable[[Payment], Operation], lease_seconds: float
    ) -> Claim | None:
        """Store key and operation for a payment under its row lock; None if the key is there already.

        `plan` may raise; then nothing is stored. Raises PaymentMissing, OperationLive.
        """
        async with connection(self._pool) as db, db.transaction():
            # The key comes first: a replay must not be judged by the state that the first request left behind.
            begun = await db.fetchval(
                _INSERT_KEY,
                draft.merchant_id,
                key.key,
                key.fingerprint,
                draft.payment_id,
                draft.operation_id,
                draft.at,
                key.expires_at,
            )
            if begun is None:
                return None
            payment = await self._locked(db, draft.payment_id, draft.merchant_id)
            operation = plan(payment)
            await self._insert_operation(db, operation, key.key, lease_seconds)
        return Claim(payment, operation, key.key)

    async def take_over(self, operation_id: UUID, lease_seconds: float) -> Claim | None:
        """The operation, if it is undecided and its lease is over."""
        async with connection(self._pool) as db:
            row = await db.fetchrow(_TAKE_OVER, operation_id, lease_seconds)
        return None if row is None else _claim(row)

    async def claim_due(self, lease_seconds: float, limit: int) -> list[Claim]:
        """Operations that nobody works on. Two resolvers never get the same one."""
        async with connection(self._pool) as db:
            return [_claim(row) for row in await db.fetch(_CLAIM_DUE, lease_seconds, limit)]

    async def key(self, merchant_id: str, key: str) -> StoredKey | None:
        """What is stored under a key, expired or not."""
        async with connection(self._pool) as db:
            row = await db.fetchrow(_KEY, merchant_id, key)
        if row is None:
            return None
        response = None
        if row["response_status"] is not None:
            response = StoredResponse(row["response_status"], row["response_body"])
        record = KeyRecord(row["fingerprint"], row["expires_at"], response, row["lease_over"])
        return StoredKey(record, row["payment_id"], row["operation_id"])

    async def park(self, claim: Claim, now: datetime, pauses: Pauses, response: StoredResponse | None) -> bool:
        """Mark the operation unknown, due again after a pause. True if `response` is now what its key answers."""
        async with connection(self._pool) as db:
            row = await db.fetchrow(
                _PARK,
                claim.operation.id,
                pauses.due,
                now,
                claim.payment.merchant_id,
                claim.key,
                response.status if response else None,
                response.body if response else None,
                pauses.resend,
            )
        assert row is not None
        return bool(row["answered"])

    async def finish(
        self,
        claim: Claim,
        final: Final,
        settled: Settled,
        now: datetime,
        event: Event | None,
        response: StoredResponse,
    ) -> Finished:
        """Write the final answer and all it changes in one commit. Raises LedgerUnbalanced."""
        after, entries = settled.payment, settled.entries
        async with connection(self._pool) as db:
            row = await db.fetchrow(
                FINISH,
                claim.operation.id,
                settled.operation_status.value,
                final.bank_id if isinstance(final, Done) else None,
                final.code if isinstance(final, Refused) else None,
                now,
                after.id,
                after.status.value,
                after.captured_amount,
                after.refunded_amount,
                after.charge_id,
                after.failure_code,
                after.expires_at,
                after.sequence,
                after.updated_at,
                claim.payment.sequence,
                _ledger_kind(claim.operation.kind) if entries else None,
                after.currency,
                [entry.account for entry in entries],
                [entry.amount for entry in entries],
                settled.event_type,
                event.id if event else None,
                event.body if event else None,
                event.traceparent if event else None,
                after.merchant_id,
                claim.key,
                response.status,
                response.body,
            )
        assert row is not None
        return Finished(row["live"], row["answered"], row["unknown_since"])

    async def payment(self, merchant_id: str, payment_id: UUID) -> tuple[Payment, Operation | None] | None:
        """A payment of this merchant and its undecided operation."""
        async with connection(self._pool) as db:
            row = await db.fetchrow(_VIEW + "WHERE p.id = $1 AND p.merchant_id = $2", payment_id, merchant_id)
        return None if row is None else (_payment(row), _operation(row))

    async def payments(
        self, merchant_id: str, before: UUID | None, limit: int
    ) -> list[tuple[Payment, Operation | None]]:
        """Newest first, those older than `before`."""
        page = "WHERE p.merchant_id = $1 AND ($2::uuid IS NULL OR p.id < $2) ORDER BY p.id DESC LIMIT $3"
        async with connection(self._pool) as db:
            rows = await db.fetch(_VIEW + page, merchant_id, before, limit)
        return [(_payment(row), _operation(row)) for row in rows]

    async def answers(self) -> bool:
        """Readiness."""
        return await postgres.answers(self._pool)

    async def begin_expiry(self, now: datetime, plan: Callable[[Payment], Operation], limit: int) -> int:
        """Store a void for authorisations whose time is over, due at once; return how many."""
        async with connection(self._pool) as db:
            ids = [row["id"] for row in await db.fetch(_EXPIRING, now, limit)]
        begun = 0
        for payment_id in ids:
            async with connection(self._pool) as db, db.transaction():
                try:
                    payment = await self._locked(db, payment_id, None)
                except OperationLive:
                    continue
                if payment.status is PaymentStatus.AUTHORISED:
                    await self._insert_operation(db, plan(payment), None, 0)
                    begun += 1
        return begun

    async def sweep_keys(self, now: datetime, limit: int) -> int:
        """Delete expired keys, the oldest first; return how many."""
        return await self._delete(_SWEEP_KEYS, now, limit)

    async def sweep_bank_events(self, before: datetime, limit: int) -> int:
        """Delete old bank event ids, the oldest first; return how many."""
        return await self._delete(_SWEEP_BANK_EVENTS, before, limit)

    async def _delete(self, query: str, before: datetime, limit: int) -> int:
        async with connection(self._pool) as db:
            return int((await db.execute(query, before, limit)).rpartition(" ")[2])

    async def unknown(self) -> tuple[int, float]:
        """How many operations are unknown, and the age of the oldest in seconds."""
        async with connection(self._pool) as db:
            row = await db.fetchrow(_UNKNOWN)
        assert row is not None
        return row["count"], row["oldest"]

    async def note_bank_event(self, event_id: str, now: datetime, operation_id: UUID | None) -> bool:
        """Make the operation due if it is unknown. False for an event that was seen before."""
        async with connection(self._pool) as db:
            return bool(await db.fetchval(_BANK_EVENT, event_id, now, operation_id))

    async def _locked(self, db: Connection, payment_id: UUID, merchant_id: str | None) -> Payment:
        row = await db.fetchrow(_LOCK, payment_id, merchant_id)
        if row is None:
            raise PaymentMissing
        if await db.fetchval(_LIVE, payment_id):
            raise OperationLive
        return _payment(row)

    async def _insert_operation(
        self, db: Connection, operation: Operation, key: str | None, lease_seconds: float
    ) -> None:
        await db.execute(
            _INSERT_OPERATION,
            operation.id,
            operation.payment_id,
            operation.kind.value,
            operation.amount,
            operation.bank_reference,
            operation.attempts,
            operation.expiring,
            key,
            lease_seconds,
            operation.created_at,
            tracing.to_link(),
        )


def _ledger_kind(kind: OperationKind) -> str:
    return "refund" if kind is OperationKind.REFUND else "capture"


def _claim(row: asyncpg.Record) -> Claim:
    operation = _operation(row)
    assert operation is not None
    return Claim(_payment(row), operation, row["idempotency_key"], row["traceparent"], row["may_send"])


def _payment(row: asyncpg.Record) -> Payment:
    return Payment(
        id=row["id"],
        merchant_id=row["merchant_id"],
        reference=row["reference"],
        source=row["source"],
        amount=row["amount"],
        currency=row["currency"],
        automatic_capture=row["automatic_capture"],
        description=row["description"],
        status=PaymentStatus(row["status"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        captured_amount=row["captured_amount"],
        refunded_amount=row["refunded_amount"],
        charge_id=row["charge_id"],
        failure_code=row["failure_code"],
        expires_at=row["expires_at"],
        sequence=row["event_sequence"],
        metadata=msgspec.json.decode(row["metadata"]),
    )


def _operation(row: asyncpg.Record) -> Operation | None:
    if row["operation_id"] is None:
        return None
    return Operation(
        id=row["operation_id"],
        payment_id=row["id"],
        kind=OperationKind(row["kind"]),
        amount=row["operation_amount"],
        bank_reference=row["bank_reference"],
        created_at=row["operation_created_at"],
        status=OperationStatus(row["operation_status"]),
        attempts=row["attempts"],
        unanswered=row["unanswered"],
        expiring=row["expiring"],
    )
