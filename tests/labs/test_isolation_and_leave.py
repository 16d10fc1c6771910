"""Without a network, and politely gone: what is proved, and what a lying runtime cannot make proved."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp
import pytest

from infra.runtime import ProcessIdentity, ServiceStatus
from labs.chaos.context import ByHand
from labs.engine.model import HealFailedError, InjectFailedError
from labs.faults.isolation import isolation
from labs.faults.leave import leave
from tests.labs.fake_world import FakeRuntime


@dataclass
class Networked(FakeRuntime):
    """Services with a network to lose. `lies`: it cuts nothing; `sticks`: it connects nothing."""

    off: set[str] = field(default_factory=set)
    lies: bool = False
    sticks: bool = False

    def cut(self, service: str) -> ProcessIdentity:
        if not self.lies:
            self.off.add(service)
        return self.running[service]

    def uncut(self, service: str) -> ProcessIdentity | None:
        if not self.sticks:
            self.off.discard(service)
        return self.running.get(service)

    def status(self) -> list[ServiceStatus]:
        return [replace(row, detail="cut off" if row.service in self.off else "") for row in super().status()]


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def by_hand(runtime: FakeRuntime, session: aiohttp.ClientSession, root: Path) -> ByHand:
    runtime.start("web")
    return ByHand(runtime, session, root, begun=time.monotonic())


async def test_a_service_is_cut_off_and_connected_again(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    runtime = Networked()
    ctx = by_hand(runtime, session, tmp_path)
    fault = isolation("web")
    receipt = await fault.receipt(ctx, await fault.inject(ctx))
    assert receipt.proven
    await fault.heal(ctx)
    assert runtime.off == set()


async def test_a_cut_that_cut_nothing_is_not_proven(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    ctx = by_hand(Networked(lies=True), session, tmp_path)
    fault = isolation("web")
    assert not (await fault.receipt(ctx, await fault.inject(ctx))).proven


async def test_a_service_that_stays_cut_off_is_not_healed(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    ctx = by_hand(Networked(sticks=True), session, tmp_path)
    fault = isolation("web")
    await fault.inject(ctx)
    with pytest.raises(HealFailedError, match="web is still cut off"):
        await fault.heal(ctx)


async def test_who_left_is_replaced(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    runtime = FakeRuntime()
    ctx = by_hand(runtime, session, tmp_path)
    before = runtime.identity("web")
    fault = leave("web")
    receipt = await fault.receipt(ctx, await fault.inject(ctx))
    assert receipt.proven
    assert runtime.identity("web") is None
    await fault.heal(ctx)
    assert runtime.identity("web") not in (None, before)


async def test_who_did_not_run_cannot_leave(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    with pytest.raises(InjectFailedError, match="nobody was to leave and did not run"):
        await leave("nobody").inject(by_hand(FakeRuntime(), session, tmp_path))


async def test_zero_intensity_changes_nothing(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    runtime = Networked()
    ctx = by_hand(runtime, session, tmp_path)
    before = runtime.identity("web")
    for fault in (isolation("web", times=0), leave("web", times=0)):
        assert (await fault.receipt(ctx, await fault.inject(ctx))).proven
        await fault.heal(ctx)
    assert (runtime.identity("web"), runtime.off) == (before, set())
