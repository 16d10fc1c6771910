from __future__ import annotations

import statistics

import msgspec
import pytest

from services.kit.switches import draw
from services.simulators.bank.behaviours import Switchboard, log_normal_seconds


def board(name: str, body: bytes) -> Switchboard:
    switches = Switchboard()
    switches.put(name, body)
    return switches


def test_draws_depend_on_seed_and_call_number_only() -> None:
    first, second = board("declines", b'{"share": 0.5, "seed": 4}'), board("declines", b'{"share": 0.5, "seed": 4}')
    assert [first.struck("declines") is None for _ in range(50)] == [
        second.struck("declines") is None for _ in range(50)
    ]


def test_draws_are_spread_evenly() -> None:
    below = sum(draw(1, "declines", number) < 0.05 for number in range(20_000))
    assert 850 <= below <= 1150


def test_the_delay_has_the_mean_that_was_asked_for() -> None:
    delays = [log_normal_seconds(100, 0.5, draw(1, "latency", number)) for number in range(20_000)]
    assert statistics.mean(delays) == pytest.approx(0.1, rel=0.03)
    assert min(delays) > 0
    assert log_normal_seconds(0, 0.5, 0.5) == 0


def test_the_token_bucket_refills_with_time_and_not_beyond_its_size() -> None:
    switches = board("rate_limit", b'{"per_second": 2}')
    assert [switches.refused(0.0) is None for _ in range(3)] == [True, True, False]
    assert switches.refused(0.5) is None
    assert [switches.refused(100.0) is None for _ in range(3)] == [True, True, False]


def test_a_receipt_outlives_the_switching_off_and_ends_with_the_next_switching_on() -> None:
    switches = board("declines", b'{"share": 1}')
    behaviour = switches.struck("declines")
    assert behaviour is not None
    behaviour.note("r-1")
    switches.delete("declines")
    assert switches.struck("declines") is None
    (receipt,) = switches.receipts()
    assert (receipt.active, receipt.hits, receipt.references) == (False, 1, ["r-1"])
    switches.put("declines", b'{"share": 1}')
    assert switches.receipts()[0].hits == 0


def test_the_first_hundred_references_are_kept() -> None:
    switches = board("declines", b'{"share": 1}')
    for number in range(150):
        behaviour = switches.struck("declines")
        assert behaviour is not None
        behaviour.note(f"r-{number}")
    receipt = switches.receipts()[0]
    assert (receipt.hits, len(receipt.references)) == (150, 100)


def test_unknown_names_and_wrong_parameters_are_errors() -> None:
    switches = Switchboard()
    with pytest.raises(KeyError):
        switches.put("no_such", b"{}")
    with pytest.raises(KeyError):
        switches.delete("no_such")
    with pytest.raises(msgspec.ValidationError):
        switches.put("declines", b'{"share": 2}')
    assert switches.receipts() == []
