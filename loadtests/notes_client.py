"""A client that keeps a note and asks once: under its key it could ask again, and what it was told then would be another story."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote

import msgspec

from loadtests.client import Answer, Ending
from loadtests.history import Outcome


class Put(Protocol):
    """The one call of this client; no answer is an Answer without status."""

    def send(self, method: str, path: str, body: str | None, headers: Mapping[str, str]) -> Answer: ...


@dataclass(frozen=True, slots=True)
class NoteClient:
    """Three outcomes: 201 is a promise, 4xx says that nothing was done, and anything else says nothing."""

    api: Put

    def keep(self, key: str) -> Ending:
        """One note under this key."""
        body = msgspec.json.encode({"text": f"a note called {key}"}).decode()
        answer = self.api.send("PUT", f"/v1/notes/{quote(key)}", body, {"Content-Type": "application/json"})
        ending = Ending(Outcome.UNKNOWN, 1, answer.status, answer.error)
        if answer.status == 201:
            ending.outcome = Outcome.OK
        elif answer.status is not None:
            told = 400 <= answer.status < 500
            ending.outcome, ending.error = Outcome.FAIL if told else Outcome.UNKNOWN, f"HTTP {answer.status}"
        return ending
