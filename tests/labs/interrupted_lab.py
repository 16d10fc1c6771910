"""A lab on the fake world that a test interrupts: `python -m tests.labs.interrupted_lab FOLDER`."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from rich.console import Console

from labs.__main__ import until_done
from labs.engine.timing import Timing
from tests.labs.fake_world import FakeLab, FlagFault


async def main(root: Path) -> int:
    fake = FakeLab(root, timing=Timing(control=0.2, baseline=0.4, inject=30, scale=1.0, budget=60))
    lab = fake.lab(fault=FlagFault(fake.world, lasting=30))
    code = await until_done(asyncio.ensure_future(fake.run(lab)), Console())
    (root / "calls.json").write_text(json.dumps(fake.runtime.calls))
    return code


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Path(sys.argv[1]))))
