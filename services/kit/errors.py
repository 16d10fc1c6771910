"""RFC 9457 problem documents: the only form in which an error leaves a service."""

from __future__ import annotations

from collections.abc import Mapping

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


class Unavailable(Problem):
    """503 with Retry-After: nothing was done, the same request may be sent again."""

    def __init__(self, detail: str, *, retry_after_seconds: int = 1) -> None:
        super().__init__(
            503,
            "unavailable",
            "Temporarily unavailable",
            detail=detail,
            headers={"Retry-After": str(retry_after_seconds)},
        )
