"""Locust's fast HTTP session as the `Http` of our client. Its own statistics are off: an operation is more than a request."""

from __future__ import annotations

from collections.abc import Mapping

from geventhttpclient.header import Headers
from locust.contrib.fasthttp import FAILURE_EXCEPTIONS, FastHttpSession
from locust.event import EventHook

from loadtests.client import Answer

TIMEOUT_SECONDS = 2.5
"""For an answer. Above the 2 s that the service gives its bank: who hangs up earlier never sees the 202."""
WANTED_HEADERS = ("location", "retry-after", "etag", "x-cache")


class FastHttp:
    """One connection pool for all operations; `concurrency` must be the in-flight cap, or the pool would queue."""

    def __init__(self, host: str, *, concurrency: int, timeout: float = TIMEOUT_SECONDS) -> None:
        self._session = FastHttpSession(
            base_url=host.rstrip("/"),
            request_event=EventHook(),
            user=None,
            concurrency=concurrency,
            network_timeout=timeout,
            connection_timeout=timeout,
            max_retries=0,
            max_redirects=0,
        )

    def post(self, path: str, body: str, headers: Mapping[str, str]) -> Answer:
        """Every way of not getting an answer is an Answer without status."""
        return self._request("POST", path, body, headers)

    def get(self, path: str, headers: Mapping[str, str]) -> Answer:
        """As `post`."""
        return self._request("GET", path, None, headers)

    def send(self, method: str, path: str, body: str | None, headers: Mapping[str, str]) -> Answer:
        """Any method, as `post`."""
        return self._request(method, path, body, headers)

    def _request(self, method: str, path: str, body: str | None, headers: Mapping[str, str]) -> Answer:
        response = self._session.request(method, path, data=body, headers=dict(headers))
        if not response.status_code:
            return Answer(None, {}, b"", _reason(getattr(response, "error", None)))
        try:
            content = response.content
        except FAILURE_EXCEPTIONS as error:
            return Answer(None, {}, b"", type(error).__name__)
        return Answer(response.status_code, _wanted(response.headers), content or b"")


def _wanted(headers: Headers | None) -> dict[str, str]:
    found = {name: headers.get(name) for name in WANTED_HEADERS} if headers else {}
    return {name: value for name, value in found.items() if isinstance(value, str)}


def _reason(error: Exception | None) -> str:
    """The class of what went wrong; the pool wraps it as `original`."""
    cause = getattr(error, "original", None) or error
    return "no answer" if cause is None else type(cause).__name__
