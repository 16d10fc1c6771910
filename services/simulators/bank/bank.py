"""The bank's commands: one function per kind of call, whatever carries it."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from services.kit import ids
from services.kit.clock import Clock
from services.kit.errors import Problem
from services.kit.postgres import Pool
from services.simulators.bank import metrics, store
from services.simulators.bank.domain import Charge, ChargeStatus, Decision, Kind, decide
from services.simulators.bank.schemas import CancelledAnswer, ChargeAnswer, ChargeRequest, OperationAnswer
from services.simulators.bank.store import NewCharge, NewOperation, OperationBook, Seen
from services.simulators.bank.writer import ChargeWriter


@dataclass(frozen=True, slots=True)
class Result:
    """`answer` is the JSON to send, `subject` the id of the charge or operation, `fresh` False for a replay."""

    answer: str
    subject: str
    outcome: str
    fresh: bool


class ReferenceTaken(Problem):
    def __init__(self, seen: Seen) -> None:
        if seen.kind is Kind.CANCELLED:
            super().__init__(409, "reference_cancelled", "This reference was cancelled and is never executed")
        else:
            super().__init__(409, "reference_conflict", "This reference was used with other parameters")


class NoSuch(Problem):
    def __init__(self) -> None:
        super().__init__(404, "not_found", "There is nothing of that name here, as far as is known now")


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


class Bank:
    """Decides and records. All answers are of committed facts."""

    def __init__(self, pool: Pool, writer: ChargeWriter, clock: Clock) -> None:
        self._pool = pool
        self._writer = writer
        self._clock = clock

    async def charge(
        self, wanted: ChargeRequest, *, declined: bool, behaviour: str | None, shard: int | None = None
    ) -> Result:
        """Charge, or answer as before for a known reference. Raises ReferenceTaken, and what the writer raises."""
        new = self._new_charge(wanted, declined, behaviour, shard)
        if await self._writer.charge(new):
            metrics.CHARGES.labels(new.status.value).inc()
            return Result(new.answer, new.id, new.status.value, fresh=True)
        assert wanted.reference is not None
        return await self._replay(wanted.reference, wanted.fingerprint)

    def _new_charge(self, wanted: ChargeRequest, declined: bool, behaviour: str | None, shard: int | None) -> NewCharge:
        status = ChargeStatus.CAPTURED if wanted.capture else ChargeStatus.AUTHORISED
        if declined:
            status = ChargeStatus.DECLINED
        now = self._clock.now()
        answer = ChargeAnswer(
            id=ids.encode("ch", ids.uuid7()),
            reference=wanted.reference,
            status=status.value,
            amount=wanted.amount,
            currency=wanted.currency,
            decline_code="insufficient_funds" if declined else None,
            created_at=now,
        )
        return NewCharge(
            id=answer.id,
            reference=wanted.reference,
            fingerprint=wanted.fingerprint,
            source=wanted.source,
            amount=wanted.amount,
            currency=wanted.currency,
            status=status,
            captured=wanted.amount if status is ChargeStatus.CAPTURED else 0,
            at=now,
            answer=_json(answer),
            behaviour=behaviour,
            shard=shard,
        )

    async def _replay(self, reference: str, fingerprint: str) -> Result:
        seen = await store.seen(self._pool, reference)
        assert seen is not None
        if seen.fingerprint != fingerprint:
            raise ReferenceTaken(seen)
        return Result(seen.answer, seen.subject, "replayed", fresh=False)

    async def operate(
        self, kind: Kind, charge_id: str, amount: int | None, reference: str | None, *, declined: bool
    ) -> Result:
        """Capture, void or refund; a declined one is an answer too. Raises ReferenceTaken, NoSuch."""
        fingerprint = f"{kind.value} {charge_id} {amount}"
        now = self._clock.now()
        new = NewOperation(ids.encode("op", ids.uuid7()), charge_id, reference, fingerprint, kind, amount, now)
        async with OperationBook(self._pool, new) as book:
            charge = await book.lock_charge()
            if charge is None:
                raise NoSuch
            decision = Decision(charge, "refused") if declined else decide(charge, kind, amount or 0)
            answer = _operation_answer(new, charge, decision)
            if await book.claim(_json(answer)):
                await book.apply(decision, answer.amount)
                return Result(_json(answer), new.id, answer.status, fresh=True)
        assert reference is not None
        return await self._replay(reference, fingerprint)

    async def status(self, reference: str, *, older_than_seconds: float) -> Result:
        """The stored answer of a reference. Raises NoSuch, which is never certainty."""
        seen = await store.seen(self._pool, reference)
        if seen is None or (self._clock.now() - seen.seen_at).total_seconds() < older_than_seconds:
            raise NoSuch
        return Result(seen.answer, seen.subject, "found", fresh=False)

    async def cancel(self, reference: str) -> Result:
        """Make sure that the reference is not executed from now on, or say that it was."""
        cancelled = CancelledAnswer(reference)
        seen = await store.cancel(self._pool, reference, _json(cancelled), self._clock.now())
        if seen.kind is Kind.CANCELLED:
            return Result(seen.answer, "", "cancelled", fresh=True)
        executed = {"reference": reference, "status": "executed", "operation": msgspec.Raw(seen.answer.encode())}
        return Result(_json(executed), seen.subject, "executed", fresh=False)


def _operation_answer(new: NewOperation, charge: Charge, decision: Decision) -> OperationAnswer:
    return OperationAnswer(
        id=new.id,
        reference=new.reference,
        charge=new.charge,
        kind=new.kind,
        status="succeeded" if decision.decline_code is None else "declined",
        amount=charge.amount if new.amount is None else new.amount,
        decline_code=decision.decline_code,
    )
