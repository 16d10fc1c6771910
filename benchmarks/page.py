"""Results become facts: .lab/bench into docs/benchmarks.json, and that into BENCHMARKS.md and the README."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks import document, records
from benchmarks.records import Records
from benchmarks.stack import say

FACTS, PAGE, README, RESULTS = "docs/benchmarks.json", "BENCHMARKS.md", "README.md", ".lab/bench"


def readable(root: Path) -> None:
    """Before anything is measured for a page that could then not be written. Raises ValueError, OSError."""
    document.inserted((root / README).read_text("utf-8"), document.headlines(records.load(root / FACTS)))


def publish(root: Path, only: str = "[!.]*.json") -> None:
    """Take what is newer of the results, or of the one file, and write. Raises ValueError, OSError."""
    kept = records.load(root / FACTS)
    found = records.collect(root / RESULTS, only)
    for reason in found.left_out:
        print(f"left out: {reason}", file=sys.stderr)
    merged = records.merged(kept, found.records)
    readme = document.inserted((root / README).read_text("utf-8"), document.headlines(merged))
    page = document.document(merged)
    records.write(root / FACTS, records.text_of(Records(runs=merged)))
    records.write(root / PAGE, page)
    records.write(root / README, readme)
    fresh = [one.name for one in merged if one not in kept]
    say(f"{PAGE} has {len(merged)} parts, new: {'; '.join(fresh) or 'none'}")
