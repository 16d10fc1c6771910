"""Each script on a real stack without Docker: what it proves, and that all is as before."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from labs.chaos.probe import Trips, ask
from tests.integration.chaos.stack import Running, chaos, nothing_is_broken
from tests.integration.infra.stack import Scratch, row

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(autouse=True)
def whole_afterwards(checkout: Scratch) -> Iterator[None]:
    yield
    nothing_is_broken(checkout)


def over_the_link(checkout: Scratch) -> Trips:
    return ask("127.0.0.1", checkout.ports["edge"], "back", timeout=10)


def proven(running: Running) -> list[dict[str, Any]]:
    return [event for event in running.of("receipt") if event["proven"]]


def test_kill_shows_who_died_and_starts_a_successor(checkout: Scratch) -> None:
    before = checkout.runtime().identity("web")
    assert before is not None
    running = chaos(checkout, "--do", "kill", "--target", "web", "--for", "2s")
    receipt = running.event("receipt")
    assert (receipt["proven"], receipt["facts"]["pid"]) == (True, before.pid)
    assert row(checkout.runtime(), "web").state == "exited"
    assert running.end() == 0
    assert [event["event"] for event in running.events] == ["started", "receipt", "healed"]
    after = checkout.runtime().identity("web")
    assert after is not None
    assert after.pid != before.pid


def test_pause_freezes_and_thaws_the_same_process(checkout: Scratch) -> None:
    before = checkout.runtime().identity("back")
    running = chaos(checkout, "--do", "pause", "--target", "back", "--for", "4s")
    receipt = running.event("receipt")
    assert receipt["facts"]["answered_while_paused"] is False
    assert running.end() == 0
    assert checkout.runtime().identity("back") == before


def test_restart_tells_how_long_the_drain_took(checkout: Scratch) -> None:
    running = chaos(checkout, "--do", "restart", "--target", "web")
    assert running.end() == 0
    assert "after SIGTERM" in running.of("receipt")[0]["text"]
    assert row(checkout.runtime(), "web").state == "running"


def test_latency_is_seen_in_a_round_trip_and_gone_afterwards(checkout: Scratch) -> None:
    running = chaos(checkout, "--do", "latency", "--target", "web.back", "--ms", "1500", "--for", "1s")
    assert running.event("receipt")["facts"]["now"]["slowest"] >= 1.5
    assert running.end() == 0
    assert running.of("receipt")[-1]["facts"]["connections"] >= 1
    assert over_the_link(checkout).slowest < 1.5


def test_a_partition_swallows_and_heals(checkout: Scratch) -> None:
    running = chaos(checkout, "--do", "partition", "--target", "web.back", "--for", "1s")
    assert "no answer within 2 s now" in running.event("receipt")["text"]
    assert running.end() == 0
    assert proven(running)
    assert over_the_link(checkout).ok


def test_a_reset_is_told_from_silence(checkout: Scratch) -> None:
    running = chaos(checkout, "--do", "reset", "--target", "web.back", "--for", "1s")
    assert running.end() == 0
    assert "reset by peer" in proven(running)[0]["text"]
    assert over_the_link(checkout).ok


def test_a_narrow_link_carries_no_more_than_was_asked(checkout: Scratch) -> None:
    running = chaos(checkout, "--do", "bandwidth", "--target", "web.back", "--kbps", "160", "--for", "1s")
    now = running.event("receipt")["facts"]["now"]
    assert now["total"] >= 1.0  # 40 kB at 20 kB/s, the first piece at once
    assert running.end() == 0
    assert proven(running)
    assert over_the_link(checkout).total < 1.0


def test_lost_packets_are_counted_and_the_link_leads_to_its_server_again(checkout: Scratch) -> None:
    running = chaos(checkout, "--do", "loss", "--target", "web.back", "--percent", "30", "--for", "1s")
    assert running.end() == 0
    counted = running.of("receipt")[-1]["facts"]
    assert 0 < counted["dropped"] < counted["packets"]
    trips = ask("127.0.0.1", checkout.ports["edge"], "back", count=20)
    assert trips.ok


def test_a_clock_is_wrong_for_a_while(checkout: Scratch) -> None:
    running = chaos(checkout, "--do", "clock-skew", "--target", "web", "--offset=-2h", "--for", "1s")
    assert running.end() == 0
    assert proven(running)[0]["facts"]["ahead_seconds"] == pytest.approx(-7200, abs=5)


def redis(checkout: Scratch, *words: str) -> str:
    with socket.create_connection(("127.0.0.1", checkout.ports["redis"]), timeout=5) as connection:
        connection.sendall((" ".join(words) + "\r\n").encode())
        return connection.recv(4096).decode().strip()


def test_a_full_disk_refuses_writes_and_keeps_what_was_written(checkout: Scratch, may_mount: None) -> None:
    assert redis(checkout, "SET", "before", "1") == "+OK"
    running = chaos(checkout, "--do", "fill-disk", "--target", "redis", "--for", "5s")
    receipt = running.event("receipt")
    assert receipt["facts"]["free_bytes"] == 0
    value = "x" * 8000
    deadline = time.monotonic() + 20
    answer = ""
    while not answer.startswith("-MISCONF"):  # its own buffer and the rest of a block take the first ones
        assert time.monotonic() < deadline, answer
        answer = redis(checkout, "SET", "during", value)
    assert redis(checkout, "GET", "before").endswith("1")
    assert running.end() == 0
    assert redis(checkout, "GET", "before").endswith("1")
    assert redis(checkout, "SET", "after", "1") == "+OK"
