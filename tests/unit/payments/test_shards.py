from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from labs.invariants import breakers
from services.payments.settings import PaymentsSettings
from services.payments.shards import Shards, shard_of
from services.simulators.bank import domain
from services.simulators.bank.settings import BankSettings

SETTINGS: dict[str, Any] = {
    "database_url": "x", "bank_url": "http://bank", "bank_api_key": "k", "bank_webhook_secret": "s",
    "kafka_bootstrap": "k:1",
}  # fmt: skip


@given(st.text(max_size=60), st.integers(1, 100))
def test_we_the_bank_and_the_checker_agree_whose_card_it_is(source: str, shards: int) -> None:
    assert shard_of(source, shards) == domain.shard_of(source, shards) == breakers.shard_of(source, shards)
    assert 0 <= shard_of(source, shards) < shards


def test_a_cards_shard_never_changes() -> None:
    assert [shard_of(f"tok_{n}", 10) for n in range(8)] == [1, 5, 3, 4, 7, 2, 3, 7]


def test_cards_are_spread_evenly() -> None:
    counts = [0] * 10
    for number in range(10_000):
        counts[shard_of(f"tok_{number}", 10)] += 1
    assert min(counts) > 850


def test_a_bank_without_shards_has_one() -> None:
    assert Shards(("http://bank",)).of("tok_any") == 0
    with pytest.raises(ValueError, match="at least one"):
        Shards(())


def test_addresses_of_shards_are_separated_by_white_space() -> None:
    settings = PaymentsSettings(**SETTINGS, bank_shards=" http://a:1 http://b:2\n")
    assert settings.bank_shard_urls == ("http://a:1", "http://b:2")
    assert PaymentsSettings(**SETTINGS, bank_shards="").bank_shard_urls == ()


@pytest.mark.parametrize(
    "wrong", ["http://a:1,ftp://b", "a:1", "http://a:1/path", "http://a:1 b", "http://a:1http://b:2"]
)
def test_an_address_that_is_none_stops_the_start(wrong: str) -> None:
    with pytest.raises(ValidationError, match="bank_shards"):
        PaymentsSettings(**SETTINGS, bank_shards=wrong)


def test_the_banks_shard_ports_are_numbered_in_order() -> None:
    given: dict[str, Any] = {"database_url": "postgres://x", "api_key": "k" * 8}
    assert BankSettings(**given, shard_ports="18801,18802").shards == {18801: 0, 18802: 1}
    assert BankSettings(**given).shards == {}
    with pytest.raises(ValidationError, match="shard_ports"):
        BankSettings(**given, shard_ports="1,,2")
