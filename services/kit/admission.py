"""How many requests a process works on at once, which version of a thing they are about, what they hear of a dead database."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.requests import Request

from services.kit.errors import Busy, Problem, Unavailable
from services.kit.store import StoreUnavailable

_ETAG = re.compile(r'"([1-9][0-9]{0,17})"')
SEND_AGAIN = "send the same request again"


@dataclass(slots=True)
class Places:
    """At most `most` requests at once. `shed` is told of each that is refused."""

    most: int
    shed: Callable[[], object]
    taken: int = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Take a place for the block. Raises Busy beyond the bound, at once: waiting would only use up the deadline.

        Read a request's body before: who sends slowly must not hold a place.
        """
        if self.taken >= self.most:
            self.shed()
            raise Busy
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


@contextmanager
def store_answers(then: str = SEND_AGAIN) -> Iterator[None]:
    """Raises Unavailable with the advice `then` for a database that is away inside the block."""
    try:
        yield
    except StoreUnavailable:
        raise Unavailable(f"The database does not answer; {then}.") from None


def wanted_version(request: Request, changed: Callable[[], Problem]) -> int | None:
    """Of If-Match; None for any. Raises `changed` for a value that no ETag of ours can have."""
    value = request.headers.get("if-match", "*").strip()
    if value == "*":
        return None
    match = _ETAG.fullmatch(value)
    if match is None:
        raise changed()
    return int(match[1])
