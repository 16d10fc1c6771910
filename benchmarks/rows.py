"""What a benchmark shows: rows of a table, some with an aim, each beside what limits it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from statistics import median
from typing import ClassVar

import msgspec

NONE = "–"
"""Nothing was measured."""


class Unit(Enum):
    """How a number is written: places behind the point, what follows it, what it is multiplied with."""

    PER_SECOND = (0, "/s", 1)
    MILLISECONDS = (1, " ms", 1)
    WHOLE_MILLISECONDS = (0, " ms", 1)
    CPU_MILLISECONDS = (2, " ms", 1)
    MICROSECONDS = (0, " µs", 1)
    SECONDS = (1, " s", 1)
    SHORT_SECONDS = (2, " s", 1)
    SHARE = (1, " %", 100)
    RATIO = (2, "", 1)
    COUNT = (0, "", 1)
    BYTES = (0, " bytes", 1)
    MEBIBYTES = (0, " MiB", 1)

    def of(self, value: float) -> str:
        """The number with its unit."""
        return self.number(value) + self.value[1]

    def number(self, value: float) -> str:
        """Without."""
        places, _, factor = self.value
        return f"{value * factor:,.{places}f}"

    def bound(self, value: float) -> str:
        """As short as it can be said."""
        return f"{value * self.value[2]:,.10g}{self.value[1]}"


class Shall(StrEnum):
    """How a figure is compared with its bound."""

    BE_AT_LEAST = "≥"
    BE_ABOVE = ">"
    BE_AT_MOST = "≤"
    BE_BELOW = "<"

    def hold(self, value: float, bound: float) -> bool:
        """Whether it is so."""
        match self:
            case Shall.BE_AT_LEAST:
                return value >= bound
            case Shall.BE_ABOVE:
                return value > bound
            case Shall.BE_AT_MOST:
                return value <= bound
            case Shall.BE_BELOW:
                return value < bound


class Standing(StrEnum):
    """Of a figure to its aim; `UNKNOWN` where what was measured cannot tell."""

    MET = "met"
    MISSED = "missed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Aim:
    """What a figure shall be, and in `limit` what it runs into where it is not: a sentence or two for who reads of the miss."""

    shall: Shall
    bound: float
    unit: Unit
    limit: str
    of_limit: bool = False
    """The figure's ratio to its limit is judged, not the figure."""

    @property
    def text(self) -> str:
        """As `≥ 0.30 of the limit`."""
        return f"{self.shall.value} {self.unit.bound(self.bound)}{' of the limit' if self.of_limit else ''}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line. `value` is what is judged, or what `ratio` is if the aim is of the limit; None: not measured.

    `shown` is the value in words; `limit` says what was measured beside it in the same run. `cannot_tell` is why the
    value says nothing about the aim. A `headline` is shown in the README, too.
    """

    figure: str
    shown: str
    value: float | None = None
    limit: str = ""
    ratio: float | None = None
    aim: Aim | None = None
    cannot_tell: str = ""
    headline: bool = False

    @property
    def standing(self) -> Standing | None:
        """None without an aim."""
        if self.aim is None:
            return None
        judged = self.ratio if self.aim.of_limit else self.value
        if judged is None or self.cannot_tell:
            return Standing.UNKNOWN
        return Standing.MET if self.aim.shall.hold(judged, self.aim.bound) else Standing.MISSED


def one(figure: str, value: float | None, unit: Unit, aim: Aim | None = None, *, cannot_tell: str = "") -> Row:
    """A single number."""
    return Row(figure, NONE if value is None else unit.of(value), value, aim=aim, cannot_tell=cannot_tell)


def rounds(figure: str, values: Sequence[float], unit: Unit, aim: Aim | None = None, *, headline: bool = False) -> Row:
    """The median of what the rounds gave."""
    return Row(figure, of_rounds(values, unit), middle(values), aim=aim, headline=headline)


def beside(
    figure: str, values: Sequence[float], limits: Sequence[float], what: str, unit: Unit, aim: Aim | None = None,
    *, ratio: float | None = None, cannot_tell: str = "", headline: bool = False,
) -> Row:  # fmt: skip
    """Rounds of the figure and of its limit, in turn; `ratio` is of the medians unless it is given."""
    ours, limit = middle(values), middle(limits)
    if ratio is None and ours is not None and limit:
        ratio = ours / limit
    return Row(
        figure, of_rounds(values, unit), ours, f"{of_rounds(limits, unit)} {what}", ratio, aim, cannot_tell, headline
    )


def several(figure: str, values: Mapping[str, float], unit: Unit) -> Row:
    """A number for each process."""
    return Row(figure, each(values, unit) or NONE)


def each(values: Mapping[str, float], unit: Unit) -> str:
    """`kafka 331 MiB, postgres 70 MiB`."""
    return ", ".join(f"{name} {unit.of(value)}" for name, value in values.items())


def of_rounds(values: Sequence[float], unit: Unit) -> str:
    """The median, and behind it the least and the most where they are told apart."""
    found = middle(values)
    if found is None:
        return NONE
    least, most = unit.number(min(values)), unit.number(max(values))
    return unit.of(found) if least == most else f"{unit.of(found)} ({least} to {most})"


def middle(values: Sequence[float]) -> float | None:
    """None of nothing."""
    return median(values) if values else None


class Figures(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """All that one run of a benchmark found; what a figure means and shall be stands beside it."""

    LIMIT: ClassVar[str] = ""
    """What the whole of it runs into."""

    def title(self) -> str:
        """What it is about, behind the system's name."""
        raise NotImplementedError

    def rows(self) -> list[Row]:
        """Everything that was measured."""
        raise NotImplementedError

    def sums(self) -> list[str]:
        """What would be needed for more, calculated from what was measured; sentences."""
        return []
