"""The only things that the console starts: `make` lines of a few targets, each argument checked by name and form.

A line is never given to a shell. It becomes the argument list of one of our own modules, as the Makefile would make it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

LONGEST_LINE = 1000
LONGEST_PREDICTION = 500
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")
_DURATION = re.compile(r"[0-9]{1,4}[smh]?")
_STEPS = re.compile(r"[0-9]{1,6}:[0-9]{1,6}:[0-9]{1,6}")
_ARTICLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+-]{0,63}")
_OFFSET = re.compile(r"[+-]?[0-9]{1,7}(\.[0-9]{1,3})?[smhd]?")


class NotAllowedError(ValueError):
    """The line is not one that the console runs; says why in one sentence."""


class Target(StrEnum):
    """What of the Makefile has a button."""

    LAB = "lab"
    CHAOS = "chaos"
    UP = "up"
    DOWN = "down"
    LOAD = "load"
    BENCH = "bench"
    STORY = "story"


@dataclass(frozen=True, slots=True)
class Command:
    """`line` is what a learner would type, `module` and `arguments` what is started. `values` are the given parameters."""

    target: Target
    line: str
    module: str
    arguments: tuple[str, ...]
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def prediction(self) -> str:
        """What the learner expects; empty if nothing was said."""
        return self.values.get("predict", "")


Check = Callable[[str], bool]


def _matches(pattern: re.Pattern[str]) -> Check:
    return lambda text: pattern.fullmatch(text) is not None


def _whole(least: int, most: int) -> Check:
    return lambda text: text.isascii() and text.isdigit() and least <= int(text[:12]) <= most


def _text(text: str) -> bool:
    return len(text) <= LONGEST_PREDICTION and text.isprintable()


def _rate(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,3})?", text) is not None and 0 < float(text) <= 100_000


@dataclass(frozen=True, slots=True)
class _Form:
    module: str
    words: tuple[str, ...] = ()
    options: Mapping[str, Check] = field(default_factory=dict)
    switches: frozenset[str] = frozenset()
    needed: frozenset[str] = frozenset()
    on: frozenset[str] = frozenset()
    """Switches that are on unless they are 0."""


FORMS: Mapping[Target, _Form] = {
    Target.LAB: _Form(
        "labs",
        ("run",),
        {
            "week": lambda text: text == "all" or _whole(1, 99)(text), "day": _whole(1, 9), "variant": _matches(_NAME), "seed": _whole(0, 2**31 - 1),
            "rate": _rate, "seconds": _rate, "predict": _text,
        },
        frozenset({"keep", "short"}),
        frozenset({"week"}),
    ),
    Target.CHAOS: _Form(
        "infra",
        ("chaos", "--json"),
        {
            "do": _matches(_NAME),
            "target": _matches(_NAME),
            "for": _matches(_DURATION),
            "ms": _whole(1, 3_600_000),
            "kbps": _whole(1, 10_000_000),
            "percent": _rate,
            "offset": _matches(_OFFSET),
        },
        frozenset(),
        frozenset({"do"}),
    ),
    Target.UP: _Form(
        "infra", ("up",), {"profile": _matches(_NAME)}, frozenset({"edges"}), frozenset(), frozenset({"edges"})
    ),
    Target.DOWN: _Form("infra", ("down", "--but-console")),
    Target.LOAD: _Form(
        "loadtests",
        (),
        {"system": _matches(_NAME), "rate": _rate, "minutes": _rate, "seed": _whole(0, 2**31 - 1), "steps": _matches(_STEPS), "seconds": _rate, "p99": _rate},
        frozenset(),
        frozenset({"system"}),
    ),
    Target.BENCH: _Form("benchmarks", (), {"system": _matches(_NAME)}, frozenset(), frozenset({"system"})),
    Target.STORY: _Form("labs.story", (), {"product": _matches(_ARTICLE), "quantity": _whole(1, 100)}),
}  # fmt: skip


def parse(line: str, *, prediction: str | None = None) -> Command:
    """A `make` line; what follows # is a comment. `prediction` replaces the line's own. Raises NotAllowedError."""
    if len(line) > LONGEST_LINE:
        raise NotAllowedError(f"A command has at most {LONGEST_LINE} characters.")
    target, given = _words(line)
    form = FORMS[target]
    values = _values(target, form, given)
    if prediction is not None:
        values = _predicted(target, form, values, prediction)
    missing = sorted(form.needed - set(values))
    if missing:
        raise NotAllowedError(f"make {target} needs {', '.join(f'{name}=' for name in missing)}.")
    arguments = [*form.words]
    for name, value in values.items():
        if name not in form.switches:
            arguments.append(f"--{name}={value}")
        elif name in form.on and value == "0":
            arguments.append(f"--no-{name}")
        elif name not in form.on and value != "0":
            arguments.append(f"--{name}")
    return Command(target, _line(target, values), form.module, tuple(arguments), values)


def allowed(line: str) -> bool:
    """Whether a line of a page gets a button."""
    try:
        parse(line)
    except NotAllowedError:
        return False
    return True


def _words(line: str) -> tuple[Target, list[str]]:
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        raise NotAllowedError("A quotation mark in the command is not closed.") from None
    if len(words) < 2 or words[0] != "make":
        raise NotAllowedError("The console runs `make` commands only.")
    try:
        return Target(words[1]), words[2:]
    except ValueError:
        known = ", ".join(Target)
        raise NotAllowedError(f"The console runs make {known}; for any other target use a terminal.") from None


def _values(target: Target, form: _Form, words: list[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or (name not in form.options and name not in form.switches):
            known = ", ".join(f"{one}=" for one in (*form.options, *sorted(form.switches))) or "no arguments"
            raise NotAllowedError(f"make {target} does not know {word[:60]!r} here; it takes {known}.")
        if name in values:
            raise NotAllowedError(f"{name}= is given twice.")
        fits = value in {"0", "1"} if name in form.switches else form.options[name](value)
        if value and not fits:
            raise NotAllowedError(f"{name}={value[:60]!r} is not a value that make {target} takes.")
        if value:
            values[name] = value
    return values


def _predicted(target: Target, form: _Form, values: dict[str, str], prediction: str) -> dict[str, str]:
    if "predict" not in form.options:
        raise NotAllowedError(f"make {target} takes no prediction.")
    text = " ".join(prediction.split())
    if not _text(text):
        raise NotAllowedError(f"A prediction has at most {LONGEST_PREDICTION} printable characters.")
    # A run from the console never asks: an empty prediction is one that was declined.
    return {**{name: value for name, value in values.items() if name != "predict"}, "predict": text}


def _line(target: Target, values: Mapping[str, str]) -> str:
    shown = [f'{name}="{value}"' if name == "predict" else f"{name}={value}" for name, value in values.items() if value]
    return " ".join(["make", target, *shown])
