"""One fault by hand from inject to heal: told, timed, and healed whatever happens to the command but SIGKILL."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from infra.runtime import RuntimeProblem
from labs.chaos import evidence
from labs.chaos.arguments import told
from labs.chaos.context import ByHand
from labs.chaos.healing import restore
from labs.chaos.probe import Trips
from labs.chaos.register import Entry, Register
from labs.chaos.scripts import Options, Script
from labs.chaos.telling import Teller
from labs.engine.model import Fault, HealFailedError, InjectFailedError, Json, Receipt

DONE, PROBLEM, UNPROVEN = 0, 1, 3
TICK_SECONDS = 1.0
PROBLEMS = (InjectFailedError, HealFailedError, RuntimeProblem)


class Ended(Protocol):
    """Whether the command was asked to end: an asyncio.Event."""

    async def wait(self) -> object: ...

    def is_set(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked for, checked."""

    script: Script
    target: str
    options: Options
    seconds: float


@asynccontextmanager
async def asked_to_end() -> AsyncIterator[asyncio.Event]:
    """Set by Ctrl-C, SIGTERM and a closed terminal, so that none of them interrupts a heal. `nohup` stays what it is."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, ended.set)
    try:
        yield ended
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def break_it(ctx: ByHand, order: Order, register: Register, teller: Teller, ended: Ended) -> int:
    """Exit code: 0 proven and healed, 1 not broken or not healed, 3 healed and nothing proved that it acted.

    Raises RuntimeProblem when the same is broken already.
    """
    script = order.script
    fault = script.build(ctx, order.target, order.options)
    entry = register.enter(script.name, order.target, order.options, order.seconds)
    breaking = _Breaking(ctx, order, fault, teller, ended, lambda: register.acts(entry, order.seconds))
    code = PROBLEM
    try:
        code = await breaking.run()
    except PROBLEMS as problem:
        teller.event("problem", _sentence(problem))
    finally:
        healed = await _heal(ctx, entry, register, teller)
    return code if healed else PROBLEM


async def _heal(ctx: ByHand, entry: Entry, register: Register, teller: Teller) -> bool:
    begun = time.monotonic()
    try:
        how = await restore(ctx, entry)
    except PROBLEMS as problem:
        teller.event("problem", f"not healed: {_sentence(problem)} 'make chaos do=heal' tries again.")
        return False
    register.leave(entry)
    took = time.monotonic() - begun
    facts: dict[str, Json] = {"do": entry.do, "target": entry.target, "seconds": round(took, 3)}
    teller.event("healed", f"healed: {how} ({took:.1f} s)", facts)
    return True


@dataclass(slots=True)
class _Breaking:
    ctx: ByHand
    order: Order
    fault: Fault
    teller: Teller
    ended: Ended
    acts: Callable[[], None]
    proven: bool = False
    said: str = ""

    async def run(self) -> int:
        script, order = self.order.script, self.order
        self.teller.event("started", self._headline(), self._facts())
        before = await self._look()
        handle = await self.fault.inject(self.ctx)
        self.acts()
        over = time.monotonic() + order.seconds
        try:
            await self._compare(before)
            if script.receipt_after is not None:
                await self._wait(min(time.monotonic() + script.receipt_after, over))
                self._tell(await self.fault.receipt(self.ctx, handle))
            await self._wait(over)
        finally:
            # A link measures until it is asked: the question ends what it runs, and tells what passed.
            if script.measures or script.receipt_after is None:
                self._tell(await self.fault.receipt(self.ctx, handle), last=True)
        if self.proven:
            return DONE
        self.teller.event("problem", self._why_unproven())
        return UNPROVEN

    async def _look(self) -> Trips | None:
        script, target = self.order.script, self.order.target
        edges = self.ctx.runtime.edges()
        if script.look is None or target not in edges:
            return None
        return await evidence.look(self.ctx, edges[target], script.look(self.order.options))

    async def _compare(self, before: Trips | None) -> None:
        look = self.order.script.look
        now = None if before is None else await self._look()
        if look is None or before is None or now is None:
            return
        edge, how = self.ctx.runtime.edges()[self.order.target], look(self.order.options)
        self._tell(evidence.compared(edge, how, before, now))

    async def _wait(self, until: float) -> None:
        while not self.ended.is_set() and (left := until - time.monotonic()) > 0:
            self.teller.countdown(left)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.ended.wait(), min(TICK_SECONDS, left))

    def _tell(self, receipt: Receipt, *, last: bool = False) -> None:
        self.proven = self.proven or receipt.proven
        if last and receipt.summary == self.said:
            return
        self.said = receipt.summary
        facts: dict[str, Json] = {"proven": receipt.proven, "last": last, "facts": receipt.facts}
        self.teller.event("receipt", receipt.summary, facts)

    def _headline(self) -> str:
        order = self.order
        numbers = "".join(f" {name}={value:g}" for name, value in order.options.items())
        return f"{order.script.name} on {order.target}{numbers} for {told(order.seconds)}; Ctrl-C heals earlier"

    def _facts(self) -> dict[str, Json]:
        order = self.order
        return {
            "do": order.script.name,
            "target": order.target,
            "for_seconds": order.seconds,
            "options": dict(order.options),
            "teaches": order.script.teaches,
        }

    def _why_unproven(self) -> str:
        traffic = "; send some: make load system=payments rate=20 minutes=1" if self.order.script.look else ""
        return f"nothing proves that {self.order.script.name} met any traffic on {self.order.target}{traffic}."


def _sentence(problem: Exception) -> str:
    text = str(problem)
    return text if text.endswith(".") else f"{text}."
