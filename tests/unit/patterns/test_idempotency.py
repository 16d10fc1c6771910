from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.patterns.idempotency import (
    Decision,
    KeyRecord,
    StoredResponse,
    canonical_json,
    decide,
    fingerprint,
    valid_key,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(hours=24)
ANSWER = StoredResponse(201, b"{}")

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("raw", [b"a", b'"quoted"', b"!~", b"x" * 255])
def test_visible_ascii_is_a_key_quotes_included(raw: bytes) -> None:
    assert valid_key(raw) == raw.decode()


@pytest.mark.parametrize("raw", [b"", b" ", b"a b", b"a\n", b"a\x7f", "é".encode(), "é".encode("latin-1"), b"x" * 256])
def test_anything_else_is_not(raw: bytes) -> None:
    assert valid_key(raw) is None


def test_a_quoted_key_and_a_bare_one_are_two_keys() -> None:
    assert valid_key(b'"a"') != valid_key(b"a")


@given(values)
def test_white_space_and_escapes_do_not_change_the_fingerprint(value: Any) -> None:
    plain = json.dumps(value, ensure_ascii=False).encode()
    spaced = json.dumps(value, ensure_ascii=True, indent=3).encode()
    assert fingerprint("POST /x", plain) == fingerprint("POST /x", spaced)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), values, min_size=2))
def test_the_order_of_members_does_not_change_the_fingerprint(value: dict[str, Any]) -> None:
    backwards = dict(reversed(list(value.items())))
    assert canonical_json(json.dumps(value).encode()) == canonical_json(json.dumps(backwards).encode())


@given(values, values)
def test_different_values_have_different_canonical_forms(one: Any, other: Any) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (canonical_json(json.dumps(one).encode()) == canonical_json(json.dumps(other).encode())) is same


def test_numbers_of_the_same_value_are_the_same() -> None:
    assert canonical_json(b'{"a":1.0,"b":[1e3]}') == b'{"a":1,"b":[1000]}'


def test_the_endpoint_belongs_to_the_fingerprint_and_no_body_is_null() -> None:
    assert fingerprint("POST /a", b"{}") != fingerprint("POST /b", b"{}")
    assert fingerprint("POST /a", b"") == fingerprint("POST /a", b"null")


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 100_000])
def test_what_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="not JSON"):
        canonical_json(body)


def record(
    *, expires_at: datetime = LATER, response: StoredResponse | None = None, lease_over: bool = False
) -> KeyRecord:
    return KeyRecord(b"f", expires_at, response, lease_over)


@pytest.mark.parametrize(
    ("stored", "wanted", "decision"),
    [
        (None, b"f", Decision.NEW),
        (record(expires_at=NOW), b"f", Decision.NEW),
        (record(expires_at=NOW, response=ANSWER), b"other", Decision.NEW),
        (record(), b"f", Decision.IN_FLIGHT),
        (record(lease_over=True), b"f", Decision.TAKE_OVER),
        (record(response=ANSWER), b"f", Decision.REPLAY),
        (record(response=ANSWER, lease_over=True), b"f", Decision.REPLAY),
        (record(response=ANSWER), b"other", Decision.MISMATCH),
        (record(lease_over=True), b"other", Decision.MISMATCH),
    ],
)
def test_the_decision_follows_the_record(stored: KeyRecord | None, wanted: bytes, decision: Decision) -> None:
    assert decide(stored, wanted, NOW) is decision
