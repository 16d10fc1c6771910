"""What a trial tells its faults and its set-up beside the roles: how much load there is, what its processes were started with."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from labs.engine import discover
from labs.engine.model import InjectFailedError, KnowsVariables, OffersLoad, Variant, VariantRole
from labs.engine.world import TrialContext, World

VARIANT = Variant(role=VariantRole.NAIVE, roles={"sut": "naive"}, processes=("naive",))
NOWHERE = cast("World", None)


def test_a_load_that_grows_is_told_through_its_file(tmp_path: Path) -> None:
    file = tmp_path / "raw" / "main-naive.times"
    ctx = TrialContext(NOWHERE, VARIANT, times=file)
    assert isinstance(ctx, OffersLoad)
    ctx.offer(8)
    assert file.read_text() == "8"
    ctx.offer(1.0)
    assert file.read_text() == "1"
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_load_that_does_not_grow_says_so() -> None:
    with pytest.raises(InjectFailedError, match="grows=True"):
        TrialContext(NOWHERE, VARIANT).offer(2)


def test_the_set_up_knows_what_the_processes_were_started_with() -> None:
    ctx: Any = TrialContext(NOWHERE, VARIANT, variables={"LAB_PREFIX": "lab1_"})
    assert isinstance(ctx, KnowsVariables)
    assert ctx.variables["LAB_PREFIX"] == "lab1_"


def test_the_labs_are_listed_by_week_and_day(tmp_path: Path) -> None:
    for week in ("week07", "week02"):
        (tmp_path / "labs" / week).mkdir(parents=True)
        (tmp_path / "labs" / week / "day1_x.py").touch()
    assert discover.modules(tmp_path) == ["labs.week02.day1_x", "labs.week07.day1_x"]
    with pytest.raises(discover.NoSuchLabError, match=r"week02-day1, week07-day1$"):
        discover.labs(3, root=tmp_path)
