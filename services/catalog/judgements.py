"""Judged queries as JSON lines, for whoever measures a search: the generator knows what its products are.

A line: {"query", "form", "language", "grades": {product id: 1 to 3}, "wanted": the very product that somebody had in mind,
"history": what that person did in the last month}. All relevant products are named, so what is not named is wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from services.catalog import vocabulary as words
from services.catalog.draw import Draw
from services.catalog.generate import Traits, product_id, traits
from services.catalog.judge import Intent, Judged, intents, judge, meant

LARGEST = 50_000
"""Products: beyond, a line would name a thousand."""
MOST_QUERIES = 10_000
_TRIES = 20
_EVENTS = (("purchase", True, False), ("click", True, True), ("click", False, True), ("view", True, False))
"""(kind, of the wanted brand, of the wanted category); three further clicks are about anything."""
_OTHERS = 3
_DAYS = 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of the role `judgements`."""
    parser.add_argument("--products", type=_between(LARGEST), required=True, help=f"1 to {LARGEST}")
    parser.add_argument("--queries", type=_between(MOST_QUERIES), default=600, help="fewer where words run out")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="the file; otherwise they are printed")


def run(given: argparse.Namespace) -> int:
    """Exit 0, or 1 with a sentence."""
    try:
        with nullcontext(sys.stdout) if given.out is None else given.out.open("w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines(given.seed, given.queries, given.products))
    except OSError as error:
        sys.stderr.write(f"The judgements were not written: {error}\n")
        return 1
    return 0


def _between(most: int) -> Callable[[str], int]:
    def whole(text: str) -> int:
        if not (text.isascii() and text.isdigit() and 1 <= int(text[:20]) <= most):
            raise argparse.ArgumentTypeError(f"it is 1 to {most}")
        return int(text)

    return whole


def lines(seed: int, queries: int, of: int) -> Iterator[str]:
    """About `queries` different queries, each form in turn, and their answers among the first `of` products.

    Fewer if the vocabulary does not have so many.
    """
    chosen: dict[tuple[str, str], tuple[int, Intent]] = {}
    for number, intent in enumerate(intents(seed, queries * _TRIES, of)):
        chosen.setdefault((intent.text, intent.language), (number, intent))
        if len(chosen) == queries:
            break
    numbers = [number for number, _ in chosen.values()]
    judged = judge(seed, [intent for _, intent in chosen.values()], of, most=None)
    for number, each in zip(numbers, judged, strict=True):
        yield json.dumps(_line(seed, number, of, each), ensure_ascii=False)


def _line(seed: int, number: int, of: int, judged: Judged) -> dict[str, Any]:
    wanted = meant(seed, number, of)
    return {
        "query": judged.intent.text,
        "form": judged.intent.form.value,
        "language": judged.intent.language.value,
        "grades": {str(product_id(seed, each)): grade for each, grade in judged.grades},
        "wanted": str(product_id(seed, wanted)),
        "history": _history(seed, number, of, traits(seed, wanted)),
    }


def _history(seed: int, number: int, of: int, kind: Traits) -> list[dict[str, Any]]:
    draw = Draw(seed, f"history {number}")
    events = []
    for event, own_brand, own_category in (*_EVENTS, *(("click", False, False),) * _OTHERS):
        other = traits(seed, draw.below(of))
        brand = kind.brand if own_brand else other.brand
        leaf = kind.leaf if own_category else other.leaf
        place = {"brand_id": brand + 1, "category": words.LEAVES[leaf].path}
        events.append({"kind": event, **place, "days_ago": draw.below(_DAYS)})
    return events
