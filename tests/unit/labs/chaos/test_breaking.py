"""One fault from inject to heal with faults that misbehave: the command must never lie about them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import aiohttp
import pytest

from infra.runtime import RuntimeProblem
from labs.chaos import healing
from labs.chaos.breaking import DONE, PROBLEM, UNPROVEN, Order, break_it
from labs.chaos.context import ByHand
from labs.chaos.register import Register
from labs.chaos.scripts import SERVICE, Script
from labs.chaos.telling import JsonTeller
from labs.engine.model import FaultContext, HealFailedError, InjectFailedError, Json, Receipt
from tests.labs.fake_world import FakeRuntime


@dataclass
class ToyFault:
    """Notes what is asked of it. `fails_to_heal`: so many times."""

    proven: bool = True
    injects: bool = True
    fails_to_heal: int = 0
    asked: list[str] = field(default_factory=list)
    kind: str = "toy"
    role: str = "web"
    lasting: float = 1.0
    heals_first: bool = False

    def parameters(self) -> Mapping[str, Json]:
        return {}

    def target(self, ctx: FaultContext) -> str:
        return ctx.service(self.role)

    async def inject(self, ctx: FaultContext) -> object:
        self.asked.append("inject")
        if not self.injects:
            raise InjectFailedError("web would not break")
        return None

    async def receipt(self, ctx: FaultContext, handle: object) -> Receipt:
        self.asked.append("receipt")
        return Receipt(self.proven, "12 requests were hit", {"hits": 12})

    async def heal(self, ctx: FaultContext) -> None:
        self.asked.append("heal")
        if self.fails_to_heal:
            self.fails_to_heal -= 1
            raise HealFailedError("web is still broken")


@dataclass
class Bench:
    """A command on a fake stack that runs `web`."""

    ctx: ByHand
    register: Register
    out: StringIO = field(default_factory=StringIO)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, script: Script, seconds: float = 0.05) -> int:
        return await break_it(
            self.ctx, Order(script, "web", {}, seconds), self.register, JsonTeller(self.out), self.ended
        )

    @property
    def events(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.out.getvalue().splitlines()]

    @property
    def kinds(self) -> list[object]:
        return [event["event"] for event in self.events]


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(healing, "BETWEEN_SECONDS", 0.0)
    runtime = FakeRuntime()
    runtime.start("web")
    async with aiohttp.ClientSession() as session:
        yield Bench(ByHand(runtime, session, tmp_path), Register(tmp_path, "dev"))


def script(fault: ToyFault, monkeypatch: pytest.MonkeyPatch, *, measures: bool = False) -> Script:
    """Known by its name, so that restoring builds the same fault."""
    toy = Script("toy", SERVICE, "", "", lambda ctx: ["web"], lambda ctx, target, options: fault, measures=measures)
    monkeypatch.setattr(healing, "find", lambda name: toy)
    return toy


async def test_a_proven_fault_is_told_and_healed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = ToyFault()
    assert await bench.run(script(fault, monkeypatch)) == DONE
    assert fault.asked == ["inject", "receipt", "heal"]
    assert bench.kinds == ["started", "receipt", "healed"]
    assert bench.register.entries() == []


async def test_a_fault_that_touched_nothing_is_never_called_done(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await bench.run(script(ToyFault(proven=False), monkeypatch)) == UNPROVEN
    assert bench.kinds == ["started", "receipt", "problem", "healed"]
    assert "nothing proves that toy met any traffic on web" in str(bench.events[2]["text"])


async def test_a_fault_that_cannot_be_applied_is_healed_all_the_same(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = ToyFault(injects=False)
    assert await bench.run(script(fault, monkeypatch)) == PROBLEM
    assert fault.asked == ["inject", "heal"]
    assert bench.events[1]["text"] == "web would not break."


async def test_a_heal_that_fails_is_tried_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = ToyFault(fails_to_heal=2)
    assert await bench.run(script(fault, monkeypatch)) == DONE
    assert fault.asked.count("heal") == 3


async def test_what_cannot_be_healed_stays_registered(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await bench.run(script(ToyFault(fails_to_heal=99), monkeypatch)) == PROBLEM
    assert [entry.name for entry in bench.register.entries()] == ["toy on web"]
    assert bench.kinds[-1] == "problem"
    assert "not healed: web is still broken. 'make chaos do=heal' tries again." in str(bench.events[-1]["text"])


async def test_an_interruption_ends_it_before_its_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.ended.set()
    assert await asyncio.wait_for(bench.run(script(ToyFault(), monkeypatch, measures=True), seconds=3600), 20) == DONE
    assert bench.kinds == ["started", "receipt", "healed"], "the same is not said twice"


async def test_what_is_broken_already_is_not_broken_again_nor_healed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = ToyFault()
    bench.register.enter("toy", "web", {}, 20)
    with pytest.raises(RuntimeProblem, match="do=heal target=web"):
        await bench.run(script(fault, monkeypatch))
    assert fault.asked == []
    assert len(bench.register.entries()) == 1


async def test_what_went_down_with_its_stack_is_not_touched(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = ToyFault()
    toy = script(fault, monkeypatch)
    bench.ctx.runtime.down()
    assert await bench.run(toy) == DONE
    assert fault.asked == ["inject", "receipt"]
    assert "went down with its stack" in str(bench.events[-1]["text"])
