"""`python -m labs.week07.queries` writes loadtests/queries.txt: what people might search for in the catalogue of seed 1.

Drawn from products that somebody has in mind (services/catalog/judge.py), so that each query has answers: nouns, brands,
model numbers, synonyms, typos. Committed, so that a load needs nothing of the catalogue's code.
"""

from __future__ import annotations

import sys
from itertools import count, islice
from pathlib import Path

from services.catalog.judge import intents

SEED, OF = 1, 50_000
QUERIES = 4_800
FILE = Path(__file__).resolve().parents[2] / "loadtests" / "queries.txt"


def queries(wanted: int = QUERIES) -> list[str]:
    """Different texts, in the order in which they are drawn."""
    found: dict[str, None] = {}
    for size in count(wanted, wanted):
        found = dict.fromkeys(intent.text for intent in intents(SEED, size, OF))
        if len(found) >= wanted:
            break
    return list(islice(found, wanted))


def main() -> int:
    """Write the file."""
    FILE.write_text("".join(f"{query}\n" for query in queries()), "utf-8")
    sys.stdout.write(f"{FILE.name}: {QUERIES} queries\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
