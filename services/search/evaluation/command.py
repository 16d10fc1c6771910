"""`python -m services.search evaluate`: a table per ranking and form of query, and a gate against a kept result."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from services.search.engine import Engine, EngineError
from services.search.evaluation.finder import EngineFinder, measured, newest
from services.search.evaluation.gate import losses
from services.search.evaluation.judged import HAND, Judged, JudgementsWrong, read
from services.search.evaluation.result import Result, ResultWrong, kept, lines, save, table
from services.search.query.parser import QueryError
from services.search.query.synonyms import SynonymError, SynonymFile
from services.search.ranking import RANKINGS, Rule
from services.search.rule_schemas import RuleWrong, rules_in

WORSE, USAGE, NOT_MEASURED = 1, 2, 3
AT_MOST = 0.01
EVALUATION_SECONDS = 30.0
"""Bound on one query."""


class NotMeasured(Exception):
    """Nothing can be said. The message is one sentence."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line asked for."""

    variants: Sequence[str]
    judged: Path
    index: str
    against: Path | None
    at_most: float
    save: Path | None
    rules: Path | None
    as_json: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of `evaluate`."""
    parser.add_argument("--variant", action="append", choices=sorted(RANKINGS), help="a ranking; all without")
    parser.add_argument("--judged", type=Path, default=HAND, help="JSON lines; the hand-judged set without")
    parser.add_argument("--index", help="an index or alias; the one that queries read without")
    parser.add_argument(
        "--against", type=Path, metavar="FILE", help="refuse, with exit 1, what is worse than this result"
    )
    parser.add_argument(
        "--at-most", type=_share, default=AT_MOST, help=f"nDCG@10 that may be lost; {AT_MOST:g} without"
    )
    parser.add_argument("--save", type=Path, metavar="FILE", help="keep the result")
    parser.add_argument(
        "--rules", type=Path, metavar="FILE", help="business rules to try, JSON lines as for PUT /v1/rules"
    )
    parser.add_argument("--json", action="store_true", help="the table as JSON")


def run(given: argparse.Namespace, *, nodes: Sequence[str], alias: str) -> int:
    """0; 1 if the gate refuses; 3 with a sentence if nothing can be measured. `alias` is what queries read."""
    wanted = Wanted(
        variants=given.variant or list(RANKINGS),
        judged=given.judged,
        index=given.index or alias,
        against=given.against,
        at_most=given.at_most,
        save=given.save,
        rules=given.rules,
        as_json=given.json,
    )
    try:
        return asyncio.run(_evaluate(wanted, nodes))
    except (NotMeasured, JudgementsWrong, ResultWrong, SynonymError, EngineError, OSError) as error:
        sys.stderr.write(f"Nothing was measured: {error}\n")
        return NOT_MEASURED


async def _evaluate(wanted: Wanted, nodes: Sequence[str]) -> int:
    queries = read(wanted.judged)
    before = kept(wanted.against) if wanted.against else None
    rules = _rules(wanted.rules)
    result = await _measure(wanted, nodes, queries, rules)
    _show(result, as_json=wanted.as_json)
    if wanted.save is not None:
        save(wanted.save, result)
    if before is None:
        return 0
    found = losses(before, result, wanted.at_most)
    for loss in found:
        if loss.refused:
            sys.stderr.write(f"refused: {loss.told()}\n")
    return WORSE if any(loss.refused for loss in found) else 0


def _rules(path: Path | None) -> Sequence[Rule]:
    try:
        return rules_in(path.read_bytes()) if path is not None else ()
    except RuleWrong as error:
        raise NotMeasured(f"{path}, {error}") from error


async def _measure(wanted: Wanted, nodes: Sequence[str], queries: Sequence[Judged], rules: Sequence[Rule]) -> Result:
    synonyms = SynonymFile().current
    rankings = {}
    async with Engine(nodes, timeout=EVALUATION_SECONDS) as engine:
        now = await _now(engine, wanted.index)
        await _same_catalogue(engine, wanted.index, queries)
        for name in wanted.variants:
            finder = EngineFinder(engine, wanted.index, RANKINGS[name], synonyms, now, rules)
            try:
                rankings[name] = await measured(finder, queries)
            except QueryError as error:
                raise NotMeasured(f"a judged query cannot be asked: {error}") from error
    return Result(wanted.judged.name, rankings)


async def _now(engine: Engine, index: str) -> datetime:
    try:
        return await newest(engine, index)
    except ValueError as error:
        raise NotMeasured(str(error)) from error


async def _same_catalogue(engine: Engine, index: str, queries: Sequence[Judged]) -> None:
    """Raises NotMeasured unless the index holds what was judged: of another catalogue every grade would be 0."""
    named = sorted({each for judged in queries for each in judged.grades})[:10_000]
    there = await engine.count(index, {"terms": {"id": named}})
    if there < len(named):
        raise NotMeasured(
            f"the index has {there} of the {len(named)} products that were judged: it is another catalogue."
        )


def _show(result: Result, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(lines(result)), indent=1).decode() + "\n")
    else:
        sys.stdout.write(table(result) + "\n")


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value
