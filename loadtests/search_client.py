"""One query after the other, as people type them: few texts very often, many once. Nobody retries a search."""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from urllib.parse import quote_plus

import msgspec

from loadtests.client import Answer, Ending, Http
from loadtests.history import Outcome, ShownSearch

KIND = "search"
FEWEST = 2
LONGEST = 512


class QueriesProblem(Exception):
    """The file of queries cannot be used; says why."""


class _Found(msgspec.Struct, frozen=True):
    """What this client reads of an answer. A service that never degrades need not say so."""

    hits: list[msgspec.Raw]
    degraded: list[str] = []


class _Problem(msgspec.Struct, frozen=True):
    type: str = "about:blank"


def read_queries(path: Path) -> tuple[str, ...]:
    """One query a line. Raises QueriesProblem."""
    try:
        lines = tuple(dict.fromkeys(filter(None, map(str.strip, path.read_text("utf-8").splitlines()))))
    except (OSError, UnicodeDecodeError) as error:
        raise QueriesProblem(f"The queries in {path} cannot be read: {error}") from error
    if len(lines) < FEWEST:
        raise QueriesProblem(f"{path} has {len(lines)} different queries; a mix needs {FEWEST} at least.")
    if long := next((line for line in lines if len(line) > LONGEST), None):
        raise QueriesProblem(f"A query has at most {LONGEST} characters; this one has {len(long)}: {long[:40]} ...")
    return lines


@dataclass(frozen=True, slots=True)
class Mix:
    """Queries by Zipf's law: number n comes (n + 1) ** skew times more seldom than number 0. `hot_text` goes before them.

    The order is drawn from the seed, so that the frequent ones are of every kind. Skew 0: all alike.
    """

    queries: tuple[str, ...]
    draw: random.Random
    sums: Sequence[float]
    hot: float = 0.0
    hot_text: str = ""

    @classmethod
    def of(
        cls, queries: Sequence[str], draw: random.Random, *, skew: float = 1.0, hot: float = 0.0, hot_text: str = ""
    ) -> Mix:
        """`hot` (0 to 1) is the share of one query: `hot_text`, or the most frequent on top of its own share."""
        order = list(queries)
        draw.shuffle(order)
        return cls(
            tuple(order), draw, list(accumulate((n + 1) ** -skew for n in range(len(order)))), hot, hot_text or order[0]
        )

    def next(self) -> str:
        """The next query."""
        if self.hot and self.draw.random() < self.hot:
            return self.hot_text
        place = bisect(self.sums, self.draw.random() * self.sums[-1])
        return self.queries[min(place, len(self.queries) - 1)]


@dataclass(frozen=True, slots=True)
class Searcher:
    """Asks once. An answer with results is `ok`; a refusal is `fail`; no answer is `unknown`."""

    api: Http
    mix: Mix
    parameters: str = ""
    clients: int = 1000
    """So many people, told apart by `X-Client-Id`."""
    patience_ms: int = 0
    """How long the caller says that he waits; 0: he does not say."""

    def search(self) -> Ending:
        """The next query of the mix, asked by any of the people."""
        more = f"&{self.parameters}" if self.parameters else ""
        text = self.mix.next()
        headers = {"X-Client-Id": f"lab-{self.mix.draw.randrange(self.clients)}"}
        if self.patience_ms:
            headers["Request-Timeout-Ms"] = str(self.patience_ms)
        answer = self.api.get(f"/v1/search?q={quote_plus(text)}{more}", headers)
        return concluded(answer, text, hot=bool(self.mix.hot) and text == self.mix.hot_text)


def concluded(answer: Answer, text: str, *, hot: bool = False) -> Ending:
    """What the searcher knows."""
    asked = ShownSearch("", "", "", "yes" if hot else "", text)
    ending = Ending(Outcome.UNKNOWN, 1, answer.status, answer.error, shown=asked, kind=KIND)
    if answer.status == 200:
        try:
            found = msgspec.json.decode(answer.body, type=_Found)
        except (msgspec.DecodeError, UnicodeDecodeError):
            ending.outcome, ending.error = Outcome.FAIL, "200 without hits"
            return ending
        cache = answer.header("x-cache") or ""
        ending.outcome = Outcome.OK
        ending.shown = ShownSearch(str(len(found.hits)), " ".join(found.degraded), cache, asked.hot, text)
    elif answer.status is not None:
        ending.outcome, ending.error = Outcome.FAIL, _problem_type(answer)
    return ending


def _problem_type(answer: Answer) -> str:
    try:
        return msgspec.json.decode(answer.body, type=_Problem).type
    except (msgspec.DecodeError, UnicodeDecodeError):
        return f"HTTP {answer.status}"
