"""`python -m benchmarks [--system payments]`: measures, then writes BENCHMARKS.md.

Exit codes: 0 done, 1 a problem said in one sentence or a benchmark that failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from benchmarks import machine, page, records
from benchmarks.measure import Wanted
from benchmarks.stack import PROJECT, say
from benchmarks.systems import DEFAULT_DOCS, FEWEST_DOCS, FIGURES, MOST_DOCS, PROFILES, ROUNDS, SEARCH, SECONDS
from infra import projects
from infra.choose import choose, look
from infra.native.environment import given_values
from infra.native.runtime import CHECKOUT
from infra.runtime import RuntimeProblem
from labs.engine.lock import one_lab

INTERRUPTED = 130
PROGRAM = ("-m", "benchmarks.measure")

Measure = Callable[[Wanted], int]
"""Measures one, leaves its result in .lab/bench, and gives its exit code."""


def main(arguments: Sequence[str] | None = None, *, root: Path = CHECKOUT, one: Measure | None = None) -> int:
    """Parse and do. `root` and `one` are for tests."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.docs is not None and options.system != SEARCH:
        parser.error(f"--docs belongs to --system {SEARCH}")
    if options.write and (options.system or options.docs):
        parser.error("--write measures nothing, so it takes no --system")
    try:
        page.readable(root)
        if options.write:
            page.publish(root)
            return 0
        with one_lab(root, "make bench"):
            require_quiet(root)
            return run_all(wanted(options, machine.commit(root), root), one or measure, root)
    except (RuntimeProblem, ValueError, OSError) as problem:
        print(problem, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED


def wanted(options: argparse.Namespace, commit: str | None, root: Path) -> list[Wanted]:
    """One, or all; profiles under each runtime that can be had."""
    runtime, _ = choose()
    found = []
    for name in [options.system] if options.system else FIGURES:
        docs = (options.docs or DEFAULT_DOCS) if name == SEARCH else None
        under = runtimes(runtime, root) if name == PROFILES else [runtime]
        found += [Wanted(name, options.rounds, options.seconds, docs, commit, each) for each in under]
    return found


def runtimes(chosen: str, root: Path) -> list[str]:
    """The chosen one and the other, if it can be had and LAB_RUNTIME asks for none."""
    if given_values(root).get("LAB_RUNTIME"):
        return [chosen]
    if chosen == "native":
        other, reason = look(root)
        if other == "native":
            say(f"profiles natively only: {reason}")
    else:
        other = "native" if (root / ".lab" / "bin" / "toxiproxy-server").exists() else chosen
        if other == chosen:
            say("profiles with Docker only: LAB_RUNTIME=native make setup would fetch the native servers")
    return list(dict.fromkeys([chosen, other]))


def run_all(chosen: Sequence[Wanted], one: Measure, root: Path) -> int:
    """Each in turn; one that fails stops no other. Its part of the page stays as it was, the others' are written at once."""
    failed = []
    for each in chosen:
        code = one(each)
        if code == INTERRUPTED:
            say("interrupted; what was measured before is written")
            return INTERRUPTED
        if code != 0:
            failed.append(f"{each.system}, {each.runtime} (exit code {code})")
        else:
            page.publish(root, records.file_name(each.system, each.docs, each.runtime))
    if failed:
        print(f"not measured: {', '.join(failed)}; BENCHMARKS.md has what it had of that", file=sys.stderr)
    return 1 if failed else 0


def measure(one: Wanted, program: Sequence[str] = PROGRAM) -> int:
    """In a process of its own: none begins with another's memory, and none takes another with it.

    It is told once of SIGINT and SIGTERM, stops what it runs, and only then is this over.
    """
    say(f"--- {one.system}, {one.runtime}")
    child: subprocess.Popen[bytes] | None = None
    told = False

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal told
        say("interrupted: stopping what was started")
        if not told and child is not None:
            os.killpg(child.pid, signal.SIGINT)
        told = True

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        child = subprocess.Popen(
            [sys.executable, *program, *one.options],
            cwd=CHECKOUT,
            env=os.environ | {"LAB_RUNTIME": one.runtime},
            start_new_session=True,
        )
        if told:
            os.killpg(child.pid, signal.SIGINT)
        code = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return INTERRUPTED if told else code


def require_quiet(root: Path) -> None:
    """Raises RuntimeProblem if something of this checkout runs, which would be measured, too."""
    for name in projects.existing(root):
        if name != PROJECT and (running := _running(name, root)):
            raise RuntimeProblem(
                f"{running} services of project '{name}' run and would be measured, too; 'make down' first."
            )


def _running(project: str, root: Path) -> int:
    try:
        rows = projects.current(project, root).status()
    except RuntimeProblem:
        return 0  # its engine does not answer, so it runs nothing
    return sum(row.state in ("running", "paused") for row in rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measures, then writes BENCHMARKS.md.")
    parser.add_argument("--system", choices=FIGURES, help="default: all")
    parser.add_argument("--rounds", type=_from(1, 100), default=ROUNDS, help="alternations of limit and service")
    parser.add_argument("--seconds", type=_from(1, 3600), default=SECONDS, help="length of one measurement")
    parser.add_argument("--docs", type=_from(FEWEST_DOCS, MOST_DOCS), help="of search: size of the catalogue")
    parser.add_argument("--write", action="store_true", help="measure nothing, write what was measured")
    return parser


def _from(least: int, most: int) -> Callable[[str], int]:
    def whole(text: str) -> int:
        if not (text.isascii() and text.isdigit() and least <= int(text[:12]) <= most):
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} to {most}")
        return int(text)

    return whole


if __name__ == "__main__":
    sys.exit(main())
