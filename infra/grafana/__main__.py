"""`python -m infra.grafana` writes infra/grafana/dashboards/*.json; with --check it only says which are out of date."""

from __future__ import annotations

import sys
from pathlib import Path

from infra.grafana.boards import BOARDS
from infra.grafana.parts import render

FOLDER = Path(__file__).resolve().parent / "dashboards"


def documents() -> dict[str, str]:
    """File name to text."""
    return {f"{board.uid}.json": render(board) for board in BOARDS}


def out_of_date(folder: Path = FOLDER) -> list[str]:
    """Names of files that differ from their definition, are missing, or have none."""
    wanted = documents()
    there = {path.name: path.read_text("utf-8") for path in folder.glob("*.json")}
    return sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))


def main(arguments: list[str]) -> int:
    stale = out_of_date()
    if arguments == ["--check"]:
        for name in stale:
            print(f"{name} is not what infra/grafana defines; run python -m infra.grafana", file=sys.stderr)
        return 1 if stale else 0
    if arguments:
        print("usage: python -m infra.grafana [--check]", file=sys.stderr)
        return 2
    FOLDER.mkdir(exist_ok=True)
    wanted = documents()
    for name in stale:
        if name in wanted:
            (FOLDER / name).write_text(wanted[name], "utf-8")
        else:
            (FOLDER / name).unlink()
    print(f"{len(wanted)} dashboards, {len(stale)} written")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
