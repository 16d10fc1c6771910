from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kit.client import Answer
from services.payments.bank import CANCELLED, REJECTED, interpret, judge, signature_holds
from services.payments.domain import Done, Outcome, Refused, Said, Unknown

SECRET = b"secret"


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (201, b'{"id":"ch_1","status":"captured"}', Done("ch_1")),
        (200, b'{"id":"ch_1","status":"authorised","kind":"charge"}', Done("ch_1")),
        (200, b'{"id":"op_1","status":"succeeded"}', Done("op_1")),
        (
            201,
            b'{"id":"ch_1","status":"captured","reference":"op_x","amount":7,"currency":"EUR"}',
            Done("ch_1", Said("op_x", 7, "EUR")),
        ),
        (201, b'{"id":"ch_1","status":"captured","amount":"7"}', Unknown("garbled")),
        (201, b'{"id":"ch_1","status":"declined","decline_code":"insufficient_funds"}', Refused("insufficient_funds")),
        (201, b'{"id":"ch_1","status":"declined","decline_code":"<script>"}', Refused("declined")),
        (200, b'{"reference":"r","status":"cancelled","kind":"cancelled"}', Refused(CANCELLED)),
        (409, b'{"type":"urn:bank:reference_cancelled"}', Refused(CANCELLED)),
        (409, b'{"type":"urn:bank:reference_conflict"}', Unknown("unexpected_status")),
        (422, b'{"type":"urn:bank:invalid_request"}', Refused(REJECTED)),
        (404, b'{"type":"urn:bank:not_found"}', Refused(REJECTED)),
        (400, b"Invalid HTTP request received.", Unknown("unexpected_status")),
        (404, b"<h1>nginx</h1>", Unknown("not_found")),
        (404, b'{"type":"urn:lab:no_such_route"}', Unknown("not_found")),
        (422, b"", Unknown("unexpected_status")),
        (401, b"", Unknown("unexpected_status")),
        (500, b"", Unknown("server_error")),
        (503, b"", Unknown("server_error")),
        (504, b"", Unknown("server_error", unanswered=True)),
        (302, b"", Unknown("unexpected_status")),
        (200, b"<html>", Unknown("garbled")),
        (200, b"\xff", Unknown("garbled")),
        (201, b'{"id":"","status":"captured"}', Unknown("garbled")),
        (201, b'{"id":"ch_1","status":"pending"}', Unknown("garbled")),
        (200, b'{"x":' + b"[" * 100_000, Unknown("garbled")),
        (409, b'{"x":' + b"[" * 100_000, Unknown("unexpected_status")),
    ],
)
def test_an_answer_is_final_only_if_it_surely_is(status: int, body: bytes, outcome: Outcome) -> None:
    assert interpret(status, body, None, method="POST") == outcome


def test_a_rate_limit_says_when_to_come_back() -> None:
    assert interpret(429, b"", "7", method="POST") == Unknown("rate_limited", 7.0)
    assert interpret(429, b"", "soon", method="POST") == Unknown("rate_limited", None)
    assert interpret(429, b"", "\u00b2", method="POST") == Unknown("rate_limited", None)
    assert interpret(429, b"", "9999", method="POST") == Unknown("rate_limited", 60.0)


def test_not_found_is_never_certainty_when_asking_or_cancelling() -> None:
    assert interpret(404, b"", None, method="GET") == Unknown("not_found")
    assert interpret(404, b"", None, method="POST", cancelling=True) == Unknown("not_found")


def test_a_cancellation_either_holds_or_tells_what_was_done() -> None:
    def cancelled(body: bytes) -> Outcome:
        return interpret(200, body, None, method="POST", cancelling=True)

    assert cancelled(b'{"reference":"r","status":"cancelled"}') == Refused(CANCELLED)
    assert cancelled(b'{"status":"executed","operation":{"id":"ch_1","status":"captured"}}') == Done("ch_1")
    assert cancelled(b'{"status":"executed","operation":{"id":"c","status":"declined","decline_code":"x"}}') == Refused(
        "x"
    )
    assert cancelled(b'{"status":"executed"}') == Unknown("garbled")


@given(st.integers(100, 599), st.binary(max_size=50), st.sampled_from(["GET", "POST"]), st.booleans())
def test_no_answer_whatever_makes_it_fail(status: int, body: bytes, method: str, cancelling: bool) -> None:
    assert isinstance(interpret(status, body, None, method=method, cancelling=cancelling), Done | Refused | Unknown)


def signed(stamp: str, body: bytes, secret: bytes = SECRET) -> str:
    return f"t={stamp},v1={hmac.new(secret, stamp.encode() + b'.' + body, hashlib.sha256).hexdigest()}"


def test_a_right_signature_holds_for_five_minutes_either_way() -> None:
    header = signed("1000", b"body")
    assert signature_holds(header, b"body", SECRET, 1000)
    assert signature_holds(header, b"body", SECRET, 1300)
    assert signature_holds(header, b"body", SECRET, 700)
    assert not signature_holds(header, b"body", SECRET, 1301)
    assert not signature_holds(header, b"body", SECRET, 699)


@pytest.mark.parametrize(
    "header",
    [
        "", "t=1000", "v1=00", "t=1000,v1=", "t=,v1=00", "nonsense", "t=-5,v1=0", "t=1e3,v1=0", "t=٣,v1=0",
        signed("1000", b"other"), signed("1000", b"body", b"wrong"), signed("1000", b"body").replace("t=1000", "t=1001"),
        "t=1000,v1=é",
    ],
)  # fmt: skip
def test_any_other_signature_is_refused(header: str) -> None:
    assert not signature_holds(header, b"body", SECRET, 1000)


@pytest.mark.parametrize(
    ("status", "well"),
    [
        (200, True), (201, True), (302, True), (400, None), (401, None), (404, None), (409, None), (421, None), (422, None),
        (429, None), (500, False), (502, False), (503, False), (504, False),
    ],
)  # fmt: skip
def test_what_an_answer_says_of_the_shard(status: int, well: bool | None) -> None:
    assert judge(Answer(status, {"Retry-After": "1"}, b"", 0.01)) is well
