"""What a learner types after `make chaos`: durations, numbers within bounds, names with the nearest one suggested."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from infra.runtime import RuntimeProblem

SHORTEST_SECONDS, LONGEST_SECONDS = 1.0, 3600.0
DEFAULT_SECONDS = 20.0
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION = re.compile(r"([+-]?)([0-9]{1,9}(?:\.[0-9]{1,6})?)([smhd]?)")
_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,6})?")


@dataclass(frozen=True, slots=True)
class Option:
    """A number that a script takes beside `for=`. `signed_duration`: `offset=-90s` instead of a plain number."""

    name: str
    unit: str
    default: float
    least: float
    most: float
    text: str
    signed_duration: bool = False
    whole: bool = True

    def parse(self, text: str) -> float:
        """Raises RuntimeProblem with what is allowed."""
        value = _signed_seconds(text) if self.signed_duration else _number(text)
        if value is None or not self.least <= value <= self.most or (self.whole and value != int(value)):
            raise RuntimeProblem(f"{self.name}= must be {self.allowed()}, not '{text}'.")
        return value

    def allowed(self) -> str:
        """The range, for a sentence."""
        if self.signed_duration:
            return f"a duration like 1h or -90s, at most {self.most / 86_400:.0f} days either way"
        kind = "a whole number of" if self.whole else "a number of"
        return f"{kind} {self.unit} from {self.least:g} to {self.most:g}"


def duration(text: str) -> float:
    """Seconds of `20s`, `2m`, `1h` or `20`. Raises RuntimeProblem outside 1 s to 1 h."""
    match = _DURATION.fullmatch(text.strip())
    value = None if match is None or match[1] else float(match[2]) * _UNITS[match[3]]
    if value is None or not SHORTEST_SECONDS <= value <= LONGEST_SECONDS:
        raise RuntimeProblem(f"for= must be a duration from 1s to 1h, like 20s or 2m, not '{text}'.")
    return value


def _signed_seconds(text: str) -> float | None:
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        return None
    return (-1 if match[1] == "-" else 1) * float(match[2]) * _UNITS[match[3]]


def _number(text: str) -> float | None:
    return float(text) if _NUMBER.fullmatch(text.strip()) else None


def options_of(known: Iterable[Option], given: Mapping[str, str], script: str) -> dict[str, float]:
    """Every option with its value or default. Raises RuntimeProblem for one that the script does not take."""
    by_name = {option.name: option for option in known}
    for name in given:
        if name not in by_name:
            takes = ", ".join(f"{one}=" for one in by_name) or "no such option"
            raise RuntimeProblem(f"do={script} takes {takes} beside target= and for=, not {name}=.")
    return {name: option.parse(given[name]) if name in given else option.default for name, option in by_name.items()}


def nearest(what: str, asked: str, known: Iterable[str], *, plural: str = "") -> str:
    """`asked` if it is known. Raises RuntimeProblem with the likely one and all that there are."""
    names = list(known)
    if asked in names:
        return asked
    likely = difflib.get_close_matches(asked, names, n=1, cutoff=0.5)
    guess = f" Did you mean '{likely[0]}'?" if likely else ""
    raise RuntimeProblem(f"There is no {what} '{asked}'.{guess} There are: {', '.join(names) or 'none'}.{plural}")


def told(seconds: float) -> str:
    """20 s, 2 min, 1 h."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:g} s"
