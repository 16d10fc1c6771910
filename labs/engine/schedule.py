"""Runs a scenario's faults at their times, and takes all of them back whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import aiohttp

from infra.runtime import RuntimeProblem
from labs.engine.model import (
    FaultContext,
    FaultRecord,
    HealFailedError,
    InjectFailedError,
    Receipt,
    ScheduledFault,
)
from labs.engine.probing import crash

STEP_SECONDS = 90.0
HEAL_ATTEMPTS = 20
HEAL_PAUSE_SECONDS = 0.5
Resolve = Callable[[str], Awaitable[FaultContext]]
"""A context in which a role is pinned to whom plays it right now."""
TROUBLE = (InjectFailedError, HealFailedError, RuntimeProblem, aiohttp.ClientError, OSError, TimeoutError)


def scaled(faults: Sequence[ScheduledFault], factor: float) -> tuple[ScheduledFault, ...]:
    """Times of a full run as those of a shorter or longer one."""
    return tuple(replace(one, at=one.at * factor, lasting=one.lasting * factor) for one in faults)


def end_of(faults: Sequence[ScheduledFault]) -> float:
    """Seconds from the start of inject to the last planned heal."""
    return max((one.at + one.lasting for one in faults), default=0.0)


def describe(error: BaseException) -> str:
    """One sentence, also for exceptions without a text."""
    return str(error) or type(error).__name__


def _target(planned: ScheduledFault, ctx: FaultContext) -> str:
    """The role itself where the variant does not bind it; inject will say so."""
    try:
        return planned.fault.target(ctx)
    except InjectFailedError:
        return planned.fault.role


@dataclass(slots=True)
class FaultPlan:
    """The faults of one trial. `records` grows as they happen; `active` says what is wrong right now."""

    faults: Sequence[ScheduledFault]
    ctx: FaultContext
    resolve: Resolve | None = None
    _contexts: dict[int, FaultContext] = field(default_factory=dict)
    _records: dict[int, FaultRecord] = field(default_factory=dict)
    _touched: set[int] = field(default_factory=set)

    @property
    def records(self) -> tuple[FaultRecord, ...]:
        """In the order of the plan; what was not reached is there without times."""
        return tuple(self._records[number] for number in sorted(self._records))

    def active(self) -> list[str]:
        """For the progress line."""
        return [
            f"{record.kind} {record.target}"
            for record in self.records
            if record.injected_at is not None and record.healed_at is None
        ]

    async def run(self) -> None:
        """All faults, each at its time from now; returns when the last one is healed. Trouble is kept in the records."""
        start = asyncio.get_running_loop().time()
        for number, planned in enumerate(self.faults):
            self._records[number] = self._planned(planned)
        async with asyncio.TaskGroup() as group:
            for number, planned in enumerate(self.faults):
                group.create_task(self._one(number, planned, start), name=f"fault {planned.fault.kind}")

    def _planned(self, planned: ScheduledFault) -> FaultRecord:
        fault = planned.fault
        return FaultRecord(
            kind=fault.kind,
            role=fault.role,
            target=_target(planned, self.ctx),
            parameters={**fault.parameters(), "lasting": round(planned.lasting, 3)},
            planned_at=self.ctx.now() + planned.at,
            injected_at=None,
            healed_at=None,
            receipt=None,
            error=None,
        )

    async def _one(self, number: int, planned: ScheduledFault, start: float) -> None:
        await asyncio.sleep(max(0.0, start + planned.at - asyncio.get_running_loop().time()))
        if not await self._pin(number, planned):
            return
        ctx = self._context(number)
        self._touched.add(number)
        handle = await self._attempt(number, lambda: planned.fault.inject(ctx))
        self._note(number, injected_at=self.ctx.now())
        if self._records[number].error is None:
            await asyncio.sleep(planned.lasting)
            receipt = await self._attempt(number, lambda: planned.fault.receipt(ctx, handle))
            self._note(number, receipt=receipt if isinstance(receipt, Receipt) else None)
        await self._heal(number, planned)

    def _context(self, number: int) -> FaultContext:
        return self._contexts.get(number, self.ctx)

    async def _pin(self, number: int, planned: ScheduledFault) -> bool:
        """Who plays the role is decided now, and stays so for this fault; False if nobody does."""
        if (resolve := self.resolve) is None:
            return True
        pinned = await self._attempt(number, lambda: resolve(planned.fault.role))
        if self._records[number].error is not None:
            return False
        self._contexts[number] = cast("FaultContext", pinned)
        self._note(number, target=_target(planned, self._contexts[number]))
        return True

    async def _heal(self, number: int, planned: ScheduledFault) -> None:
        """A process that needs what another fault has taken may fail to start: a supervisor would try again, too."""
        error = ""
        for _ in range(HEAL_ATTEMPTS):
            if not (error := await self._try_heal(number)):
                return self._note(number, healed_at=self.ctx.now())
            await asyncio.sleep(HEAL_PAUSE_SECONDS)
        return self._note(number, error=self._records[number].error or error)

    async def _try_heal(self, number: int) -> str:
        """ "" or what went wrong."""
        try:
            async with asyncio.timeout(STEP_SECONDS):
                await self.faults[number].fault.heal(self._context(number))
        except TROUBLE as error:
            return describe(error)
        except Exception as error:  # noqa: BLE001  the other faults must still be taken back
            return crash(error)
        return ""

    async def _attempt(self, number: int, step: Callable[[], Awaitable[object]]) -> object:
        try:
            async with asyncio.timeout(STEP_SECONDS):
                return await step()
        except TROUBLE as error:
            self._note(number, error=self._records[number].error or describe(error))
        except Exception as error:  # noqa: BLE001  a fault that crashes is a result: no receipt, unknown
            self._note(number, error=self._records[number].error or crash(error))
        return None

    def _note(self, number: int, **changes: object) -> None:
        self._records[number] = replace(self._records[number], **changes)  # type: ignore[arg-type]  # names are ours

    async def heal_all(self) -> list[str]:
        """Take back everything that was begun, what freezes first, then the last one first; each is verified.

        What is healed already is left alone: to start a process again that has died since would hide its death.
        What fails is tried once more when all others are healed. Returns what could not be healed, as sentences. Safe to
        call again.
        """
        begun = [number for number in self._touched if self._records[number].healed_at is None]
        order = sorted(begun, key=lambda n: (not self.faults[n].fault.heals_first, -n))
        failed = await self._sweep(order)
        if failed:
            failed = await self._sweep(list(failed))
        return [f"{self._records[n].kind} on {self._records[n].target}: {error}" for n, error in failed.items()]

    async def _sweep(self, order: Sequence[int]) -> dict[int, str]:
        failed = {}
        for number in order:
            if error := await self._try_heal(number):
                failed[number] = error
            elif self._records[number].healed_at is None:
                self._note(number, healed_at=self.ctx.now())
        return failed


def unproven(records: Sequence[FaultRecord]) -> list[str]:
    """Sentences on faults that were not applied, or that nothing proves to have touched traffic."""
    problems = []
    for record in records:
        name = f"{record.kind} on {record.target}"
        if record.injected_at is None:
            problems.append(f"{name} was never injected" + (f": {record.error}" if record.error else ""))
        elif record.receipt is None:
            problems.append(f"{name} has no receipt: {record.error or 'it gave none'}")
        elif not record.receipt.proven:
            problems.append(f"{name} has no receipt: {record.receipt.summary}")
    return problems
