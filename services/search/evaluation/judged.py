"""Judged queries, a JSON line each: {"query": ..., "form": ..., "language": "en", "grades": {"<product id>": 3, ...}}.

`form` says what kind of query it is. Grades are 1 to 3; a product that is not named is 0. `note` says why, for readers.
Where it is known whose query it is, `wanted` is the one product that this person had in mind, and `history` what they did.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from services.search.ranking.personal import Interaction, Kind

HAND = Path(__file__).parent / "hand.jsonl"
"""Judged by a person, by looking at the products of the generated catalogue of seed 1 with 5,000 products."""
MOST_QUERIES = 100_000


class JudgementsWrong(Exception):
    """The file cannot be used. The message names file and line."""


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What somebody did with a product of a brand and a category, so many days before the query."""

    kind: Kind
    brand_id: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    category: Annotated[str, Meta(min_length=1, max_length=200)]
    days_ago: Annotated[float, Meta(ge=0, le=3650)]


class Judged(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One query and its answers."""

    query: Annotated[str, Meta(min_length=1, max_length=512)]
    form: Annotated[str, Meta(min_length=1, max_length=40, pattern=r"^[a-z_]+\Z")]
    language: Annotated[str, Meta(pattern=r"^(en|de|fr|es)\Z")]
    grades: dict[str, Annotated[int, Meta(ge=1, le=3)]]
    note: str = ""
    wanted: str | None = None
    history: Annotated[list[Event], Meta(max_length=1000)] = []

    def interactions(self, now: datetime) -> list[Interaction]:
        """The history, as of `now`."""
        return [
            Interaction(each.kind, each.brand_id, each.category, now - timedelta(days=each.days_ago))
            for each in self.history
        ]


def read(path: Path) -> list[Judged]:
    """All queries of a file. Raises JudgementsWrong."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise JudgementsWrong(f"{path} cannot be read: {error.strerror}.") from error
    found = [_line(path, number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not found:
        raise JudgementsWrong(f"{path} holds no judged query.")
    if len(found) > MOST_QUERIES:
        raise JudgementsWrong(f"{path} holds {len(found)} queries; {MOST_QUERIES} is the most.")
    seen: dict[tuple[str, str], int] = {}
    for number, each in enumerate(found, 1):
        if (first := seen.setdefault((each.query, each.language), number)) != number:
            raise JudgementsWrong(f"{path}: query {number} is query {first} again: {each.query!r}.")
    return found


def _line(path: Path, number: int, line: bytes) -> Judged:
    try:
        judged = msgspec.json.decode(line, type=Judged)
    except msgspec.DecodeError as error:
        raise JudgementsWrong(f"{path}, line {number}: {error}.") from error
    except UnicodeDecodeError as error:
        raise JudgementsWrong(f"{path}, line {number}: it is not UTF-8.") from error
    for each in (*judged.grades, *filter(None, [judged.wanted])):
        if not _is_id(each):
            raise JudgementsWrong(f"{path}, line {number}: {each!r} is no product id (a UUID in lower case).")
    return judged


def _is_id(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
