"""The query parameters of a list, read strictly: what cannot be meant is refused with a sentence, not guessed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from starlette.requests import Request

from services.kit import ids
from services.kit.errors import InvalidQuery

PAGE = 20
PAGE_LIMIT = 100
_BAD_CURSOR = "cursor is the next_cursor of an earlier page."


@dataclass(frozen=True, slots=True)
class Query:
    """Each parameter once. Every method raises InvalidQuery; where nothing was sent, it answers with a default or None."""

    values: dict[str, str]

    @classmethod
    def of(cls, request: Request, *allowed: str) -> Query:
        """Refuses a parameter that is unknown or comes twice."""
        pairs = request.query_params.multi_items()
        if unknown := [name for name, _ in pairs if name not in allowed]:
            raise InvalidQuery(f"There are {', '.join(allowed)}; {len(unknown)} other parameters were sent.")
        if len({name for name, _ in pairs}) != len(pairs):
            raise InvalidQuery("Each parameter stands once.")
        return cls(dict(pairs))

    @property
    def limit(self) -> int:
        """1 to PAGE_LIMIT, or PAGE."""
        return self.whole("limit", PAGE, PAGE_LIMIT)

    def whole(self, name: str, default: int, most: int) -> int:
        """1 to `most`."""
        return _number(self.values.get(name, str(default)), most, f"{name} is 1 to {most}.")

    def cursor(self, prefix: str) -> UUID | None:
        """Where a page ended, by id."""
        return self.identity("cursor", prefix, _BAD_CURSOR)

    def number_cursor(self, most: int) -> int:
        """Where a page ended, by a number of 1 to `most`; 0 for the first page."""
        text = self.values.get("cursor")
        return 0 if text is None else _number(text, most, _BAD_CURSOR)

    def text_cursor(self, shape: re.Pattern[str]) -> str:
        """Where a page ended, by a text of that shape; empty for the first page."""
        text = self.values.get("cursor")
        if text is not None and not shape.fullmatch(text):
            raise InvalidQuery(_BAD_CURSOR)
        return text or ""

    def time_cursor(self) -> datetime | None:
        """Where a page ended, by time."""
        return self._instant("cursor", _BAD_CURSOR)

    def identity(self, name: str, prefix: str, sentence: str) -> UUID | None:
        """An id; `sentence` says which."""
        if name not in self.values:
            return None
        found = ids.decode(prefix, self.values[name])
        if found is None:
            raise InvalidQuery(sentence)
        return found

    def moment(self, name: str) -> datetime | None:
        """RFC 3339 with an offset, as UTC."""
        return self._instant(name, f"{name} is a time with an offset, such as 2026-01-31T12:00:00Z.")

    def choice(self, name: str, allowed: tuple[str, ...]) -> str | None:
        """One of the words."""
        value = self.values.get(name)
        if value is not None and value not in allowed:
            raise InvalidQuery(f"{name} is one of {', '.join(allowed)}.")
        return value

    def _instant(self, name: str, sentence: str) -> datetime | None:
        if name not in self.values:
            return None
        try:
            found = datetime.fromisoformat(self.values[name])
            if found.tzinfo is not None:
                return found.astimezone(UTC)
        except (ValueError, OverflowError):
            pass
        raise InvalidQuery(sentence)


def _number(text: str, most: int, sentence: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most)) and 1 <= int(text) <= most):
        raise InvalidQuery(sentence)
    return int(text)
