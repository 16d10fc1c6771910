"""The problem documents of the search API, each with its stable type."""

from __future__ import annotations

from services.kit.errors import Problem


class InvalidQuery(Problem):
    """A query text that cannot be read; `position` counts characters from 0."""

    def __init__(self, detail: str, position: int) -> None:
        super().__init__(
            422, "invalid_query", "The query cannot be read", detail=detail, extra={"at": "q", "position": position}
        )


class InvalidParameter(Problem):
    """A parameter that says nothing or something impossible; never with its value."""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(422, "invalid_parameter", "A parameter is not valid", detail=detail, extra={"at": name})


class TooExpensive(Problem):
    """Refused before it costs anything."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(
            422, "too_expensive", "This query would cost too much", detail=detail, extra={"reason": reason}
        )


class InvalidCursor(Problem):
    def __init__(self, detail: str) -> None:
        super().__init__(422, "invalid_cursor", "This cursor cannot be used", detail=detail, extra={"at": "cursor"})


class CursorGone(Problem):
    def __init__(self) -> None:
        super().__init__(
            410,
            "cursor_gone",
            "The index that this cursor reads is gone",
            detail="It was replaced by a newer one. Ask for the first page again.",
        )


class NoSuchHit(Problem):
    def __init__(self) -> None:
        super().__init__(404, "no_such_hit", "This product is not among the results of the query")


class RateLimited(Problem):
    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__(
            429,
            "rate_limited",
            "This client asks too often",
            detail="Nothing was done. The same request may be sent again after the time in Retry-After.",
            headers={"Retry-After": str(retry_after_seconds)},
        )


class Shed(Problem):
    """503: no room, and nothing that could be answered instead."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            503,
            "overloaded",
            "More is asked than can be answered in time",
            detail="Nothing was done. Send the same request again, later and less often.",
            headers={"Retry-After": "1"},
            extra={"reason": reason},
        )


class EngineUnavailable(Problem):
    def __init__(self) -> None:
        super().__init__(
            503,
            "engine_unavailable",
            "The search engine does not answer",
            detail="Nothing of this answer is remembered either. Send the same request again.",
            headers={"Retry-After": "1"},
        )
