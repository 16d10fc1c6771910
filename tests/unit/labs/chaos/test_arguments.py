from __future__ import annotations

import pytest

from infra.runtime import RuntimeProblem
from labs.chaos.arguments import Option, duration, nearest, options_of, told

MS = Option("ms", "milliseconds", 200, 1, 60_000, "longer")
SHARE = Option("percent", "percent", 10, 0.1, 90, "of the packets", whole=False)
OFFSET = Option("offset", "seconds", 3600, -2_678_400, 2_678_400, "ahead", signed_duration=True, whole=False)


@pytest.mark.parametrize(
    ("text", "seconds"), [("20s", 20), ("2m", 120), ("1h", 3600), ("20", 20), ("1.5s", 1.5), (" 5s ", 5)]
)
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "0.5s", "61m", "1d", "+5s", "-5s", "1e3", "5 s", "20s20s", "٢٠s", "inf"])
def test_a_duration_outside_one_second_to_one_hour_is_refused(text: str) -> None:
    with pytest.raises(RuntimeProblem, match="from 1s to 1h"):
        duration(text)


@pytest.mark.parametrize(("text", "value"), [("1h", 3600), ("-90s", -90), ("+2m", 120), ("-1d", -86_400), ("0", 0)])
def test_an_offset_goes_either_way(text: str, value: float) -> None:
    assert OFFSET.parse(text) == value


@pytest.mark.parametrize(
    ("option", "text"),
    [(MS, "0"), (MS, "60001"), (MS, "1.5"), (MS, "-1"), (MS, "nan"), (SHARE, "0"), (SHARE, "91"), (OFFSET, "32d")],
)
def test_a_number_outside_its_bounds_is_refused_with_them(option: Option, text: str) -> None:
    with pytest.raises(RuntimeProblem) as caught:
        option.parse(text)
    assert option.allowed() in str(caught.value)


def test_what_is_not_given_has_its_default() -> None:
    assert options_of((MS, SHARE), {"ms": "5"}, "x") == {"ms": 5, "percent": 10}


def test_an_option_of_another_script_is_refused() -> None:
    with pytest.raises(RuntimeProblem, match="do=kill takes ms= beside target= and for=, not kbps="):
        options_of((MS,), {"kbps": "5"}, "kill")


def test_the_nearest_name_is_suggested() -> None:
    assert nearest("service", "web", ["web", "back"]) == "web"
    with pytest.raises(RuntimeProblem, match=r"Did you mean 'payments-api'\? There are: payments-api, redis\."):
        nearest("service", "paymentsapi", ["payments-api", "redis"])
    with pytest.raises(RuntimeProblem) as caught:
        nearest("service", "xyz", [])
    assert str(caught.value) == "There is no service 'xyz'. There are: none."


@pytest.mark.parametrize(
    ("seconds", "text"), [(20, "20 s"), (120, "2 min"), (3600, "1 h"), (90, "90 s"), (1.5, "1.5 s")]
)
def test_a_duration_is_told_in_its_largest_whole_unit(seconds: float, text: str) -> None:
    assert told(seconds) == text
