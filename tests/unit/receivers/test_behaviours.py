from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kit.switches import draw
from services.simulators.receivers.behaviours import KINDS, Flapping, Parameters, Switchboard
from services.simulators.receivers.hooks import event_of, plain
from services.simulators.receivers.recorder import Forgetful, Line
from services.simulators.receivers.signature import Verifier, secret_of


def switchboard(**behaviours: bytes) -> Switchboard:
    switches = Switchboard()
    for name, body in behaviours.items():
        switches.put(name, body)
    return switches


def struck(switches: Switchboard, receiver: int, now: float = 0.0) -> str | None:
    found = switches.of(receiver, now)
    return found.name if found else None


def test_nobody_is_struck_at_the_start() -> None:
    assert all(struck(Switchboard(), number) is None for number in range(1, 100))


def test_a_range_strikes_its_receivers_and_no_others() -> None:
    switches = switchboard(dead=b'{"first": 3, "count": 2}')
    assert [number for number in range(1, 10) if struck(switches, number)] == [3, 4]


def test_a_count_of_zero_strikes_nobody() -> None:
    assert struck(switchboard(dead=b'{"first": 1, "count": 0}'), 1) is None


def test_without_range_or_share_everybody_is_struck() -> None:
    assert all(struck(switchboard(gone=b""), number) == "gone" for number in range(1, 50))


def test_a_share_strikes_about_so_many_and_the_same_ones_for_the_same_seed() -> None:
    first = [number for number in range(1, 1001) if struck(switchboard(dead=b'{"share": 0.2, "seed": 7}'), number)]
    again = [number for number in range(1, 1001) if struck(switchboard(dead=b'{"share": 0.2, "seed": 7}'), number)]
    other = [number for number in range(1, 1001) if struck(switchboard(dead=b'{"share": 0.2, "seed": 8}'), number)]
    assert first == again != other
    assert 150 < len(first) < 250


def test_where_several_strike_the_first_of_the_list_wins() -> None:
    switches = switchboard(failing=b"{}", hang=b"{}")
    assert struck(switches, 1) == "hang"
    switches.delete("hang")
    assert struck(switches, 1) == "failing"


@given(st.floats(0, 10_000), st.floats(0.1, 100), st.floats(0, 1))
def test_a_flapping_receiver_is_down_for_its_share_of_each_period(start: float, period: float, share: float) -> None:
    body = msgspec.json.encode({"period_seconds": period, "down_share": share})
    switches = switchboard(flapping=body)
    moments = [start + period * step / 200 for step in range(200)]
    down = sum(struck(switches, 5, moment) is not None for moment in moments)
    assert abs(down / 200 - share) < 0.02


def test_flapping_receivers_are_out_of_step() -> None:
    switches = switchboard(flapping=b"{}")
    assert len({struck(switches, number) for number in range(1, 20)}) == 2


def test_every_kind_can_be_switched_on_with_defaults_and_off_again() -> None:
    for name in KINDS:
        switches = switchboard(**{name: b""})
        switches.delete(name)
        (receipt,) = switches.receipts()
        assert (receipt.name, receipt.active) == (name, False)


def test_a_share_of_nothing_and_of_all() -> None:
    assert not Parameters(share=0.0).strikes("dead", 1)
    assert Parameters(share=1.0).strikes("dead", 1)
    with pytest.raises(ValueError, match="either"):
        Parameters(first=1, count=1, share=0.5)


@given(st.integers(), st.text(max_size=10), st.integers())
def test_a_draw_is_in_the_unit_interval_and_repeats(seed: int, name: str, number: int) -> None:
    assert 0 <= draw(seed, name, number) < 1
    assert draw(seed, name, number) == draw(seed, name, number)


@given(st.binary())
def test_no_body_whatever_it_holds_makes_the_receiver_fail(body: bytes) -> None:
    assert event_of(body) is None or isinstance(event_of(body), str)


@given(
    st.dictionaries(st.sampled_from([b"webhook-id", b"webhook-timestamp", b"webhook-signature"]), st.binary()),
    st.binary(),
)
def test_no_header_whatever_it_holds_makes_the_check_fail(headers: dict[bytes, bytes], body: bytes) -> None:
    assert not Verifier("master", 3).genuine(1, headers, body, 1_700_000_000.0)


def test_each_receiver_has_a_secret_of_its_own() -> None:
    assert len({secret_of(number, "master") for number in range(100)}) == 100
    assert secret_of(1, "master").startswith("whsec_")


def test_flapping_defaults_to_half_of_ten_seconds() -> None:
    assert (Flapping().period_seconds, Flapping().down_share) == (10.0, 0.5)


def test_an_answer_without_a_body_says_so() -> None:
    assert plain(410) == b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"
    assert plain(413, close=True).endswith(b"Connection: close\r\n\r\n")


def test_without_a_record_everything_is_answered_at_once() -> None:
    told: list[bool] = []
    line = Line(1, None, None, datetime(2026, 1, 1, tzinfo=UTC), 200, False, None)
    assert Forgetful().record(line, told.append)
    assert told == [True]
