"""What the pages point at is there: files, headings of other pages, and the tests and modules that they name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"```.*?```", re.DOTALL)
NAMED = re.compile(r"`((?:tests|labs|loadtests|docs|benchmarks|infra|services)/[\w./-]+\.\w+)`")
OF_THE_TUTORIAL = re.compile(r"/(?:dice|week03)/|NN")
"""What a reader of CONTRIBUTING.md makes, and what stands for any week or number."""
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def pages() -> list[Path]:
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "BENCHMARKS.md"]
    for top in ("benchmarks", "docs", "infra", "labs", "loadtests", "services"):
        found += sorted((ROOT / top).rglob("*.md"))
    return found


def anchors(text: str) -> set[str]:
    """As GitHub makes them: lower case, no punctuation, spaces become hyphens."""
    titles = (re.sub(r"[`*]|\]\([^)]*\)|\[", "", title) for title in HEADING.findall(FENCE.sub("", text)))
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles}


def dead_ends(page: Path, text: str) -> list[str]:
    """Every relative link and every path in backticks that leads nowhere."""
    prose = FENCE.sub("", text)
    problems = []
    for target in LINK.findall(prose):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve()
        if path and not file.exists():
            problems.append(f"{target} does not exist")
        elif anchor and anchor not in anchors(file.read_text("utf-8") if path else text):
            problems.append(f"{target}: no such heading")
    problems += [
        f"{named} does not exist"
        for named in NAMED.findall(prose)
        if not OF_THE_TUTORIAL.search(named) and not (ROOT / named).exists()
    ]
    return problems


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_page_leads_somewhere(page: Path) -> None:
    assert dead_ends(page, page.read_text("utf-8")) == []


def test_a_dead_end_is_seen() -> None:
    page = ROOT / "docs" / "planted.md"
    text = (
        "# Here: it `is`!\n[a](#here-it-is) [b](#nowhere) [c](retry-strategy.md#six-rules) [d](retry-strategy.md#seven)\n"
        "[e](gone.md) [f](https://example.org/gone) `tests/unit/gone.py` `tests/conftest.py`\n```\n[g](gone.md)\n```\n"
    )
    assert dead_ends(page, text) == [
        "#nowhere: no such heading",
        "retry-strategy.md#seven: no such heading",
        "gone.md does not exist",
        "tests/unit/gone.py does not exist",
    ]
