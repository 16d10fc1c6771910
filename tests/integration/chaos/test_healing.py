"""Whatever happens to the command: what it broke is healed by it, or known to the next one and healed by that."""

from __future__ import annotations

import http.client
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.native import procfs
from labs.chaos.probe import ask
from tests.integration.chaos.stack import Running, chaos, nothing_is_broken
from tests.integration.infra.stack import Scratch, row

pytestmark = [pytest.mark.integration, pytest.mark.slow]

LONG = ("--for", "10m")


@pytest.fixture(autouse=True)
def whole_afterwards(checkout: Scratch) -> Iterator[None]:
    yield
    nothing_is_broken(checkout)


def call(port: int, method: str, path: str, body: object = None) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        return connection.getresponse().read()
    finally:
        connection.close()


def heal(checkout: Scratch, *words: str) -> tuple[int, list[str]]:
    running = chaos(checkout, "--do", "heal", *words)
    code = running.end()
    return code, [f"{event['event']}: {event['text']}" for event in running.events]


def broken(checkout: Scratch, *words: str) -> Running:
    """A command that has broken something for ten minutes."""
    running = chaos(checkout, *words, *LONG)
    running.event("receipt")
    return running


def die(running: Running) -> None:
    """The command is killed, so that nothing of it can heal."""
    running.process.kill()
    assert running.end() == -signal.SIGKILL


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_is_interrupted_heals_at_once(checkout: Scratch, number: signal.Signals) -> None:
    running = broken(checkout, "--do", "kill", "--target", "web")
    running.process.send_signal(number)
    assert running.end() == 0
    assert row(checkout.runtime(), "web").state == "running"


def test_a_second_interruption_does_not_break_the_heal(checkout: Scratch) -> None:
    running = broken(checkout, "--do", "latency", "--target", "web.back")
    for _ in range(5):
        running.process.send_signal(signal.SIGINT)
    assert running.end() == 0


def test_a_reader_that_has_gone_does_not_keep_it_broken(checkout: Scratch) -> None:
    running = chaos(checkout, "--do", "kill", "--target", "web", "--for", "2s")
    running.event("receipt")
    assert running.process.stdout is not None
    running.process.stdout.close()
    assert running.process.wait(30) == 0
    assert running.process.stderr is not None
    assert running.process.stderr.read() == ""
    running.process.stderr.close()


@pytest.mark.parametrize(
    "words",
    [
        ("kill", "web"),
        ("restart", "web"),
        ("latency", "web.back"),
        ("partition", "web.back"),
        ("loss", "web.back"),
        ("clock-skew", "web"),
    ],
)
def test_what_a_killed_command_left_is_named_and_healed(checkout: Scratch, words: tuple[str, str]) -> None:
    do, target = words
    die(broken(checkout, "--do", do, "--target", target))
    listed = chaos(checkout)
    assert listed.process.stdout is not None
    scripts = json.loads(listed.process.stdout.readline())
    assert listed.end() == 0
    active = next(script["active"] for script in scripts if script["name"] == do)
    assert [(one["target"], one["kept"]) for one in active] == [(target, False)]

    other = chaos(checkout, "--do", "clock-skew", "--target", "back", "--for", "1s")
    assert f"still broken: {do} on {target}" in other.event("note")["text"]
    assert other.end() == 0

    code, lines = heal(checkout, "--target", target)
    assert code == 0
    assert lines[0].startswith(f"healed: healed: {do} on {target}")
    assert ask("127.0.0.1", checkout.ports["edge"], "back", timeout=10).ok


def test_a_small_disk_whose_command_was_killed_is_made_large_again(checkout: Scratch, may_mount: None) -> None:
    die(broken(checkout, "--do", "fill-disk", "--target", "redis"))
    code, lines = heal(checkout)
    assert code == 0, lines
    folder = (checkout.root / ".lab/projects/dev/data/redis").resolve()
    assert str(folder) not in Path("/proc/self/mounts").read_text()


def test_heal_asks_the_command_that_still_runs(checkout: Scratch) -> None:
    running = broken(checkout, "--do", "kill", "--target", "web")
    code, lines = heal(checkout)
    assert (code, lines) == (0, ["healed: healed: kill on web, by the command that broke it"])
    assert running.end() == 0


def test_a_pid_that_belongs_to_another_life_is_never_signalled(checkout: Scratch) -> None:
    die(broken(checkout, "--do", "latency", "--target", "web.back"))
    file = checkout.root / ".lab/projects/dev/chaos/latency@web.back.json"
    entry = json.loads(file.read_text())
    file.write_text(json.dumps({**entry, "pid": os.getpid()}))
    assert heal(checkout)[0] == 0


def test_the_same_twice_is_refused_and_another_kind_is_not(checkout: Scratch) -> None:
    running = broken(checkout, "--do", "latency", "--target", "web.back")
    again = chaos(checkout, "--do", "latency", "--target", "web.back")
    assert again.end() == 1
    assert "heals itself in" in again.of("problem")[0]["text"]
    assert "do=heal target=web.back" in again.of("problem")[0]["text"]
    assert chaos(checkout, "--do", "clock-skew", "--target", "web", "--for", "1s").end() == 0
    running.process.send_signal(signal.SIGINT)
    assert running.end() == 0


def test_heal_finds_what_no_command_has_broken(checkout: Scratch) -> None:
    runtime = checkout.runtime()
    runtime.pause("web")
    runtime.kill("redis")
    call(checkout.ports["toxiproxy"], "POST", "/proxies/web.back", {"enabled": False})
    call(checkout.ports["back"], "PUT", "/lab/clock", {"offset_seconds": 60})
    code, lines = heal(checkout)
    assert code == 0
    assert sorted(lines) == [
        "healed: healed: back had a wrong clock",
        "healed: healed: redis was dead",
        "healed: healed: web was frozen",
        "healed: healed: web.back was disturbed",
    ]
    assert json.loads(call(checkout.ports["back"], "GET", "/lab/clock"))["offset_seconds"] == 0
    assert heal(checkout) == (0, ["note: there was nothing to heal"])


def test_a_stack_that_went_down_meanwhile_is_not_started_again(checkout: Scratch) -> None:
    runtime = checkout.runtime()
    running = broken(checkout, "--do", "kill", "--target", "web")
    runtime.down()
    running.process.send_signal(signal.SIGTERM)
    try:
        assert running.end() == 0
        assert "went down with its stack" in running.of("healed")[0]["text"]
        assert runtime.status() == []
    finally:
        checkout.runtime(edges=True).up(["web", "toxiproxy", "redis"])


def test_no_process_of_a_lossy_link_outlives_its_command(checkout: Scratch) -> None:
    running = broken(checkout, "--do", "loss", "--target", "web.back")
    relays = [stat for stat in procfs.all_stats() if "labs.faults.lossy_link" in procfs.command_line(stat.pid)]
    die(running)
    for stat in relays:
        procfs.await_end(stat)
    assert heal(checkout)[0] == 0
