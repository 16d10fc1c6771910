"""`python -m labs.verdicts [--runs FOLDER] [--check]`. Exit codes: 0 written or true, 1 `--check` found a difference, 2 usage."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from labs.engine import discover
from labs.engine.discover import ROOT
from labs.engine.model import Lab
from labs.verdicts import record, table


def main(arguments: Sequence[str] | None = None, *, root: Path = ROOT, labs: Sequence[Lab] | None = None) -> int:
    """Merge, write, say what changed. `root` and `labs` are for tests."""
    parser = argparse.ArgumentParser(prog="python -m labs.verdicts", description="The table of verdicts in README.md.")
    parser.add_argument("--runs", type=Path, action="append", help="a folder of runs, instead of .lab/runs; repeatable")
    parser.add_argument(
        "--check", action="store_true", help="write nothing, read no runs: is README.md what docs/verdicts.json says?"
    )
    chosen = parser.parse_args(arguments)
    known = discover.labs() if labs is None else labs
    facts, page = root / "docs" / "verdicts.json", root / "README.md"
    try:
        kept = record.load(facts)
        if chosen.check:
            return _check(page, table.inserted(page.read_text("utf-8"), table.markdown(kept, known, root)))
        here = root / ".lab" / "runs"  # a fresh clone has none
        found = _found(chosen.runs or ([here] if here.is_dir() else []))
        names = {lab.name for lab in known}
        records = [one for one in record.merged(kept, found.records) if one.lab in names]
        text = table.inserted(page.read_text("utf-8"), table.markdown(records, known, root))
    except (OSError, ValueError) as mistake:
        print(f"python -m labs.verdicts: {mistake}", file=sys.stderr)
        return 2
    facts.write_text(record.text_of(records), "utf-8")
    page.write_text(text, "utf-8")
    fresh = [one for one in records if one not in kept]
    for one in fresh:
        print(f"{one.lab}  {one.runtime}, seed {one.seed}: {one.verdict.value} in {one.seconds} s, {one.started_at}")
    print(f"{len(fresh)} new of {len(records)} runs in docs/verdicts.json; the table is in README.md")
    return 0


def _found(folders: Sequence[Path]) -> record.Found:
    found = record.Found()
    for folder in folders:
        one = record.collect(folder)
        found.records.extend(one.records)
        for damaged in one.damaged:
            print(f"left out: {damaged}", file=sys.stderr)
    return found


def _check(page: Path, expected: str) -> int:
    if page.read_text("utf-8") == expected:
        return 0
    print("README.md is not what docs/verdicts.json says; run: make verdicts", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
