"""The sentences of the README's table of troubles are sentences that the lab really prints."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEADING = "## When something is wrong"
ROW = re.compile(r"^\| `(.+?)` \|", re.MULTILINE)
IN_SHELL = re.compile(r'\b(?:fail|say) "((?:[^"\\]|\\.)*)"')
IN_SHELL_FILLED = re.compile(r"\$\([^)]*\)|\$\{[^}]*\}|\$[\w*@]+")
LEAST_OWN = 20
"""Letters of a sentence that must stand in the source as they are; the rest is filled in."""


def told(page: str) -> list[str]:
    """What the first column of the table says is printed."""
    return ROW.findall(page.partition(HEADING)[2].partition("\n## ")[0])


def sentences(folders: tuple[str, ...] = ("infra", "labs")) -> Iterator[list[str]]:
    """Every text of the sources, as its fixed pieces in order."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    yield _pieces(node)
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield [node.value]
    for text in IN_SHELL.findall((ROOT / "infra" / "setup.sh").read_text("utf-8")):
        yield IN_SHELL_FILLED.split(text)


def _pieces(node: ast.JoinedStr) -> list[str]:
    pieces = [""]
    for part in node.values:
        if isinstance(part, ast.Constant):
            pieces[-1] += str(part.value)
        else:
            pieces.append("")
    return pieces


@functools.cache
def _patterns() -> tuple[tuple[int, re.Pattern[str]], ...]:
    long = [pieces for pieces in sentences() if sum(map(len, pieces)) >= LEAST_OWN]
    return tuple((sum(map(len, pieces)), re.compile(".+?".join(map(re.escape, pieces)))) for pieces in long)


def is_printed(sentence: str) -> bool:
    """Whether some text of the sources, filled in, is all of it, or is in it and more than half of it."""
    return any(
        pattern.fullmatch(sentence) or (2 * own > len(sentence) and pattern.search(sentence))
        for own, pattern in _patterns()
    )


def test_every_sentence_of_the_table_is_one_that_the_lab_prints() -> None:
    found = told((ROOT / "README.md").read_text("utf-8"))
    assert len(found) >= 12
    assert [sentence for sentence in found if not is_printed(sentence)] == []


def test_a_sentence_that_nobody_prints_any_more_is_seen() -> None:
    page = f"| `before` | |\n{HEADING}\n\n| it says | why | do |\n|---|---|---|\n| `Harbour 5 is taken` | x | y |\n\n## Next\n| `after` | |\n"
    assert told(page) == ["Harbour 5 is taken"]
    assert not is_printed("Harbour 5 is taken")
    assert not is_printed("Port 5 of redis belongs to 'redis-server'")
    assert is_printed("Port 5 of redis is in use by 'redis-server' (pid 7); stop that process.")
