"""One function per command. What a crash leaves behind at any line is picked up by the key's next request or the resolver."""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from services.contracts.payments import PaymentEvent
from services.kit import deadline, ids, tracing
from services.kit.clock import Clock
from services.kit.failpoint import failpoint
from services.patterns.backoff import Backoff
from services.patterns.deadline import WIRE_MARGIN_SECONDS, Deadline
from services.patterns.idempotency import Decision, StoredResponse, decide
from services.payments import metrics, problems
from services.payments.bank import Bank, Place, ShardAway
from services.payments.domain import (
    OPERATION_PREFIX,
    AmountTooLarge,
    Done,
    Final,
    IllegalState,
    Money,
    Operation,
    OperationKind,
    Outcome,
    Payment,
    PaymentStatus,
    Refused,
    Settled,
    Unknown,
    UnknownCurrency,
    agrees,
    begin,
    looks_like_card,
    settle,
)
from services.payments.failpoints import PHASES
from services.payments.schemas import PREFIX, CreatePayment, PaymentList, PaymentView, payment_id, view
from services.payments.settings import PaymentsSettings
from services.payments.store import (
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
    StoreUnavailable,
)

log = logging.getLogger(__name__)

RETRY = Backoff(base=0.25, cap=3.0)
"""Pause before an unknown operation is looked at again. The cap keeps certainty within seconds of the bank's recovery."""

RESEND = Backoff(base=4.0, cap=6.0)
"""Pause before it is *sent* again, half of it drawn, on top of one more bank timeout. A bank that was too slow to answer has
the request in its queue: another sending makes the queue longer, a question does not."""

LEAST_BANK_SECONDS = 2 * WIRE_MARGIN_SECONDS
"""With less the call to the bank would not be made at all."""

SUCCESS_STATUS = {
    OperationKind.AUTHORISE: 201,
    OperationKind.CAPTURE: 200,
    OperationKind.VOID: 200,
    OperationKind.REFUND: 201,
}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, under which key, with which request (its fingerprint)."""

    merchant_id: str
    key: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """What the client gets. `replayed`: it was stored by an earlier request."""

    response: StoredResponse
    payment_id: str
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Context:
    """What the commands need; put together once, in app.py or resolver.py."""

    store: PaymentStore
    bank: Bank
    clock: Clock
    chance: random.Random
    settings: PaymentsSettings

    def new_key(self, caller: Caller, now: datetime) -> NewKey:
        """The caller's key with its expiry."""
        return NewKey(caller.key, caller.fingerprint, now + timedelta(hours=self.settings.key_lifetime_hours))


async def create_payment(context: Context, caller: Caller, wanted: CreatePayment) -> Reply:
    """Authorise, and capture if that is automatic. Raises Problem."""
    _check(wanted)
    _worth_beginning(context)
    with context.bank.place() as place:
        try:
            place.take(wanted.source)
        except ShardAway as away:
            return await _while_away(context, caller, away.seconds)
        return await _create(context, caller, wanted, place)


async def _create(context: Context, caller: Caller, wanted: CreatePayment, place: Place) -> Reply:
    phases = PHASES[OperationKind.AUTHORISE]
    now = context.clock.now()
    payment = _new_payment(caller.merchant_id, wanted, now)
    operation = new_operation(payment, OperationKind.AUTHORISE, payment.amount, now, attempts=1)
    await failpoint(phases.before_insert)
    try:
        begun = await context.store.begin_payment(
            payment, operation, context.new_key(caller, now), context.settings.lease_seconds
        )
    except ReferenceTaken as taken:
        raise problems.ReferenceInUse(ids.encode(PREFIX, taken.payment)) from None
    except StoreUnavailable as error:
        raise _maybe_written(error) from None
    if not begun:
        return await _again(context, caller, place)
    await failpoint(phases.after_insert)
    return await _drive(context, Claim(payment, operation, caller.key), place)


async def operate(context: Context, caller: Caller, kind: OperationKind, payment: UUID, amount: int | None) -> Reply:
    """Capture, void or refund a payment. Raises Problem."""
    _worth_beginning(context)
    with context.bank.place() as place:
        return await _operate(context, caller, kind, payment, amount, place)


async def _operate(
    context: Context, caller: Caller, kind: OperationKind, payment: UUID, amount: int | None, place: Place
) -> Reply:
    phases = PHASES[kind]
    now = context.clock.now()
    draft = OperationDraft(caller.merchant_id, payment, ids.uuid7(), now)

    def plan(found: Payment) -> Operation:
        place.take(found.source)
        return new_operation(
            found, kind, begin(found, kind, amount, now), now, attempts=1, operation_id=draft.operation_id
        )

    await failpoint(phases.before_insert)
    try:
        claim = await context.store.begin_operation(
            draft, context.new_key(caller, now), plan, context.settings.lease_seconds
        )
    except PaymentMissing:
        raise problems.NoSuchPayment from None
    except OperationLive:
        raise problems.OperationInProgress from None
    except IllegalState as error:
        raise problems.NotPossible(error.kind.value, error.status.value) from None
    except AmountTooLarge as error:
        raise problems.AmountTooLarge(error.limit) from None
    except ShardAway as away:
        raise problems.BankAway(away.seconds) from None
    except StoreUnavailable as error:
        raise _maybe_written(error) from None
    if claim is None:
        return await _again(context, caller, place)
    await failpoint(phases.after_insert)
    return await _drive(context, claim, place)


async def get_payment(context: Context, merchant_id: str, payment: UUID) -> PaymentView:
    """The payment as it is now. Raises Problem."""
    found = await context.store.payment(merchant_id, payment)
    if found is None:
        raise problems.NoSuchPayment
    return view(*found)


async def list_payments(context: Context, merchant_id: str, before: UUID | None, limit: int) -> PaymentList:
    """A page of the merchant's payments, newest first."""
    found = await context.store.payments(merchant_id, before, limit + 1)
    page = [view(*each) for each in found[:limit]]
    return PaymentList(page, page[-1].id if len(found) > limit else None)


def _maybe_written(error: StoreUnavailable) -> Exception:
    """If the first commit may have been made, the resolver will carry the operation out: nobody may say that nothing was done."""
    return problems.OutcomeUnknown() if error.begun else error


def _check(wanted: CreatePayment) -> None:
    if looks_like_card(wanted.source):
        raise problems.CardNumber
    if not wanted.source.startswith("tok_") or not wanted.source.isascii() or not wanted.source.isprintable():
        raise problems.InvalidSource
    if " " in wanted.source or len(wanted.source) == len("tok_"):
        raise problems.InvalidSource
    try:
        Money(wanted.amount, wanted.currency)
    except UnknownCurrency:
        raise problems.UnknownCurrency from None


def _new_payment(merchant_id: str, wanted: CreatePayment, now: datetime) -> Payment:
    return Payment(
        id=ids.uuid7(),
        merchant_id=merchant_id,
        reference=wanted.reference,
        source=wanted.source,
        amount=wanted.amount,
        currency=wanted.currency,
        automatic_capture=wanted.capture == "automatic",
        description=wanted.description,
        status=PaymentStatus.PROCESSING,
        created_at=now,
        updated_at=now,
        metadata=wanted.metadata,
    )


def new_operation(
    payment: Payment,
    kind: OperationKind,
    amount: int,
    now: datetime,
    *,
    attempts: int = 0,
    operation_id: UUID | None = None,
    expiring: bool = False,
) -> Operation:
    """An operation whose bank reference is its own id, so that one can be found from the other."""
    identity = operation_id or ids.uuid7()
    return Operation(
        id=identity,
        payment_id=payment.id,
        kind=kind,
        amount=amount,
        bank_reference=ids.encode(OPERATION_PREFIX, identity),
        created_at=now,
        attempts=attempts,
        expiring=expiring,
    )


async def _while_away(context: Context, caller: Caller, seconds: float) -> Reply:
    """The bank is not to be called now: what is known already is answered all the same. Raises BankAway for the rest."""
    stored = await context.store.key(caller.merchant_id, caller.key)
    if stored is None or stored.record.expires_at <= context.clock.now():
        raise problems.BankAway(seconds)
    return await _again(context, caller, None)


async def _again(context: Context, caller: Caller, place: Place | None) -> Reply:
    """The key is there already: replay, refuse, or go on where the first request stopped."""
    stored = await context.store.key(caller.merchant_id, caller.key)
    if stored is None:
        raise problems.KeyInFlight
    match decide(stored.record, caller.fingerprint, context.clock.now()):
        case Decision.MISMATCH:
            raise problems.KeyReused
        case Decision.REPLAY:
            assert stored.record.response is not None
            metrics.REPLAYS.inc()
            return Reply(stored.record.response, ids.encode(PREFIX, stored.payment_id), replayed=True)
        case Decision.TAKE_OVER:
            claim = await context.store.take_over(stored.operation_id, context.settings.lease_seconds)
            if claim is not None:
                return await _drive(context, claim, place)
        case Decision.IN_FLIGHT | Decision.NEW:
            pass
    raise problems.KeyInFlight


def _worth_beginning(context: Context) -> None:
    """Nothing is written for a caller who will be gone before the bank can have answered. Raises DeadlineOver."""
    until = deadline.current()
    if until is not None and until.earlier(context.settings.commit_seconds + LEAST_BANK_SECONDS).over:
        raise deadline.DeadlineOver


async def _drive(context: Context, claim: Claim, place: Place | None) -> Reply:
    """Call the bank and commit what it said: to the end, even if the caller leaves meanwhile. Raises OutcomeUnknown.

    The bank cannot be un-called. Its answer, once here, is worth more than the question that would have to be asked for it
    later; the wait for it is bounded by the deadline, less the time of the commit.
    """
    until = deadline.current()
    granted = until.earlier(context.settings.commit_seconds) if until else None
    try:
        work = _carry_out(context, claim, granted, place)
        return await deadline.completed(work, within=context.settings.lease_seconds)
    except (StoreUnavailable, deadline.DeadlineOver):
        raise problems.OutcomeUnknown from None


async def _carry_out(context: Context, claim: Claim, granted: Deadline | None, place: Place | None) -> Reply:
    phases = PHASES[claim.operation.kind]
    with deadline.bound(granted):
        if claim.may_send:
            said = await context.bank.execute(claim.payment, claim.operation, place)
        else:
            said = await context.bank.ask(claim.payment, claim.operation)
    outcome = believed(claim, said)
    await failpoint(phases.after_bank_answer)
    if isinstance(outcome, Unknown):
        response = StoredResponse(202, msgspec.json.encode(view(claim.payment, claim.operation)))
        answered = await park(context, claim, outcome, response)
    else:
        finished, response = await finish(context, claim, outcome)
        answered = finished.answered
    await failpoint(phases.after_commit)
    if answered:
        return Reply(response, payment_id(claim.payment))
    return await _first_answer(context, claim, response)


async def _first_answer(context: Context, claim: Claim, own: StoredResponse) -> Reply:
    """Somebody else decided the operation or answered its key meanwhile, and that answer stands.

    Unless the key has expired since: then it is gone or belongs to another request, and our own answer is the only one.
    """
    stored = await context.store.key(claim.payment.merchant_id, claim.key) if claim.key else None
    if stored is None or stored.operation_id != claim.operation.id:
        return Reply(own, payment_id(claim.payment))
    if stored.record.response is None:
        raise problems.KeyInFlight
    return Reply(stored.record.response, payment_id(claim.payment), replayed=True)


def believed(claim: Claim, outcome: Outcome) -> Outcome:
    """The outcome, unless the bank says that it did something else than it was asked: then nobody knows what is right.

    Such an operation stays unknown, on the gauges and in the log, until a person or the bank mends it.
    """
    if not isinstance(outcome, Done) or agrees(outcome, claim.payment, claim.operation):
        return outcome
    log.error(
        "the bank's answer is about something else",
        extra={"operation": claim.operation.bank_reference, "bank_id": outcome.bank_id},
    )
    metrics.BANK_UNKNOWN.labels("mismatch").inc()
    return Unknown("mismatch")


async def park(context: Context, claim: Claim, unknown: Unknown, response: StoredResponse | None) -> bool:
    """Leave the operation to the resolver. True if `response` is now its key's answer."""
    metrics.OPERATIONS.labels(claim.operation.kind.value, "unknown").inc()
    delay = unknown.retry_after
    if delay is None:
        delay = RETRY.delay(max(0, claim.operation.attempts - 1), context.chance)
    resend: float | None = None
    if unknown.unanswered:
        pause = RESEND.ceiling(claim.operation.unanswered) * context.chance.uniform(0.5, 1.0)
        resend = context.settings.bank_timeout_seconds + pause
    return await context.store.park(claim, context.clock.now(), Pauses(delay, resend), response)


async def finish(context: Context, claim: Claim, final: Final) -> tuple[Finished, StoredResponse]:
    """Commit a final answer with all its consequences; also return what the client is told."""
    now = context.clock.now()
    settled = settle(claim.payment, claim.operation, final, now)
    response = _final_response(claim, final, settled)
    event = _event(settled) if settled.event_type else None
    finished = await context.store.finish(claim, final, settled, now, event, response)
    if finished.live:
        kind = claim.operation.kind.value
        metrics.OPERATIONS.labels(kind, settled.operation_status.value).inc()
        if finished.unknown_since is not None:
            metrics.CERTAINTY.labels(kind).observe(max(0.0, (now - finished.unknown_since).total_seconds()))
    return finished, response


def _final_response(claim: Claim, final: Final, settled: Settled) -> StoredResponse:
    kind = claim.operation.kind
    if isinstance(final, Refused):
        what = "card" if kind is OperationKind.AUTHORISE else kind.value
        declined = problems.Declined(what, final.code, payment_id(claim.payment))
        return StoredResponse(declined.status, declined.body())
    return StoredResponse(SUCCESS_STATUS[kind], msgspec.json.encode(view(settled.payment)))


def _event(settled: Settled) -> Event:
    payment = settled.payment
    body = PaymentEvent(
        payment_id=payment_id(payment),
        merchant_id=payment.merchant_id,
        reference=payment.reference,
        source=payment.source,
        status=payment.status.value,
        amount=payment.amount,
        currency=payment.currency,
        captured_amount=payment.captured_amount,
        refunded_amount=payment.refunded_amount,
        sequence=payment.sequence,
        metadata=dict(payment.metadata),
    )
    return Event(ids.uuid7(), msgspec.json.encode(body), tracing.current_traceparent())
