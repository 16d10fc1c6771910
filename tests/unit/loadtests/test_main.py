from __future__ import annotations

import argparse

import pytest

from loadtests.__main__ import HERE, SYSTEMS, System, command


def argv(**changes: object) -> list[str]:
    options = argparse.Namespace(**{"rate": 200.0, "minutes": 2.0, "seed": 7, "headless": 1} | changes)
    return command(SYSTEMS["payments"], ("127.0.0.1", 28000), "28089", options)


def value_of(words: list[str], option: str) -> str:
    return words[words.index(option) + 1]


def test_rate_and_minutes_become_the_schedule_of_locust() -> None:
    words = argv()
    assert value_of(words, "--host") == "http://127.0.0.1:28000"
    assert (value_of(words, "--rate"), value_of(words, "--seconds"), value_of(words, "--seed")) == ("200", "120", "7")
    assert "--headless" in words


def test_the_web_page_listens_on_loopback_only() -> None:
    words = argv(headless=0)
    assert (value_of(words, "--web-host"), value_of(words, "--web-port")) == ("127.0.0.1", "28089")
    assert "--headless" not in words


@pytest.mark.parametrize("system", SYSTEMS.values(), ids=SYSTEMS.keys())
def test_every_system_has_its_locust_file(system: System) -> None:
    assert (HERE / system.script).is_file()
