from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from loadtests.client import Answer
from loadtests.history import Outcome
from loadtests.notes_client import NoteClient


@dataclass
class Scripted:
    answer: Answer
    sent: list[tuple[str, str, str | None]] = field(default_factory=list)

    def send(self, method: str, path: str, body: str | None, headers: Mapping[str, str]) -> Answer:
        self.sent.append((method, path, body))
        return self.answer


@pytest.mark.parametrize(
    ("status", "outcome", "error"),
    [
        (201, Outcome.OK, None),
        (422, Outcome.FAIL, "HTTP 422"),
        (503, Outcome.UNKNOWN, "HTTP 503"),
        (504, Outcome.UNKNOWN, "HTTP 504"),
        (200, Outcome.UNKNOWN, "HTTP 200"),
        (None, Outcome.UNKNOWN, "TimeoutError"),
    ],
)
def test_only_a_201_is_a_promise_and_only_a_4xx_a_refusal(
    status: int | None, outcome: Outcome, error: str | None
) -> None:
    api = Scripted(Answer(status, {}, b"", "TimeoutError" if status is None else None))
    ending = NoteClient(api).keep("o1-000001")
    assert (ending.outcome, ending.status, ending.error, ending.attempts) == (outcome, status, error, 1)


def test_a_note_is_put_under_its_key() -> None:
    api = Scripted(Answer(201, {}, b"{}"))
    NoteClient(api).keep("a b")
    ((method, path, body),) = api.sent
    assert (method, path) == ("PUT", "/v1/notes/a%20b")
    assert json.loads(body or "") == {"text": "a note called a b"}
