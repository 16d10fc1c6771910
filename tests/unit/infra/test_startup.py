"""One `up` on a host that is none: its bound, and what it takes back when it is interrupted."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from infra.native.compose import ComposeFile, Service, Stack
from infra.native.startup import Startup
from infra.native.state import Record
from infra.runtime import RuntimeProblem

COMPOSE = """
name: scratch
services:
  back: {image: "back:1", command: ["back"]}
  web: {image: "web:1", command: ["web"], depends_on: {back: {condition: service_healthy}}}
"""
BOUND = 0.2


@dataclass
class FakeHost:
    """What is launched has arrived at once; `slow` only after the bound of its `up`; `interrupted` is so within its launch."""

    file: ComposeFile
    slow: str = ""
    interrupted: str = ""
    known: dict[str, Record] = field(default_factory=dict)
    stopped: list[str] = field(default_factory=list)

    def stack(self, env: Mapping[str, str] | None = None) -> Stack:
        return self.file.resolve(env or {})

    def with_edges(self) -> bool:
        return False

    def records(self) -> dict[str, Record]:
        return self.known

    def definition(self, name: str, service: str, env: Mapping[str, str]) -> Service:
        return self.stack(env).service(service)

    def require_room(self, wanted: Sequence[tuple[str, str, Mapping[str, str]]]) -> None: ...

    def launch(self, name: str, service: str, env: Mapping[str, str]) -> Record:
        if name == self.interrupted:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
        self.known[name] = Record(name, service, len(self.known), dict(env), "")
        return self.known[name]

    def arrived(self, record: Record, timeout: float) -> bool:
        if record.name == self.slow:
            time.sleep(2 * BOUND)
        return True

    def exit_code(self, name: str) -> int | None:
        return None

    def stop_again(self, records: Sequence[Record]) -> None:
        self.stopped += [record.name for record in records]

    def forget(self, service: str) -> None: ...

    def resume(self, service: str) -> object: ...


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    path = tmp_path / "docker-compose.yml"
    path.write_text(COMPOSE)
    return FakeHost(ComposeFile(path))


@pytest.fixture
def sigint_interrupts() -> Iterator[None]:
    """Whatever the handler of this run is: one that was started in the background ignores the signal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def silent(line: str) -> None:
    del line


def test_a_bound_that_is_over_when_nothing_is_under_way_names_what_was_not_begun(host: FakeHost) -> None:
    host.slow = "back"
    with pytest.raises(RuntimeProblem, match=r"Not healthy within 0 s: web; 'make logs service=web'"):
        Startup(host, ["web"], {}, silent, BOUND).run()
    assert host.stopped == ["back"]


def test_a_bound_that_is_over_when_all_has_arrived_is_no_problem(host: FakeHost) -> None:
    host.slow = "back"
    Startup(host, ["back"], {}, silent, BOUND).run()
    assert (list(host.known), host.stopped) == (["back"], [])


@pytest.mark.usefixtures("sigint_interrupts")
@pytest.mark.parametrize("name", ["back", "web"])
def test_what_was_just_being_started_when_somebody_interrupted_is_stopped_too(host: FakeHost, name: str) -> None:
    host.interrupted = name
    with pytest.raises(KeyboardInterrupt):
        Startup(host, ["web"], {}, silent, 30.0).run()
    assert host.stopped == list(host.known)
    assert name in host.stopped


def test_a_launch_that_fails_says_so_and_what_was_started_is_stopped(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = host.launch

    def fails(name: str, service: str, env: Mapping[str, str]) -> Record:
        if name == "web":
            raise RuntimeProblem("web could not be started")
        return launch(name, service, env)

    monkeypatch.setattr(host, "launch", fails)
    with pytest.raises(RuntimeProblem, match="web could not be started"):
        Startup(host, ["web"], {}, silent, 30.0).run()
    assert host.stopped == ["back"]
