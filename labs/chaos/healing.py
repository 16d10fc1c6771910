"""Restoring: one registered fault, or all that is broken in a project, known to the register or not."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

import aiohttp

from infra.runtime import RuntimeProblem
from labs.chaos.context import ByHand
from labs.chaos.register import Entry, Register
from labs.chaos.scripts import SMALL_VOLUMES, find
from labs.chaos.telling import Teller
from labs.engine.blocking import blocking
from labs.engine.model import Fault, HealFailedError, InjectFailedError
from labs.faults import clock
from labs.faults.full_disk import SmallDisk
from labs.faults.toxiproxy import Proxy, Toxiproxy, ToxiproxyError

STATES = ("running", "paused", "exited", "stopped")
ATTEMPTS, BETWEEN_SECONDS = 3, 1.0
PATIENCE_SECONDS = 120.0
"""For a command in another terminal to heal what it broke."""
POLL_SECONDS = 0.1
OUTLIVES_PROCESSES = "fill-disk"
PROBLEMS = (InjectFailedError, HealFailedError, RuntimeProblem, ToxiproxyError)


async def restore(ctx: ByHand, entry: Entry) -> str:
    """Take one fault back and say how it is now. Idempotent. Raises HealFailedError or RuntimeProblem."""
    up = bool(ctx.services(*STATES))
    if not up and entry.do != OUTLIVES_PROCESSES:
        return f"{entry.target} went down with its stack meanwhile"
    if entry.target in ctx.runtime.edges() and "toxiproxy" not in ctx.services(*STATES):
        return f"{entry.target} has no proxy any more"
    fault = find(entry.do).build(ctx, entry.target, entry.options)
    await _heal(ctx, fault)
    identity = None if entry.target in ctx.runtime.edges() else await blocking(ctx.runtime.identity, entry.target)
    return f"{entry.target} is as before" if identity is None else f"{entry.target} runs (pid {identity.pid})"


async def _heal(ctx: ByHand, fault: Fault) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            await fault.heal(ctx)
        except (HealFailedError, RuntimeProblem):
            if attempt == ATTEMPTS:
                raise
            await asyncio.sleep(BETWEEN_SECONDS)
        else:
            return


async def heal_all(ctx: ByHand, register: Register, target: str, teller: Teller, *, known_only: bool = False) -> int:
    """`do=heal`: of one target, or of everything. Exit code 0, or 1 with what is still broken.

    `known_only`: what is in the register and nothing else, for a stack that is about to go down.
    """
    entries = [entry for entry in register.entries() if target in ("", entry.target)]
    await _ask_to_heal([entry for entry in entries if entry.kept], register)
    left = [entry for entry in entries if register.holds(entry)]
    results = [await _settle(ctx, entry, register, teller) for entry in sorted(left, key=_order)]
    asked = [entry for entry in entries if entry not in left]
    for entry in asked:
        teller.event("healed", f"healed: {entry.name}, by the command that broke it")
    found = (0, 0) if known_only else await sweep(ctx, target, teller)
    if not entries and found == (0, 0):
        teller.event("note", f"there was nothing to heal{f' at {target}' if target else ''}")
    return 1 if found[1] or not all(results) else 0


def _order(entry: Entry) -> int:
    """What is frozen first, then what is dead: nothing else can be healed before."""
    return {"pause": 0, "kill": 1, "restart": 1}.get(entry.do, 2)


async def _ask_to_heal(entries: Iterable[Entry], register: Register) -> None:
    """SIGTERM to the commands that still run, and wait for what they do then."""
    asked = list(entries)
    for entry in asked:
        if entry.kept and entry.pid != os.getpid():
            os.kill(entry.pid, signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if not any(register.holds(entry) and entry.kept for entry in asked):
            return
        await asyncio.sleep(POLL_SECONDS)


async def _settle(ctx: ByHand, entry: Entry, register: Register, teller: Teller) -> bool:
    if entry.kept:
        teller.event("problem", f"{entry.name} is still broken: its command (pid {entry.pid}) has not ended.")
        return False
    try:
        how = await restore(ctx, entry)
    except PROBLEMS as problem:
        teller.event("problem", f"{entry.name} is still broken: {problem}")
        return False
    register.leave(entry)
    teller.event("healed", f"healed: {entry.name}; {how}", {"do": entry.do, "target": entry.target})
    return True


async def sweep(ctx: ByHand, target: str, teller: Teller) -> tuple[int, int]:
    """What no register knows of: frozen, dead, disturbed, wrong. (healed, still broken)."""
    healed = failed = 0
    for what, work in await _found(ctx, target):
        try:
            await work()
        except PROBLEMS as problem:
            failed += 1
            teller.event("problem", f"still broken: {what}: {problem}")
        else:
            healed += 1
            teller.event("healed", f"healed: {what}")
    return healed, failed


Work = Callable[[], Awaitable[object]]


async def _found(ctx: ByHand, target: str) -> list[tuple[str, Work]]:
    def wanted(name: str) -> bool:
        return target in ("", name)

    disk = find(OUTLIVES_PROCESSES)
    runtime = ctx.runtime
    return [
        *((f"{name} was frozen", partial(blocking, runtime.resume, name)) for name in ctx.services("paused") if wanted(name)),
        *((f"{name} had a small disk", partial(disk.build(ctx, name, {}).heal, ctx)) for name in _small_disks(ctx) if wanted(name)),
        *((f"{name} was dead", partial(blocking, runtime.start, name)) for name in ctx.services("exited") if wanted(name)),
        *((f"{name} was disturbed", work) for name, work in await _disturbed(ctx) if wanted(name)),
        *((f"{name} had a wrong clock", partial(clock.ahead(name).heal, ctx)) for name in await _wrong_clocks(ctx) if wanted(name)),
    ]  # fmt: skip


def _small_disks(ctx: ByHand) -> list[str]:
    found = []
    for name in SMALL_VOLUMES:
        try:
            folder = ctx.volume(name)
        except RuntimeProblem:
            continue  # no such volume here, or out of reach, and then it was never made small
        if SmallDisk(folder.resolve()).broken:
            found.append(name)
    return found


async def _disturbed(ctx: ByHand) -> list[tuple[str, Work]]:
    if not ctx.proxied():
        return []
    api = Toxiproxy(ctx.session, ctx.toxiproxy())
    found: list[tuple[str, Work]] = []
    for name, edge in ctx.runtime.edges().items():
        try:
            proxy = await api.proxy(name)
        except ToxiproxyError:
            continue  # it has no such proxy, or does not answer: then it disturbs nothing
        if not proxy.enabled or proxy.toxics or proxy.upstream != edge.upstream:
            found.append((name, partial(_calm, api, proxy, edge.upstream)))
    return found


async def _calm(api: Toxiproxy, proxy: Proxy, upstream: str) -> None:
    for toxic in proxy.toxics:
        await api.remove(proxy.name, toxic.name)
    if proxy.upstream != upstream:
        await api.lead_to(proxy.name, upstream)
    if not proxy.enabled:
        await api.enable(proxy.name, True)


async def _wrong_clocks(ctx: ByHand) -> list[str]:
    async def wrong(name: str) -> bool:
        try:
            return bool((await clock.reading(ctx, name)).offset_seconds)
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return False  # it has no clock that could be put wrong, or does not answer

    names = ctx.with_clock()
    return [name for name, is_wrong in zip(names, await asyncio.gather(*map(wrong, names)), strict=True) if is_wrong]
