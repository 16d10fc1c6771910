"""A lab of seconds on the fake world, started by the console under test: `python tiny_lab.py run --week=9 --day=9 ...`.

It runs in the folder of a scratch checkout and leaves a real report there.
"""

from __future__ import annotations

import asyncio
import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import cast

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from rich.console import Console

from labs.__main__ import _parser, until_done
from labs.engine.run import Options
from labs.engine.timing import Timing
from tests.labs.fake_world import FakeLab, FlagFault

QUICK = 2.5
INTERRUPTIBLE_SECONDS = 60.0


@dataclass
class TinyLab(FakeLab):
    """Lists and runs in the same folder."""

    def __post_init__(self) -> None:
        self.world.mkdir(exist_ok=True)


LAB = TinyLab(Path.cwd()).lab()


async def main() -> int:
    chosen = _parser().parse_args()
    inject = INTERRUPTIBLE_SECONDS if chosen.keep else QUICK
    timing = Timing(control=0.2, baseline=0.4, inject=inject, scale=1.0, budget=120)
    fake = TinyLab(Path.cwd(), timing=timing, output=cast("io.StringIO", sys.stdout))
    lab = fake.lab(fault=FlagFault(fake.world, lasting=inject / 2))
    options = Options(seed=chosen.seed, predict=chosen.predict, variant=chosen.variant)
    return await until_done(asyncio.ensure_future(fake.run(lab, options)), Console())


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
