"""RFC 9457 problem documents: the only form in which an error leaves a service."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil

import msgspec
from starlette.responses import Response


class Problem(Exception):
    """An answer that is not a success. `type` is stable and documented; `detail` helps the caller to mend it.

    Subclasses own their message. Never put a foreign error's text, a secret or an input value into `detail`.
    """

    def __init__(
        self,
        status: int,
        code: str,
        title: str,
        *,
        detail: str | None = None,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(f"{status} {code}: {title}")
        self.status = status
        self.code = code
        self.title = title
        self.detail = detail
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})

    def body(self) -> bytes:
        """The JSON document."""
        document: dict[str, object] = {"type": f"urn:lab:{self.code}", "title": self.title, "status": self.status}
        if self.detail is not None:
            document["detail"] = self.detail
        return msgspec.json.encode(document | self.extra)

    def response(self) -> Response:
        """The HTTP answer."""
        return Response(self.body(), self.status, self.headers, media_type="application/problem+json")


class Busy(Problem):
    """The service has as many requests in flight as it takes; this one was not begun."""

    def __init__(self) -> None:
        super().__init__(
            503, "overloaded", "Too many requests are in flight; nothing was done", headers={"Retry-After": "1"}
        )


class OutcomeUnknown(Problem):
    """503: it may have been done. The idempotency key makes it safe to ask again. `retry_after` in seconds, 1 to 60."""

    def __init__(self, retry_after: float | None = None) -> None:
        super().__init__(
            503,
            "outcome_unknown",
            "Whether this was done is not known",
            detail="Send the same request with the same Idempotency-Key again.",
            headers={"Retry-After": whole_seconds(retry_after)},
        )


class InvalidQuery(Problem):
    def __init__(self, detail: str) -> None:
        super().__init__(422, "invalid_request", "The query is not valid", detail=detail)


def whole_seconds(wanted: float | None) -> str:
    """For Retry-After: rounded up, 1 to 60."""
    return str(min(60, max(1, ceil(wanted or 1))))


class Unavailable(Problem):
    """503 with Retry-After: the same request may be sent again. Whether nothing was done is for the service to say."""

    def __init__(self, detail: str, *, retry_after_seconds: int = 1) -> None:
        super().__init__(
            503,
            "unavailable",
            "Temporarily unavailable",
            detail=detail,
            headers={"Retry-After": str(retry_after_seconds)},
        )
