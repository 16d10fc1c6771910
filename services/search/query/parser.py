"""What somebody typed, as clauses: words, "phrases", -exclusions, field:values and prefixes*.

    clauses = { [ "-" ] [ field ":" ] ( word [ "*" ] | phrase ) }
    phrase  = '"' { character | '\\"' | '\\\\' } '"'

A dash or a star by itself is a separator, as is every control character. Any text at all gives clauses or one QueryError.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from dataclasses import dataclass

LONGEST_QUERY = 512
"""Characters."""
MOST_CLAUSES = 32
SHORTEST_PREFIX = 2

_FIELD = re.compile(r"([a-z_]{2,32}):(?=\S)")
_FIELD_ALONE = re.compile(r"([a-z_]{2,32}):(?=\s|$)")
_WORD = re.compile(r'[^\s"]+')
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff]")


class QueryError(ValueError):
    """A query that says something impossible. `position` counts characters from 0; the message is for the person who typed."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


@dataclass(frozen=True, slots=True)
class Clause:
    """One thing that is wanted, or with `excluded` unwanted. `start` and `end` are its place in the query."""

    text: str
    field: str | None
    phrase: bool
    prefix: bool
    excluded: bool
    start: int
    end: int


def parse(query: str, fields: Set[str]) -> tuple[Clause, ...]:
    """The clauses in their order; none for a query without words. Raises QueryError."""
    if len(query) > LONGEST_QUERY:
        raise QueryError(f"A query has at most {LONGEST_QUERY} characters; this one has {len(query)}.", LONGEST_QUERY)
    if (odd := next((place for place, letter in enumerate(query) if "\ud800" <= letter <= "\udfff"), None)) is not None:
        raise QueryError("Half of a surrogate pair is no character.", odd)
    clauses: list[Clause] = []
    for clause in _clauses(_UNSEEN.sub(" ", query), fields):
        if len(clauses) == MOST_CLAUSES:
            raise QueryError(f"A query has at most {MOST_CLAUSES} words and phrases.", clause.start)
        clauses.append(clause)
    return tuple(clauses)


def _clauses(query: str, fields: Set[str]) -> Iterator[Clause]:
    place = 0
    while place < len(query):
        if query[place].isspace():
            place += 1
            continue
        start = place
        excluded = query[place] == "-" and place + 1 < len(query) and not query[place + 1].isspace()
        place += excluded
        field, place = _field(query, place, fields)
        if query[place] == '"':
            text, place = _phrase(query, place)
            if text:
                yield Clause(text, field, True, False, excluded, start, place)
            continue
        word = _WORD.match(query, place)
        assert word is not None
        place = word.end()
        yield from _word(word[0], word.start(), Clause("", field, False, False, excluded, start, place))


def _field(query: str, place: int, fields: Set[str]) -> tuple[str | None, int]:
    if (alone := _FIELD_ALONE.match(query, place)) is not None and alone[1] in fields:
        raise QueryError(f"After '{alone[1]}:' a value is missing.", place)
    match = _FIELD.match(query, place)
    if match is None or query.startswith("//", match.end()):
        return None, place
    if match[1] not in fields:
        known = ", ".join(sorted(fields))
        raise QueryError(f"There is no field '{match[1]}'; there are {known}. In quotes it is text.", place)
    return match[1], match.end()


def _phrase(query: str, place: int) -> tuple[str, int]:
    letters: list[str] = []
    position = place + 1
    while position < len(query):
        letter = query[position]
        if letter == '"':
            return " ".join("".join(letters).split()), position + 1
        if letter == "\\" and query[position + 1 : position + 2] in ('"', "\\"):
            position += 1
            letter = query[position]
        letters.append(letter)
        position += 1
    raise QueryError("This quote is never closed.", place)


def _word(word: str, place: int, clause: Clause) -> Iterator[Clause]:
    stem = word.rstrip("*")
    if not stem.strip("-*"):
        return
    if "*" in stem or "?" in stem[:1]:
        raise QueryError(
            "A star is allowed at the end of a word only: other wildcards would read the whole index.", place
        )
    prefix = stem != word
    if prefix and len(stem) < SHORTEST_PREFIX:
        raise QueryError(f"Before a star stand at least {SHORTEST_PREFIX} characters.", place)
    yield Clause(stem, clause.field, False, prefix, clause.excluded, clause.start, clause.end)
