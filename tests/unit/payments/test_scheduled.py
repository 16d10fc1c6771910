"""Orders of a schedule: carried out once, dropped when they are too late, set aside when they cannot be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from aiokafka import ConsumerRecord

from services.kit.consumer import Record
from services.patterns.dlq import Unprocessable
from services.payments.bank import BankUnavailable
from services.payments.reconcile import MalformedFile
from services.payments.scheduled import Command, Scheduled, read
from tests.unit.kit.recorded_spans import recorded

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
BECAUSE = f"00-{'a' * 32}-{'b' * 16}-01"
CRON = f"00-{'c' * 32}-{'d' * 16}-01"


class Noon:
    """A clock that stands."""

    def now(self) -> datetime:
        return NOON

    def monotonic(self) -> float:
        return 0.0


def record(value: bytes | None = b"{}", **headers: bytes) -> Record:
    pairs = tuple(({"ce_id": b"run_1"} | headers).items())
    return ConsumerRecord("cron.reconciliation.v1", 0, 3, 0, 0, b"k", value, None, 0, 0, pairs)


def test_an_order_may_name_what_it_is_about() -> None:
    body = b'{"because": "' + BECAUSE.encode() + b'", "note": "of no concern"}'
    assert read(record(body), Noon()) == Command("run_1", BECAUSE, late=False)
    assert read(record(b"{}"), Noon()) == Command("run_1", None, late=False)
    assert read(record(b'{"because": "garbage"}'), Noon()) == Command("run_1", None, late=False)


def test_an_order_that_has_expired_is_late() -> None:
    assert read(record(ce_expirytime=b"2026-11-23T11:59:59+00:00"), Noon()).late
    assert not read(record(ce_expirytime=b"2026-11-23T12:00:01+00:00"), Noon()).late


@pytest.mark.parametrize(
    ("garbage", "reason"),
    [
        (record(ce_id=b"\xff"), "no_run"),
        (record(ce_id=b""), "no_run"),
        (record(ce_id=b"x" * 101), "no_run"),
        (record(ce_id=b"a\x00b"), "no_run"),
        (record(None), "malformed_body"),
        (record(b""), "malformed_body"),
        (record(b"[]"), "malformed_body"),
        (record(b"\xff\xfe"), "malformed_body"),
        (record(b'{"because": 7}'), "malformed_body"),
        (record(b'{"because":' + b"[" * 100_000), "malformed_body"),
        (record(ce_expirytime=b"yesterday"), "malformed_head"),
    ],
)
def test_garbage_is_unprocessable_with_its_reason(garbage: Record, reason: str) -> None:
    with pytest.raises(Unprocessable) as why:
        read(garbage, Noon())
    assert why.value.reason == reason


@dataclass
class Books:
    """Store and reconciler in one."""

    kept: dict[str, tuple[str, int]] = field(default_factory=dict)
    rounds: list[str | None] = field(default_factory=list)
    fails: Sequence[Exception] = ()

    async def run_is_known(self, run_id: str) -> bool:
        return run_id in self.kept

    async def keep_run(self, run_id: str, outcome: str, findings: int, traceparent: str | None) -> None:
        del traceparent
        self.kept[run_id] = (outcome, findings)

    async def compare(self, parent: str | None) -> int:
        self.rounds.append(parent)
        if self.fails:
            first, *self.fails = self.fails
            raise first
        return 2

    def scheduled(self) -> Scheduled:
        store: Any = self
        return Scheduled(store, self.compare, Noon())


async def test_a_run_is_carried_out_once_however_often_it_comes() -> None:
    books = Books()
    assert await books.scheduled().work([record(), record()]) == []
    assert await books.scheduled().work([record(), record(ce_id=b"run_2")]) == []
    assert books.kept == {"run_1": ("compared", 2), "run_2": ("compared", 2)}
    assert len(books.rounds) == 2


async def test_garbage_is_set_aside_and_the_rest_is_done() -> None:
    books = Books()
    parked = await books.scheduled().work([record(b"nonsense"), record(ce_id=b"run_2")])
    assert [(letter.reason, letter.value) for letter in parked] == [("malformed_body", b"nonsense")]
    assert list(books.kept) == ["run_2"]


async def test_a_late_order_compares_nothing() -> None:
    books = Books()
    assert await books.scheduled().work([record(ce_expirytime=b"2026-11-23T11:00:00Z")]) == []
    assert books.kept == {}
    assert books.rounds == []


async def test_a_file_that_cannot_be_read_is_how_the_run_ended() -> None:
    books = Books(fails=[MalformedFile("a line too short")])
    assert await books.scheduled().work([record()]) == []
    assert books.kept == {"run_1": ("malformed_file", 0)}


async def test_a_bank_that_is_away_leaves_the_run_undone_for_the_next_try() -> None:
    books = Books(fails=[BankUnavailable("no answer")])
    with pytest.raises(BankUnavailable):
        await books.scheduled().work([record()])
    assert books.kept == {}
    await books.scheduled().work([record()])
    assert books.kept == {"run_1": ("compared", 2)}


async def test_the_comparison_is_in_the_schedule_s_trace_and_points_at_what_it_is_about() -> None:
    books = Books()
    body = b'{"because": "' + BECAUSE.encode() + b'"}'
    with recorded() as spans:
        await books.scheduled().work([record(body, traceparent=CRON.encode())])
    (span,) = spans.get_finished_spans()
    assert span.context is not None
    assert f"{span.context.trace_id:032x}" == "c" * 32
    assert [f"{link.context.trace_id:032x}" for link in span.links] == ["a" * 32]
    assert books.rounds == [f"00-{'c' * 32}-{span.context.span_id:016x}-01"]
