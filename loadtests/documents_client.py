"""Puts documents, version after version, and keeps what was acknowledged: so that afterwards each can be asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol
from uuid import NAMESPACE_URL, uuid5

import msgspec

from loadtests.client import Answer, Ending
from loadtests.history import Outcome, ShownWrite

KIND = "document"


class Put(Protocol):
    """The one call of this client."""

    def send(self, method: str, path: str, body: str | None, headers: Mapping[str, str]) -> Answer: ...


@dataclass(slots=True)
class DocumentWriter:
    """Documents are numbered 0 to `count` - 1 and written in turn; versions grow over all of them.

    A write is sent once: its version makes it safe to repeat, and whoever serves it may do so.
    """

    api: Put
    run: str
    count: int
    version: int = field(default=0)

    def write(self, key: str) -> Ending:
        """The next version of the next document."""
        self.version += 1
        version = self.version
        product = str(uuid5(NAMESPACE_URL, f"{self.run}/{version % self.count}"))
        body = msgspec.json.encode({"version": version, "title": f"written by {key}"}).decode()
        answer = self.api.send("PUT", f"/v1/documents/{product}", body, {"Content-Type": "application/json"})
        ending = Ending(Outcome.UNKNOWN, 1, answer.status, answer.error, kind=KIND)
        if answer.status in (200, 201):
            ending.outcome, ending.shown = Outcome.OK, ShownWrite(product, str(version))
        elif answer.status is not None and 400 <= answer.status < 500:
            ending.outcome, ending.error = Outcome.FAIL, f"HTTP {answer.status}"
        elif answer.status is not None:
            ending.error = f"HTTP {answer.status}"
        return ending
