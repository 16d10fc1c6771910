from __future__ import annotations

from uuid import UUID

import msgspec
import pytest

from services.contracts.catalog import LEFT_OUT, READABLE, change_of, product_of
from services.contracts.topics import CATALOG_PRODUCT_CHANGES, PAYMENT_EVENTS, TOPICS
from services.kit.kafka import LARGEST_REQUEST_BYTES

PRODUCT = UUID("019b7c1e-0000-7000-8000-000000000001")


def test_a_key_is_the_product_s_id_as_text() -> None:
    assert product_of(str(PRODUCT).encode()) == PRODUCT


@pytest.mark.parametrize(
    "key", [None, b"", b"12", b'{"id":"x"}', b"\xff" * 36, b"z" * 36, str(PRODUCT).replace("-", "").encode()]
)
def test_another_key_is_told(key: bytes | None) -> None:
    with pytest.raises(ValueError, match=r"no product id|badly formed"):
        product_of(key)


def test_a_change_is_read_with_its_place_in_the_log() -> None:
    change = change_of(
        b'{"before":null,"after":{"id":"x","price":7},"source":{"version":"3.6","connector":"postgresql","ts_ms":5,'
        b'"snapshot":"false","db":"catalog","schema":"public","table":"products","txId":9,"lsn":77,"xmin":null},'
        b'"transaction":null,"op":"c","ts_ms":6}'
    )
    assert change is not None
    assert (change.op, change.source.table, change.source.lsn, change.source.txId) == ("c", "products", 77, 9)
    assert change.after == {"id": "x", "price": 7}


def test_a_tombstone_is_no_change() -> None:
    assert change_of(None) is None


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b'{"op":"x","source":{"table":"products"}}', b'{"op":"c"}'])
def test_another_value_is_told(value: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        change_of(value)


def test_what_is_left_out_can_be_read() -> None:
    for table, columns in LEFT_OUT.items():
        assert set(columns) <= set(READABLE[table])


def test_of_a_compacted_topic_no_unread_change_is_dropped() -> None:
    assert CATALOG_PRODUCT_CHANGES.configuration()["cleanup.policy"] == "compact"
    assert "retention.ms" not in CATALOG_PRODUCT_CHANGES.configuration()
    assert PAYMENT_EVENTS.configuration() == {"retention.ms": str(24 * 3_600_000)}


def test_a_topic_of_dead_letters_takes_what_is_larger_than_any_record() -> None:
    parked = [topic for topic in TOPICS if topic.name.endswith("dlq")]
    assert parked
    for topic in parked:
        assert LARGEST_REQUEST_BYTES >= int(topic.configuration()["max.message.bytes"]) > 1_048_588 + 100_000


def test_topics_have_names_of_their_own() -> None:
    assert len({topic.name for topic in TOPICS}) == len(TOPICS)
