"""Subscribers for a load on webhooks: endpoints at the simulated receivers, registered once and found again by their URL."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from loadtests.client import Answer, Http

PATH = "/v1/endpoints"
PAGE = 100


class EndpointsProblem(Exception):
    """The service did not list or take endpoints; the message is a sentence."""


class _Endpoint(msgspec.Struct, frozen=True):
    url: str


class _Page(msgspec.Struct, frozen=True):
    data: list[_Endpoint]
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Subscribers:
    """Receiver n listens to event type n modulo `types`. `secret` is the master secret of the simulated receivers."""

    http: Http
    api_key: str
    receivers_url: str
    secret: str
    types: int
    type_prefix: str

    def register(self, count: int) -> int:
        """Make sure that receivers 1 to `count` are subscribed; returns how many were new. Raises EndpointsProblem."""
        known = set(self._registered())
        missing = [number for number in range(1, count + 1) if self._url(number) not in known]
        for number in missing:
            answer = self.http.post(PATH, self._order(number), self._headers())
            if answer.status != 201:
                raise EndpointsProblem(f"Endpoint {number} was not registered: {_told(answer)}.")
        return len(missing)

    def _registered(self) -> Iterator[str]:
        cursor: str | None = ""
        while cursor is not None:
            after = f"&cursor={cursor}" if cursor else ""
            answer = self.http.get(f"{PATH}?limit={PAGE}{after}", self._headers())
            try:
                page = msgspec.json.decode(answer.body if answer.status == 200 else b"", type=_Page)
            except (msgspec.DecodeError, UnicodeDecodeError):
                raise EndpointsProblem(f"The endpoints could not be listed: {_told(answer)}.") from None
            yield from (one.url for one in page.data)
            cursor = page.next_cursor

    def _url(self, number: int) -> str:
        return f"{self.receivers_url.rstrip('/')}/r/{number}"

    def _order(self, number: int) -> str:
        digest = hashlib.sha256(f"{self.secret}/{number}".encode()).digest()
        order = {
            "url": self._url(number),
            "event_types": [f"{self.type_prefix}{number % self.types}"],
            "secret": "whsec_" + base64.b64encode(digest).decode(),
            "description": "load test",
        }
        return msgspec.json.encode(order).decode()

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api_key}", "Content-Type": "application/json"}


def _told(answer: Answer) -> str:
    return f"HTTP {answer.status}" if answer.status is not None else answer.error or "no answer"
