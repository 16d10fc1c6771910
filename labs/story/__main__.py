"""`python -m labs.story`: behind `make story`. Exit codes: 0 all stations are done, 1 it stopped, in one sentence, 2 usage."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import aiohttp

from infra import projects
from infra.native.runtime import CHECKOUT
from infra.runtime import Runtime, RuntimeProblem
from labs.console import settings
from labs.story import record
from labs.story.follow import JOB_PROCESSES, STORY_PROCESSES, Follower, new_story
from labs.story.house import LiveHouse, Outside, require_started
from labs.story.record import Station, Story

PROFILE = "story"
LARGEST_QUANTITY = 100
NEEDED = (
    *(name for name in STORY_PROCESSES),
    "catalog-api", "catalog-connector", "search-api", "webhooks-api", "cron-api", "cron-scheduler-1",
    *(name for name in JOB_PROCESSES if name != "cron-scheduler"),
)  # fmt: skip


def main(arguments: Sequence[str] | None = None, *, root: Path = CHECKOUT) -> int:
    """Parse and follow."""
    parser = argparse.ArgumentParser(
        prog="python -m labs.story", description="One checkout, followed through all systems."
    )
    parser.add_argument("--product", default="", help="id (prd_...) or SKU; without it one of the story's own")
    parser.add_argument("--quantity", type=_quantity, default=1, help=f"1 to {LARGEST_QUANTITY}")
    chosen = parser.parse_args(arguments)
    try:
        runtime = projects.current("dev", root)
        require_started(runtime, NEEDED, PROFILE)
        return asyncio.run(tell(runtime, chosen.product, chosen.quantity, root))
    except RuntimeProblem as problem:
        print(problem, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _quantity(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= LARGEST_QUANTITY):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to {LARGEST_QUANTITY}")
    return int(text)


async def tell(runtime: Runtime, product: str, quantity: int, root: Path) -> int:
    """Print each station when it is done; keep all of it for the console."""
    story = new_story(product, quantity)
    kept = f"http://127.0.0.1:{runtime.variable('JAEGER_PORT')}"

    def told(story: Story, station: Station) -> None:
        record.write(root, story)
        if station.state in {"done", "stopped"} and story.state != "done":
            print(line(station), flush=True)

    async with aiohttp.ClientSession(trust_env=False) as http:
        try:
            went_well = await Follower(Outside(LiveHouse(runtime), http), kept, story, told, product).run()
        except asyncio.CancelledError:
            story.state, story.problem = "stopped", "The story was interrupted."
            record.write(root, story)
            raise
    if story.payment:
        page = settings.load(root).url
        print(
            f"\nIts trace: {page}/traces/{story.trace_id}   all of it: {page}/story   ('make console' starts the pages)"
        )
    if not went_well:
        print(story.problem, file=sys.stderr)
        return 1
    print("The story went through all systems.")
    return 0


def line(station: Station) -> str:
    """For a terminal."""
    at = "" if station.seconds is None else f"{station.seconds:8.3f} s"
    mark = "" if station.state == "done" else "  <- stopped here"
    return f"{at:>10}  {station.title:<26} {station.says}{mark}\n{'':>12}{'':<26} (from {station.where})"


if __name__ == "__main__":
    sys.exit(main())
