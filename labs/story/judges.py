"""What each station must show before the story goes on. Pure: evidence in, a sentence out.

Evidence is somebody else's record of what happened, never the answer of who was asked to do it, but for the till's own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

PAID = "payments.payment.captured"
RIGHT = range(200, 300)
ENDED_WELL = frozenset({"fired", "late"})
ENDED_BADLY = frozenset({"failed", "skipped", "coalesced"})


class Says(StrEnum):
    """DONE: go on. NOT_YET: look again. WRONG: looking again will not help."""

    DONE = "done"
    NOT_YET = "not yet"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Judged:
    """`sentence` says what was seen, in a form that a person reads."""

    says: Says
    sentence: str


def done(sentence: str) -> Judged:
    return Judged(Says.DONE, sentence)


def not_yet(sentence: str) -> Judged:
    return Judged(Says.NOT_YET, sentence)


def wrong(sentence: str) -> Judged:
    return Judged(Says.WRONG, sentence)


@dataclass(frozen=True, slots=True)
class Figures:
    """Of a product, in the catalogue or as search shows it."""

    stock: int
    popularity: int

    def __str__(self) -> str:
        return f"stock {self.stock}, popularity {self.popularity}"


@dataclass(frozen=True, slots=True)
class Answer:
    """Of the till: HTTP status, what it says of the checkout, the payment's id."""

    status: int
    says: str
    payment: str


@dataclass(frozen=True, slots=True)
class Charge:
    """A charge of the card in the bank's record, and what its effects have captured. Minor units."""

    id: str
    status: str
    captured: int
    currency: str


@dataclass(frozen=True, slots=True)
class Event:
    """A record of the payment on its topic."""

    id: str
    type: str
    partition: int
    offset: int
    trace_id: str


@dataclass(frozen=True, slots=True)
class Call:
    """A request in the receivers' record; `verified`: its signature was right. `status`: what was answered, None for nothing."""

    status: int | None
    verified: bool


@dataclass(frozen=True, slots=True)
class Sold:
    """A row of the catalogue's sales."""

    event_id: str
    quantity: int
    short: int


@dataclass(frozen=True, slots=True)
class Run:
    """A run of the job, as cron tells it."""

    id: str
    state: str
    reason: str
    node: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the reconciler keeps of a run, and what is said of the payment elsewhere.

    `outcome` is empty if it keeps nothing yet. `settled` is the amount in the bank's settlement file; None: no line.
    `findings` are those about this payment that are open.
    """

    outcome: str
    settled: int | None
    findings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Traces:
    """Processes in the story's trace and in the job's, and the traces that the job's spans point at."""

    story: frozenset[str]
    job: frozenset[str]
    linked: frozenset[str]


def shown(seen: Figures | None, wanted: Figures) -> Judged:
    """Search shows the product with these figures."""
    if seen is None:
        return not_yet("search does not find the product")
    if seen != wanted:
        return not_yet(f"search shows {seen}, the catalogue has {wanted}")
    return done(f"search shows {seen}")


def paid(answer: Answer) -> Judged:
    """The till says that it is paid."""
    if answer.status == 201 and answer.says == "paid":
        return done(f"201 paid: {answer.payment}")
    return wrong(f"the till answered {answer.status} {answer.says}".rstrip())


def charged(charges: Sequence[Charge], amount: int, currency: str) -> Judged:
    """The card was charged once, with this amount."""
    if not charges:
        return not_yet("the bank has no charge of this card")
    if len(charges) > 1:
        return wrong(f"the bank charged the card {len(charges)} times: {', '.join(each.id for each in charges)}")
    (charge,) = charges
    if charge.captured == 0:
        return not_yet(f"the bank has captured nothing of {charge.id}, which is {charge.status}")
    if (charge.captured, charge.currency) != (amount, currency):
        return wrong(f"the bank captured {charge.captured} {charge.currency} instead of {amount} {currency}")
    return done(f"one charge, {charge.id}: {charge.captured} {charge.currency} captured")


def published(events: Sequence[Event], trace_id: str) -> Judged:
    """The payment's event is on the topic, under one id, in the story's trace."""
    captured = [event for event in events if event.type == PAID]
    if not captured:
        return not_yet("there is no event of this payment on the topic")
    if len({event.id for event in captured}) > 1:
        return wrong("the payment was told under several event ids")
    first = captured[0]
    if first.trace_id != trace_id:
        return wrong("the event's traceparent is of another trace")
    return done(f"{first.id} at partition {first.partition}, offset {first.offset}, in the story's trace")


def delivered(calls: Sequence[Call]) -> Judged:
    """The merchant's receiver got the event, signed, and took it."""
    if not calls:
        return not_yet("no webhook has arrived at the merchant's receiver")
    if not all(call.verified for call in calls):
        return wrong("a webhook arrived whose signature is wrong")
    if not any(call.status in RIGHT for call in calls if call.status is not None):
        return not_yet(f"{len(calls)} webhooks arrived, none was taken; the last answer was {calls[-1].status}")
    return done(f"the receiver took it, signature right, after {len(calls)} call{'s' if len(calls) > 1 else ''}")


def taken(sales: Sequence[Sold], event_id: str, quantity: int, before: Figures, after: Figures) -> Judged:
    """The sale stands in the catalogue once, with its effect."""
    if not sales:
        return not_yet("the catalogue has not heard of the sale")
    if len(sales) > 1:
        return wrong(f"the catalogue took the sale {len(sales)} times")
    (sale,) = sales
    if sale.event_id != event_id:
        return wrong("the catalogue took the sale under another event's id")
    if sale.quantity != quantity:
        return wrong(f"the catalogue took {sale.quantity} instead of {quantity}")
    if sale.short:
        return wrong(f"sold {sale.short} more than there were")
    wanted = Figures(before.stock - quantity, before.popularity + quantity)
    if after != wanted:
        return wrong(f"the product has {after} instead of {wanted}; does somebody else change it?")
    return done(f"one sale of {quantity}: {before} became {after}")


def fired(runs: Sequence[Run]) -> Judged:
    """A run of the job was delivered to its target."""
    for run in runs:
        if run.state in ENDED_WELL:
            return done(f"{run.id} {run.state} by {run.node}, attempt {run.attempts}")
    bad = [run for run in runs if run.state in ENDED_BADLY]
    if bad:
        return wrong(f"{bad[-1].id} {bad[-1].state}: {bad[-1].reason or 'no reason given'}")
    return not_yet("no run of the job has been delivered")


def reconciled(comparison: Comparison, amount: int) -> Judged:
    """The run compared payments with the bank, whose file has the payment, and nothing is held against it."""
    if not comparison.outcome:
        return not_yet("the reconciler keeps nothing of this run")
    if comparison.outcome != "compared":
        return wrong(f"the reconciler could not compare: {comparison.outcome}")
    if comparison.settled is None:
        return wrong("the bank's settlement file has no line of this payment")
    if comparison.settled != amount:
        return wrong(f"the bank settles {comparison.settled} instead of {amount}")
    if comparison.findings:
        return wrong(f"open findings about this payment: {', '.join(comparison.findings)}")
    return done(f"compared; the bank settles {comparison.settled}, and nothing is held against the payment")


def traced(traces: Traces, trace_id: str, story: Collection[str], job: Collection[str]) -> Judged:
    """Every process has its spans in the one trace; the job's own trace points at it."""
    if missing := [name for name in story if name not in traces.story]:
        return not_yet(f"the story's trace has no span of {', '.join(missing)}")
    if missing := [name for name in job if name not in traces.job]:
        return not_yet(f"the job's trace has no span of {', '.join(missing)}")
    if trace_id not in traces.linked:
        return wrong("no span of the job's trace points at the story's")
    return done(f"{len(traces.story)} processes in one trace; the job's own trace, of {len(traces.job)}, points at it")


def as_text(value: object) -> str:
    """Of a JSON value that should be a text; "" for None."""
    return "" if value is None else str(value)


def field_of(document: object, name: str) -> object:
    """None where it is no object, or has no such member."""
    return document.get(name) if isinstance(document, Mapping) else None
