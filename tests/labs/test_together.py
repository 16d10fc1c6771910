"""Several faults as one: proven only if all are, healed even if one resists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import pytest

from labs.engine.model import Fault, FaultContext, HealFailedError, InjectFailedError, Json, Receipt
from labs.faults import edge, network, together
from labs.faults.network import SAMPLE_SECONDS, Link
from labs.faults.together import Together

NOBODY = cast("FaultContext", None)


@dataclass
class FakeFault:
    role: str
    proven: bool = True
    injects: bool = True
    heals: bool = True
    kind: str = "fake"
    lasting: float = 3.0
    heals_first: bool = False
    seen: list[str] = field(default_factory=list)

    def parameters(self) -> Mapping[str, Json]:
        return {"share": 1}

    def target(self, ctx: FaultContext) -> str:
        return f"proxy.{self.role}"

    async def inject(self, ctx: FaultContext) -> str:
        self.seen.append("inject")
        if not self.injects:
            raise InjectFailedError(f"{self.role} resists")
        return self.role

    async def receipt(self, ctx: FaultContext, handle: object) -> Receipt:
        assert handle == self.role
        self.seen.append("receipt")
        return Receipt(self.proven, f"{self.role} was {'hit' if self.proven else 'not touched'}")

    async def heal(self, ctx: FaultContext) -> None:
        self.seen.append("heal")
        if not self.heals:
            raise HealFailedError(f"{self.role} is still broken")


def test_it_names_all_its_parts() -> None:
    made = together(FakeFault("sut.shard0"), FakeFault("sut.shard1", lasting=5, kind="other", heals_first=True))
    assert (made.role, made.kind, made.lasting, made.heals_first) == ("sut.shard0 sut.shard1", "fake+other", 5, True)
    assert made.target(NOBODY) == "proxy.sut.shard0 proxy.sut.shard1"
    assert made.parameters() == {"share": 1, "parts": 2}
    assert isinstance(made, Fault)


async def test_it_is_proven_only_if_every_part_is() -> None:
    good = together(*(FakeFault(str(n)) for n in range(3)))
    receipt = await good.receipt(NOBODY, await good.inject(NOBODY))
    assert (receipt.proven, receipt.summary) == (True, "0 was hit; and 2 more like it")
    half = together(FakeFault("a"), FakeFault("b", proven=False))
    receipt = await half.receipt(NOBODY, await half.inject(NOBODY))
    assert (receipt.proven, receipt.summary, receipt.facts["proven"]) == (False, "b was not touched", 1)


async def test_it_may_be_enough_that_some_met_traffic() -> None:
    parts = [FakeFault("a", proven=False), FakeFault("b"), FakeFault("c", proven=False)]
    enough = together(*parts, touched=1)
    receipt = await enough.receipt(NOBODY, await enough.inject(NOBODY))
    assert (receipt.proven, receipt.summary, receipt.facts["proven"]) == (True, "b was hit", 1)
    wanting = together(*parts, touched=2)
    receipt = await wanting.receipt(NOBODY, await wanting.inject(NOBODY))
    assert (receipt.proven, receipt.summary) == (False, "a was not touched; and 1 more like it")


async def test_when_one_cannot_be_injected_what_the_others_measure_is_ended() -> None:
    parts = [FakeFault("a"), FakeFault("b", injects=False), FakeFault("c")]
    with pytest.raises(InjectFailedError, match="b resists"):
        await together(*parts).inject(NOBODY)
    assert [part.seen for part in parts] == [["inject", "receipt"], ["inject"], ["inject", "receipt"]]


async def test_all_are_healed_whatever_one_says() -> None:
    parts = [FakeFault("a", heals=False), FakeFault("b"), FakeFault("c", heals=False)]
    with pytest.raises(HealFailedError, match="a is still broken; c is still broken"):
        await together(*parts).heal(NOBODY)
    assert all(part.seen == ["heal"] for part in parts)


async def test_what_was_never_injected_has_no_receipt() -> None:
    with pytest.raises(InjectFailedError):
        await together(FakeFault("a"), FakeFault("b")).receipt(NOBODY, None)


def test_many_links_are_looked_at_the_more_seldom() -> None:
    made = together(*(network.down(edge(f"sut.shard{n}")) for n in range(10)))
    assert isinstance(made, Together)
    assert all(isinstance(part, Link) and part.sample_seconds == 10 * SAMPLE_SECONDS for part in made.parts)


def test_one_part_is_itself_and_none_is_an_error() -> None:
    one = FakeFault("a")
    assert together(one) is one
    for parts, touched in (((), None), ((), 0), ((one,), 0), ((one,), 2)):
        with pytest.raises(ValueError, match="at least one"):
            together(*parts, touched=touched)
