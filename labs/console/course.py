"""The repository's pages as the course: Markdown without HTML, links that stay inside, a button at each command.

Only what a learner is meant to read is shown: pages and sources below a few folders, never hidden files.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

from labs.console import commands
from services.kit.errors import Problem

SHOWN_FOLDERS = frozenset({"labs", "services", "docs", "loadtests", "infra", "benchmarks", "tests"})
SHOWN_FILES = frozenset({"README.md", "docker-compose.yml", "Makefile", "pyproject.toml"})
SUFFIXES = frozenset({".md", ".py", ".yml", ".yaml", ".toml", ".json", ".sql", ".sh", ".xml", ".j2"})
IMAGES = {".png": "image/png", ".svg": "image/svg+xml", ".jpg": "image/jpeg"}
LARGEST_PAGE = 512 * 1024
BASE = "/course"
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,120}")
_EXAMPLE = re.compile(r'\s*predict=("[^"]*"|\S+)')


class NoSuchPage(Problem):
    def __init__(self) -> None:
        detail = "The course shows the repository's pages and sources."
        super().__init__(404, "no_such_page", "There is no such page", detail=detail)


@dataclass(frozen=True, slots=True)
class Heading:
    level: int
    anchor: str
    text: str


@dataclass(frozen=True, slots=True)
class Page:
    """`html` is safe to put into a page as it is; `lines` are set instead for a source file."""

    path: str
    title: str
    html: str
    headings: tuple[Heading, ...]
    lines: tuple[str, ...] = ()


def locate(root: Path, path: str) -> Path:
    """A file that may be shown; a folder stands for its README.md. Raises NoSuchPage."""
    parts = [part for part in path.split("/") if part]
    if not parts or len(parts) > 8 or not all(_PART.fullmatch(part) for part in parts):
        raise NoSuchPage
    found = root.joinpath(*parts)
    if found.is_dir():
        found, parts = found / "README.md", [*parts, "README.md"]
    inside = parts[0] in SHOWN_FOLDERS if len(parts) > 1 else parts[0] in SHOWN_FILES
    real = found.resolve()
    known = real.suffix in SUFFIXES or real.suffix in IMAGES or real.name in SHOWN_FILES
    if not inside or not known or not real.is_relative_to(root.resolve()) or not real.is_file():
        raise NoSuchPage
    if real.stat().st_size > LARGEST_PAGE:
        raise NoSuchPage
    return found


def read(root: Path, file: Path) -> Page:
    """A located text file as a page."""
    path = file.relative_to(root).as_posix()
    text = file.read_text(encoding="utf-8", errors="replace")
    if file.suffix != ".md":
        return Page(path, path, "", (), tuple(text.splitlines()))
    tokens = _parser().parse(text)
    headings = _number_headings(tokens)
    _rewrite_links(tokens, PurePosixPath(path).parent)
    html = _Renderer().render(tokens, _parser().options, {})
    title = next((one.text for one in headings if one.level == 1), path)
    return Page(path, title, html, headings)


def weeks(root: Path) -> list[tuple[str, str]]:
    """Title and address of each week's page, in order."""
    pages = sorted((root / "labs").glob("week*/README.md"))
    return [(_title(page), f"{BASE}/{page.relative_to(root).as_posix()}") for page in pages]


def anchor_of_day(page: Path, day: int) -> str:
    """Of the heading "Day 2: ..."; empty if the page has none."""
    for heading in _number_headings(_parser().parse(page.read_text(encoding="utf-8", errors="replace"))):
        if re.match(rf"Day {day}\b", heading.text):
            return heading.anchor
    return ""


def slug(text: str) -> str:
    """A heading's anchor as code hosts make it: lower case, no punctuation, hyphens for spaces."""
    kept = "".join(c for c in text.lower() if c in "-_ " or unicodedata.category(c)[0] in "LN")
    return kept.replace(" ", "-")


def link(target: str, folder: PurePosixPath) -> str:
    """Where a link of a page in `folder` leads within the console; others are left as they are."""
    parts = urlsplit(target)
    if parts.scheme or parts.netloc or not parts.path:
        return target
    resolved: list[str] = []
    joined = PurePosixPath(unquote(parts.path)) if parts.path.startswith("/") else folder / unquote(parts.path)
    for part in joined.parts:
        if part == "..":
            if not resolved:
                return "#"
            resolved.pop()
        elif part not in {".", "/"}:
            resolved.append(part)
    fragment = f"#{parts.fragment}" if parts.fragment else ""
    return f"{BASE}/{'/'.join(resolved)}{fragment}"


def example_of(line: str) -> tuple[str, str]:
    """The command without its prediction, and the prediction: an example, since the learner is to make their own."""
    match = _EXAMPLE.search(line)
    if match is None:
        return line, ""
    return line[: match.start()] + line[match.end() :], match[1].strip('"')


def button(line: str) -> str:
    """A button for a command of a page; nothing for a line that the console does not run."""
    command, example = example_of(line)
    if not commands.allowed(command):
        return ""
    shown = commands.parse(command).line
    return (
        f'<button type="button" class="run" data-command="{escape(shown)}" data-example="{escape(example)}" '
        f'aria-label="Run {escape(shown)}" title="Run {escape(shown)}">Run</button>'
    )


def _parser() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False, "linkify": False}).enable(["table", "strikethrough"])


def _title(page: Path) -> str:
    headings = _number_headings(_parser().parse(page.read_text(encoding="utf-8", errors="replace")))
    return next((one.text for one in headings if one.level == 1), page.parent.name)


def _number_headings(tokens: Sequence[Token]) -> tuple[Heading, ...]:
    """Sets each heading's id, numbered when it comes twice."""
    found: list[Heading] = []
    taken: dict[str, int] = {}
    for token, inline in pairwise(tokens):
        if token.type != "heading_open":
            continue
        text = "".join(child.content for child in inline.children or () if child.type in {"text", "code_inline"})
        base = slug(text)
        number = taken.get(base, 0)
        taken[base] = number + 1
        anchor = f"{base}-{number}" if number else base
        token.attrSet("id", anchor)
        found.append(Heading(int(token.tag[1]), anchor, text))
    return tuple(found)


def _rewrite_links(tokens: Sequence[Token], folder: PurePosixPath) -> None:
    for token in tokens:
        for child in token.children or ():
            if child.type == "link_open":
                _rewrite(child, "href", folder)
            elif child.type == "image":
                _rewrite(child, "src", folder)


def _rewrite(token: Token, name: str, folder: PurePosixPath) -> None:
    target = str(token.attrGet(name) or "")
    token.attrSet(name, link(target, folder))
    if name == "href" and urlsplit(target).netloc:
        token.attrSet("rel", "noreferrer noopener")
        token.attrSet("target", "_blank")


class _Renderer(RendererHTML):
    def fence(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        """Code line by line, a button beside each command."""
        lines = tokens[idx].content.rstrip("\n").split("\n")
        if not any(line.startswith("make ") and button(line) for line in lines):
            return f"<pre><code>{escape(tokens[idx].content)}</code></pre>\n"
        rows = "".join(f'<span class="line">{escape(line)}{button(line)}</span>\n' for line in lines)
        return f'<pre class="commands"><code>{rows}</code></pre>\n'

    def code_inline(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        """`make lab ...` within a sentence has a button as well."""
        text = tokens[idx].content
        code = f"<code>{escape(text)}</code>"
        return code + button(text) if text.startswith("make ") else code

    def table_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        """Wide tables scroll by themselves."""
        return '<div class="wide"><table>\n'

    def table_close(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        """See table_open."""
        return "</table></div>\n"
