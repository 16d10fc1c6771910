"""Every place where a payments process may be made to die. A test walks ALL of them."""

from __future__ import annotations

from dataclasses import dataclass

from services.kit import failpoint
from services.payments.domain import OperationKind


@dataclass(frozen=True, slots=True)
class Phases:
    """The recovery points of one command: before its first commit, between the commits and the bank, before the answer."""

    before_insert: str
    after_insert: str
    after_bank_answer: str
    after_commit: str


def _phases(prefix: str) -> Phases:
    return Phases(
        f"{prefix}before_insert", f"{prefix}after_insert", f"{prefix}after_bank_answer", f"{prefix}after_commit"
    )


PHASES: dict[OperationKind, Phases] = {
    OperationKind.AUTHORISE: _phases("payments."),
    OperationKind.CAPTURE: _phases("payments.capture."),
    OperationKind.VOID: _phases("payments.void."),
    OperationKind.REFUND: _phases("payments.refund."),
}

RESOLVER_AFTER_CLAIM = "payments.resolver.after_claim"
RESOLVER_AFTER_BANK_ANSWER = "payments.resolver.after_bank_answer"
RESOLVER_AFTER_COMMIT = "payments.resolver.after_commit"
RESOLVER_AFTER_EXPIRY = "payments.resolver.after_expiry"

RELAY_BEFORE_PUBLISH = "payments.relay.before_publish"
RELAY_AFTER_PUBLISH = "payments.relay.after_publish"
RELAY_AFTER_DELETE = "payments.relay.after_delete"

RECONCILER_AFTER_FETCH = "payments.reconciler.after_fetch"
RECONCILER_AFTER_COMMIT = "payments.reconciler.after_commit"

API = tuple(
    name
    for phases in PHASES.values()
    for name in (phases.before_insert, phases.after_insert, phases.after_bank_answer, phases.after_commit)
)
RESOLVER = (RESOLVER_AFTER_CLAIM, RESOLVER_AFTER_BANK_ANSWER, RESOLVER_AFTER_COMMIT, RESOLVER_AFTER_EXPIRY)
RELAY = (RELAY_BEFORE_PUBLISH, RELAY_AFTER_PUBLISH, RELAY_AFTER_DELETE)
RECONCILER = (RECONCILER_AFTER_FETCH, RECONCILER_AFTER_COMMIT)
ALL = (*API, *RESOLVER, *RELAY, *RECONCILER)


def register(*names: str) -> None:
    """Make these known in this process, before LAB_FAILPOINTS is read."""
    failpoint.register(*names)
