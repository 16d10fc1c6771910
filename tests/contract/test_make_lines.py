"""Every `make ...` on a page is one that the Makefile knows, with arguments that do something and values that are taken."""

from __future__ import annotations

import functools
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import pytest

from infra.native.compose import ComposeFile, Stack
from infra.runtime import RuntimeProblem
from labs import __main__ as labs_cli
from labs.chaos import command as chaos_cli
from labs.chaos import scripts
from labs.chaos.arguments import duration, options_of
from labs.engine import discover
from labs.engine.run import chosen_variants
from loadtests.__main__ import SYSTEMS as LOADED
from loadtests.arguments import parse as parse_load
from loadtests.steps import StepProblem
from tests.contract.test_pages import ROOT, pages

FENCE = re.compile(r"^```(?:sh|bash|console)?\n(.*?)^```", re.DOTALL | re.MULTILINE)
ANY_FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+)`")
ARGUMENT = re.compile(r"([a-z0-9_]+)=(.*)", re.DOTALL)
TRIED = ("zzz", "0", "1")
"""Values of which one at least changes what would be run, if the target knows the argument."""
OF_THE_TUTORIAL = {"week=3", "service=dice-api"}
"""What CONTRIBUTING.md lets a reader make before it is named."""


def commands(text: str) -> Iterator[list[str]]:
    """The words after `make`, of every such command of a page."""
    lines = [line for block in FENCE.findall(text) for line in block.splitlines()]
    lines += INLINE.findall(ANY_FENCE.sub("", text))
    for line in lines:
        if re.match(r"(.*(&&|;)\s*)?make(\s|$)", line.strip()):
            yield from _in_line(line.strip())


def _in_line(line: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set("|&;"):
            if words[:1] == ["make"]:
                yield words[1:]
            words = []
        else:
            words.append(word)


def problem_of(words: list[str]) -> str:
    """A sentence, or "". Placeholders (NAME, <that>, ...) are not looked at."""
    if not words:
        return ""
    target, arguments = words[0], [word for word in words[1:] if word != "..."]
    if target not in _targets():
        return f"there is no target {target}"
    given: dict[str, str] = {}
    for word in arguments:
        match = ARGUMENT.fullmatch(word)
        if match is None:
            return f"{word} is no argument of the form name=value"
        if not _known(target, match[1]):
            return f"{target} takes no {match[1]}="
        if not (match[2].isupper() or match[2].startswith("<") or word in OF_THE_TUTORIAL):
            given[match[1]] = match[2]
    if not given or len(given) < len(arguments):
        return ""
    return _refusal(target, given)


@functools.cache
def _targets() -> frozenset[str]:
    text = (ROOT / "Makefile").read_text("utf-8")
    return frozenset(re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)[1].split())  # type: ignore[index]  # it is there


@functools.cache
def _run_by(target: str, arguments: tuple[str, ...] = ()) -> str:
    """What make would run."""
    words = ["make", "--dry-run", target, *arguments]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout


@functools.cache
def _known(target: str, name: str) -> bool:
    return any(_run_by(target, (f"{name}={value}",)) != _run_by(target) for value in TRIED)


def _refusal(target: str, given: Mapping[str, str]) -> str:
    """What the program behind the target says of these values, without doing anything."""
    said = StringIO()
    with redirect_stderr(said):
        try:
            CHECKS.get(target, _anything)(given)
        except SystemExit:
            return said.getvalue().strip().splitlines()[-1]
        except (RuntimeProblem, ValueError, StepProblem, discover.NoSuchLabError) as problem:
            return str(problem)
    return ""


def _options(given: Mapping[str, str]) -> list[str]:
    return [f"--{name}={value}" for name, value in given.items()]


def _anything(given: Mapping[str, str]) -> None:
    del given


def _lab(given: Mapping[str, str]) -> None:
    switches = ("keep", "short", "traces")
    options = _options({name: value for name, value in given.items() if name not in switches})
    chosen = labs_cli._parser().parse_args(["run", *options])
    labs = discover.labs(chosen.week, chosen.day) if isinstance(chosen.week, int) else discover.labs()
    for lab in labs:
        chosen_variants(lab, chosen.variant)


def _chaos(given: Mapping[str, str]) -> None:
    chosen = chaos_cli._parser().parse_args(_options(given))
    if chosen.do in (None, chaos_cli.HEAL):
        return
    numbers = {name: value for name, value in given.items() if name in chaos_cli.OPTIONS}
    options_of(scripts.find(chosen.do).options, numbers, chosen.do)
    duration(given.get("for", "20s"))
    stack = _stack()
    if chosen.target not in {*stack.services, *stack.edges}:
        raise ValueError(f"nothing is called {chosen.target}")


def _load(given: Mapping[str, str]) -> None:
    parse_load(_options(given), LOADED)


def _logs(given: Mapping[str, str]) -> None:
    _stack().service(given["service"])


def _up(given: Mapping[str, str]) -> None:
    if (profile := given.get("profile", "week2")) not in _stack().profiles():
        raise ValueError(f"there is no profile {profile}")


def _bench(given: Mapping[str, str]) -> None:
    from benchmarks.systems import FIGURES

    if given.get("system", "search") not in FIGURES:
        raise ValueError(f"there is no benchmark of {given['system']}")


@functools.cache
def _stack() -> Stack:
    return ComposeFile(ROOT / "docker-compose.yml").resolve({})


CHECKS: Mapping[str, Callable[[Mapping[str, str]], None]] = {
    "lab": _lab,
    "chaos": _chaos,
    "load": _load,
    "logs": _logs,
    "up": _up,
    "bench": _bench,
}


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_make_line_of_a_page_is_one_that_make_knows(page: Path) -> None:
    found = {f"make {' '.join(words)}": problem_of(words) for words in commands(page.read_text("utf-8"))}
    assert {line: problem for line, problem in found.items() if problem} == {}


def test_lines_are_found_in_blocks_and_in_prose_and_nowhere_else() -> None:
    text = (
        "Say `make up` or `make down && make clean`, not make it so, and not `remake up`.\n"
        '```sh\nmake lab week=2 predict="5 %, or so" # a comment\nmake logs service=kafka | grep make\n```\n'
        "```python\nmake = 1\n```\n"
    )
    assert list(commands(text)) == [
        ["lab", "week=2", "predict=5 %, or so"],
        ["logs", "service=kafka"],
        ["up"],
        ["down"],
        ["clean"],
    ]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("start", "there is no target start"),
        ("lab week=2 sed=7", "lab takes no sed="),
        ("down service=kafka", "down takes no service="),
        ("lab week=2 day", "day is no argument"),
        ("lab week=9", "there is no lab for week 9"),
        ("lab week=two", "neither a number of a week"),
        ("lab week=2 day=2 variant=niave", "has no variant 'niave'"),
        ("lab week=2 rate=fast", "invalid"),
        ("chaos do=explode target=kafka", "no chaos script 'explode'"),
        ("chaos do=latency target=payments.bank ms=much", "must be"),
        ("chaos do=kill target=payment-api", "nothing is called payment-api"),
        ("load system=payment", "invalid choice"),
        ("load system=payments rate=5 steps=1:2:1", "exclude each other"),
        ("logs service=payment-api", "payment-api"),
        ("up profile=week9", "no profile week9"),
        ("bench system=everything", "no benchmark of everything"),
    ],
)
def test_a_line_that_would_not_work_is_seen(line: str, sentence: str) -> None:
    assert sentence in problem_of(line.split())


@pytest.mark.parametrize(
    "line",
    [
        "lab week=2 day=2 variant=yours keep=1 short=1",
        "lab week=all",
        "lab week=template short=1",
        "lab ... variant=<that> keep=1",
        "chaos do=restart target=NAME",
        "chaos do=latency target=payments.bank ms=800 for=30s",
        "up edges=0",
        "test workers=3",
        "bench system=search docs=50000",
    ],
)
def test_a_line_that_works_is_left_alone(line: str) -> None:
    assert problem_of(line.split()) == ""
