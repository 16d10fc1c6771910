"""`python -m labs run --week 2 --day 2`, `start`, `list`, `report`. Exit codes: 0 pass, 1 fail, 3 unknown, 2 usage, 130 interrupted."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import os
import signal
import sys
import webbrowser
from collections.abc import Callable, Sequence
from typing import Final, Literal

from rich.console import Console

from infra.runtime import RuntimeProblem
from labs import start
from labs.engine import discover, folder
from labs.engine.discover import ROOT, NoSuchLabError
from labs.engine.model import Lab
from labs.engine.run import DEFAULT_SEED, Options, run_labs

USAGE, UNKNOWN, INTERRUPTED = 2, 3, 130
LARGEST_CATALOGUE = 10_000_000
ALL: Final = "all"
OF_ONE_DAY = ("day", "variant", "rate", "seconds", "docs", "keep")
"""What no `week=all` takes: the days differ in variants and load, and only one day's processes can be left running."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse and do."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    console = Console(highlight=False)
    try:
        if chosen.command == "list":
            return _list(console)
        if chosen.command == "start":
            return _start(console)
        if chosen.command == "report":
            return _report(console)
        return _run(chosen, console)
    except (NoSuchLabError, ValueError) as mistake:
        print(f"python -m labs: {mistake}", file=sys.stderr)
        return USAGE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m labs", description="Break real systems and see what holds.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run a day, all days of a week in order, or all weeks")
    run.add_argument("--week", type=_week, help="a number, all, or template")
    run.add_argument("--day", type=int)
    run.add_argument("--variant", help="only this one: naive, engineered, yours ...")
    run.add_argument("--seed", type=_at_least(0), default=DEFAULT_SEED)
    run.add_argument("--keep", action="store_true", help="afterwards start again, inject once more and leave it so")
    run.add_argument("--short", action="store_true", help="at most 60 s a day")
    run.add_argument("--traces", action="store_true", help="keep traces; look at them with --keep")
    run.add_argument("--rate", type=_positive, help="operations per second")
    run.add_argument("--seconds", type=_positive, help="seconds of load in all, baseline included")
    run.add_argument("--docs", type=_documents, help="size of the catalogue, for week 7")
    run.add_argument("--predict", help="what you expect, for the report")
    commands.add_parser("start", help="what is here, and what to try first")
    commands.add_parser("list", help="every lab, its question, its last verdict")
    commands.add_parser("report", help="the newest report")
    return parser


def _week(text: str) -> int | Literal["all"]:
    if text == ALL:
        return ALL
    if text == discover.folder_of(discover.TEMPLATE):
        return discover.TEMPLATE
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of a week nor all") from None


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value <= 100_000:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 100000")
    return value


def _documents(text: str) -> int:
    value = int(text)
    if not 1000 <= value <= LARGEST_CATALOGUE:
        raise argparse.ArgumentTypeError(f"{text} is not between 1000 and {LARGEST_CATALOGUE}")
    return value


def _at_least(least: int) -> Callable[[str], int]:
    def whole(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{text} is less than {least}")
        return value

    return whole


def _list(console: Console) -> int:
    for lab in [discover.load(module) for module in discover.modules()]:
        verdict = folder.last_verdict(ROOT, lab.name)
        last = "never run" if verdict is None else f"last: {folder.told(lab, verdict)}"
        console.print(f"{lab.name}  {lab.title}  ({last})", markup=False)
        console.print(f"    {lab.question}", markup=False)
        console.print(f"    make lab week={lab.week} day={lab.day}", markup=False)
    return 0


def _start(console: Console) -> int:
    start.show(console, discover.labs(), ROOT)
    return 0


def _report(console: Console) -> int:
    path = folder.newest_report(ROOT)
    if path is None:
        console.print("There is no report yet; run a lab first: make lab week=2 day=2")
        return 1
    console.print(str(path), markup=False, soft_wrap=True)
    if sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(path.as_uri())
    return 0


def _run(chosen: argparse.Namespace, console: Console) -> int:
    labs = _chosen_labs(chosen)
    if chosen.traces:
        # Read by docker-compose.yml, so by every process of the lab, however it is started.
        os.environ["TRACES"] = "1"
        labs = [dataclasses.replace(lab, infrastructure=(*lab.infrastructure, "jaeger")) for lab in labs]
    options = Options(
        variant=chosen.variant,
        seed=chosen.seed,
        keep=chosen.keep,
        short=chosen.short,
        rate=chosen.rate,
        seconds=chosen.seconds,
        predict=chosen.predict,
        docs=chosen.docs,
    )
    return asyncio.run(interruptible(labs, options, console))


def _chosen_labs(chosen: argparse.Namespace) -> list[Lab]:
    """Raises ValueError where the week is missing or an option fits no run of all weeks, NoSuchLabError."""
    if chosen.week is None:
        raise ValueError("say which week: make lab week=2 day=2, or week=all")
    if chosen.week != ALL:
        return discover.labs(chosen.week, chosen.day)
    if said := [name for name in OF_ONE_DAY if getattr(chosen, name) not in (None, False)]:
        raise ValueError(
            f"week=all runs every day as it is: leave out {', '.join(said)}, or say one week; it takes seed, short, predict and traces"
        )
    return discover.labs()


async def interruptible(labs: Sequence[Lab], options: Options, console: Console) -> int:
    """SIGINT and SIGTERM cancel the run once; it takes its faults back and stops what it started, and says so."""
    from infra.choose import open_runtime

    runtime = open_runtime("lab", edges=True)
    work = asyncio.ensure_future(run_labs(labs, options, runtime=runtime, root=ROOT, console=console))
    return await until_done(work, console)


async def until_done(work: asyncio.Task[int], console: Console) -> int:
    """The exit code of a run, or of its interruption."""
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        if work.cancelling():
            console.print("Still taking the faults back; one moment.")
        else:
            console.print("\nInterrupted: taking the faults back and stopping what was started.")
            work.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupt)
    try:
        return await work
    except asyncio.CancelledError:
        return INTERRUPTED
    except RuntimeProblem as problem:
        if work.cancelling():
            return INTERRUPTED
        console.print(str(problem), markup=False, soft_wrap=True)
        return UNKNOWN
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


if __name__ == "__main__":
    sys.exit(main())
