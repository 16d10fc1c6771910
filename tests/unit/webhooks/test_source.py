"""Records of payments' topic that are no events of ours."""

from __future__ import annotations

import msgspec
import pytest
from aiokafka import ConsumerRecord

from services.contracts.payments import PaymentEvent
from services.kit.consumer import Record
from services.patterns.dlq import Unprocessable
from services.webhooks.source import read

HEADERS = (("ce_id", b"evt_1"), ("ce_type", b"payments.payment.captured"))
GOOD = PaymentEvent("pay_1", "mer_1", "order-1", "tok_1", "captured", 1000, "EUR", 1000, 0, 1)


def record(value: bytes) -> Record:
    return ConsumerRecord("payments.payment.v1", 0, 0, 0, 0, b"pay_1", value, None, 0, 0, HEADERS)


def test_an_event_is_read() -> None:
    assert read(record(msgspec.json.encode(GOOD))).merchant == "mer_1"


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b'{"x":' + b"[" * 100_000, id="nested without end"),
        pytest.param(msgspec.json.encode(msgspec.structs.replace(GOOD, merchant_id="mer\x00")), id="a NUL"),
    ],
)
def test_what_would_stop_the_source_is_unprocessable(value: bytes) -> None:
    with pytest.raises(Unprocessable) as refused:
        read(record(value))
    assert refused.value.reason == "malformed_body"
