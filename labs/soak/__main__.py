"""`python -m labs.soak --minutes 30 --seed 7`. Exit codes as of a lab: 0 pass, 1 fail, 3 unknown, 2 usage, 130 interrupted."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

from rich.console import Console

from labs.__main__ import until_done
from labs.engine.discover import ROOT
from labs.engine.run import DEFAULT_SEED
from labs.soak.run import SoakOptions, soak
from labs.soak.timing import FEWEST_MINUTES, MOST_MINUTES

DEFAULT_MINUTES = 30
LARGEST_SEED = 2**31 - 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse and do."""
    parser = argparse.ArgumentParser(
        prog="python -m labs.soak", description="All services at once, under load and faults."
    )
    parser.add_argument("--minutes", type=_minutes, default=DEFAULT_MINUTES, help="of load, baseline included")
    parser.add_argument("--seed", type=_seed, default=DEFAULT_SEED, help="of arrivals and faults")
    chosen = parser.parse_args(arguments)
    return asyncio.run(_interruptible(SoakOptions(chosen.minutes, chosen.seed), Console(highlight=False)))


def _minutes(text: str) -> int:
    return _whole(text, FEWEST_MINUTES, MOST_MINUTES)


def _seed(text: str) -> int:
    return _whole(text, 0, LARGEST_SEED)


def _whole(text: str, least: int, most: int) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
    if not least <= value <= most:
        raise argparse.ArgumentTypeError(f"{text} is not between {least} and {most}")
    return value


async def _interruptible(options: SoakOptions, console: Console) -> int:
    from infra.choose import open_runtime

    runtime = open_runtime("lab", edges=True)
    work = asyncio.ensure_future(soak(options, runtime=runtime, root=ROOT, console=console))
    return await until_done(work, console)


if __name__ == "__main__":
    sys.exit(main())
