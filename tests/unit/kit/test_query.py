"""Query parameters of lists: the default where nothing is sent, a sentence for whatever cannot be meant."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from starlette.requests import Request

from services.kit import ids
from services.kit.errors import InvalidQuery
from services.kit.query import PAGE, PAGE_LIMIT, Query

ALLOWED = ("limit", "cursor", "after", "state")


def query(text: str) -> Query:
    return Query.of(Request({"type": "http", "query_string": text.encode(), "headers": []}), *ALLOWED)


def test_nothing_sent_is_the_first_page() -> None:
    sent = query("")
    assert sent.limit == PAGE
    assert sent.cursor("job") is None
    assert sent.number_cursor(9) == 0
    assert sent.text_cursor(re.compile("a+")) == ""
    assert sent.time_cursor() is None
    assert sent.moment("after") is None
    assert sent.choice("state", ("due",)) is None


def test_what_is_sent_is_read() -> None:
    number = ids.uuid7()
    assert query(f"limit={PAGE_LIMIT}").limit == PAGE_LIMIT
    assert query(f"cursor={ids.encode('job', number)}").cursor("job") == number
    assert query("cursor=12").number_cursor(12) == 12
    assert query("cursor=aa").text_cursor(re.compile("a+")) == "aa"
    assert query("state=due").choice("state", ("due",)) == "due"
    moment = query("after=2026-01-31T12:00:00%2B02:00").moment("after")
    assert moment == datetime(2026, 1, 31, 10, tzinfo=UTC)
    assert moment.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        *((f"limit={value}", lambda sent: sent.limit) for value in ("", "0", "-1", "101", "1.5", "1_0", "٣", "9" * 5000)),
        *((f"cursor={value}", lambda sent: sent.cursor("job")) for value in ("", "x", "pay_00000000000000000000000000")),
        *((f"cursor={value}", lambda sent: sent.number_cursor(12)) for value in ("", "0", "13", "x")),
        *((f"cursor={value}", lambda sent: sent.text_cursor(re.compile("a+"))) for value in ("", "b", "aab")),
        *(
            (f"cursor={value}", lambda sent: sent.time_cursor())
            for value in ("", "now", "2026-01-31T12:00:00", "0001-01-01T00:00:00%2B14:00")
        ),
        ("after=2026-01-31", lambda sent: sent.moment("after")),
        ("state=lost", lambda sent: sent.choice("state", ("due",))),
        ("limit=1&limit=2", lambda sent: sent),
        ("page=2", lambda sent: sent),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(text: str, read: Callable[[Query], object]) -> None:
    with pytest.raises(InvalidQuery) as refused:
        read(query(text))
    assert refused.value.status == 422
    assert refused.value.detail
