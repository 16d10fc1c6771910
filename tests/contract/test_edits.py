"""What a week's page and a lab's report let a learner change is there: the files they name, and in these the names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from labs.engine import discover
from tests.contract.test_pages import ROOT

SECTION = re.compile(r"^### What to change next\n(.*?)(?=^##)", re.DOTALL | re.MULTILINE)
ITEM = re.compile(r"^\d\. (.*?)(?=^\d\. |\Z)", re.DOTALL | re.MULTILINE)
FENCE = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"[\w/]+\.(?:py|jsonl|txt)\b")
CHANGED = re.compile(r"\b([A-Za-z_]\w*)\"?(?: ?=|\(|\": )|\b([A-Z]{5,}|[A-Z]+(?:_[A-Z]+)+)\b|--(\w+)")
OF_THE_COMMAND = {"week", "day", "variant", "rate", "short", "seed", "docs", "save", "against"}
"""Arguments of `make lab`, which tests/contract/test_make_lines.py looks at, and of `services.search evaluate`."""


def problems(text: str, folder: Path, more: Path) -> list[str]:
    """Files that are not there, and names that are in none of those which are, nor in `more`."""
    named = {name: place for name in FILE.findall(text) for place in [_place(name, folder)]}
    gone = [f"there is no {name}" for name, place in named.items() if place is None]
    there = "\n".join(path.read_text("utf-8") for path in {more, *filter(None, named.values())})
    wanted = {next(filter(None, found)) for found in CHANGED.findall(FILE.sub("", text))} - OF_THE_COMMAND
    return gone + [f"nothing is called {name}" for name in sorted(wanted) if not re.search(rf"\b{name}\b", there)]


def _place(name: str, folder: Path) -> Path | None:
    return next((path for path in (folder / name, ROOT / name) if path.is_file()), None)


def edits() -> Iterator[tuple[str, str, Path]]:
    """(Where it stands, its text, the day's module)."""
    for module in discover.modules():
        lab, file = discover.load(module), ROOT.joinpath(*module.split(".")).with_suffix(".py")
        for number, text in enumerate(lab.try_next, 1):
            yield f"{lab.name}, report, {number}", text, file
        page = (file.parent / "README.md").read_text("utf-8")
        (day,) = re.findall(rf"^## Day {lab.day}: .*?(?=^## Day|\Z)", page, re.DOTALL | re.MULTILINE)
        (section,) = SECTION.findall(FENCE.sub("", day))
        for number, item in enumerate(ITEM.findall(section.partition("**Your turn.**")[0]), 1):
            yield f"{lab.name}, page, {number}", "; ".join(_quoted(item)), file


def _quoted(item: str) -> list[str]:
    """What an item's prose sets apart: code, and the files it links to."""
    return [code or link for code, link in re.findall(r"`([^`]+)`|\]\(([\w/.]+)\)", item)]


EDITS = list(edits())


def test_each_day_has_three_on_its_page_and_in_its_report() -> None:
    assert len(EDITS) == 6 * len(discover.modules())


@pytest.mark.parametrize(("text", "module"), [edit[1:] for edit in EDITS], ids=[edit[0] for edit in EDITS])
def test_what_is_to_be_changed_is_there(text: str, module: Path) -> None:
    assert problems(text, module.parent, module) == []


def test_what_is_gone_is_seen() -> None:
    folder = ROOT / "labs" / "week02"
    module = folder / "day1_timeouts.py"
    assert problems("PAUSES = () in naive_chain.py; lasting=1; rate=8", folder, module) == []
    said = problems("PAUSE = () in naive_chain.py, or LIMIT_OF_ALL; limits(8) with --often in naive.py", folder, module)
    assert said == [
        "there is no naive.py",
        *(f"nothing is called {name}" for name in ("LIMIT_OF_ALL", "PAUSE", "limits", "often")),
    ]
