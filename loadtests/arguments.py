"""The command line of `python -m loadtests`; what is wrong with it is one sentence."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NoReturn

from loadtests import steps
from loadtests.steps import Plan, StepProblem

USAGE = 2
DEFAULT_RATE, DEFAULT_MINUTES, DEFAULT_SEED = 50.0, 2.0, 42
DEFAULT_STEP_SECONDS, DEFAULT_P99_MS = 10.0, 250.0
LONGEST_MINUTES = 24 * 60.0


@dataclass(frozen=True, slots=True)
class Arguments:
    """One rate for some minutes or, if there is a plan, a staircase."""

    system: str
    rate: float
    minutes: float
    seed: int
    headless: bool
    plan: Plan | None


def parse(arguments: Sequence[str], systems: Collection[str]) -> Arguments:
    """Exits 2 for a wrong value; raises StepProblem for values that do not go together."""
    given = _parser(systems).parse_args(arguments)
    _check_company(given)
    return Arguments(
        system=given.system,
        rate=_or(given.rate, DEFAULT_RATE),
        minutes=_or(given.minutes, DEFAULT_MINUTES),
        seed=given.seed,
        headless=bool(given.headless),
        plan=None if given.steps is None else _plan(given),
    )


def _plan(given: argparse.Namespace) -> Plan:
    seconds, p99_ms = _or(given.seconds, DEFAULT_STEP_SECONDS), _or(given.p99, DEFAULT_P99_MS)
    return steps.plan(given.steps, seconds, p99_ms, given.seed)


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _check_company(given: argparse.Namespace) -> None:
    alone = given.steps is None
    for name in ("seconds", "p99") if alone else ("rate", "minutes"):
        if getattr(given, name) is None:
            continue
        if alone:
            raise StepProblem(f"{name}= belongs to a staircase: add steps=50:400:50, or say rate= and minutes=.")
        raise StepProblem(
            f"{name}= and steps= exclude each other: steps=FIRST:LAST:BY has the rates, seconds= the time."
        )
    if not alone and not given.headless:
        raise StepProblem("A staircase has no web page: leave headless=0 out, or say rate= instead of steps=.")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One sentence instead of the usage of all options."""
        self.exit(
            USAGE, f"{message[0].upper()}{message[1:]}. For example: make load system=payments rate=50 minutes=1\n"
        )


def _number(most: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 < value <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 and at most {most:g}")
        return value

    return number


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def _parser(systems: Collection[str]) -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m loadtests", description="Load alone, in the open model.", allow_abbrev=False)
    parser.add_argument("--system", choices=sorted(systems), default="payments")
    parser.add_argument("--rate", type=_number(steps.HIGHEST_RATE), help="operations per second")
    parser.add_argument("--minutes", type=_number(LONGEST_MINUTES), help="how long")
    parser.add_argument("--seed", type=_whole, default=DEFAULT_SEED, help="the same seed gives the same arrivals")
    parser.add_argument("--headless", type=int, choices=(0, 1), default=1, help="0: with Locust's own web page")
    parser.add_argument("--steps", help="FIRST:LAST:BY operations per second, one step after the other; finds the knee")
    parser.add_argument("--seconds", type=_number(3600), help=f"of each step; {DEFAULT_STEP_SECONDS:g} if not said")
    parser.add_argument("--p99", type=_number(600_000), help=f"its bound in ms; {DEFAULT_P99_MS:g} if not said")
    return parser
