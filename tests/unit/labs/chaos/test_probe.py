"""A question to a server, and what each kind of fault makes of it. Fakes speak the first bytes of the real protocols."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from infra.runtime import Edge
from labs.chaos import evidence
from labs.chaos.probe import Trips, ask

EDGE = Edge("web.back", "web", "back", "", "")
FAST = Trips(1, 1, 0.002, 0.002, 40_000, "")
SLOW = Trips(1, 1, 0.302, 0.302, 40_000, "")
SILENT = Trips(0, 1, 2.0, 2.0, 0, "no answer within 2 s")
RESET = Trips(0, 1, 0.001, 0.001, 0, "'Connection reset by peer'")
THIN = Trips(1, 1, 2.0, 2.0, 40_000, "")


@contextmanager
def serving(answer: Callable[[socket.socket, bytes], None]) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    answer(connection, connection.recv(4096))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


@pytest.mark.parametrize(
    ("server", "asked"),
    [("postgres", b"\x00\x00\x00\x08\x04\xd2\x16\x2f"), ("redis", b"PING\r\n"), ("bank", b"GET /metrics HTTP/1.1\r\n")],
)
def test_each_server_is_asked_in_its_own_language(server: str, asked: bytes) -> None:
    heard = []

    def answer(connection: socket.socket, text: bytes) -> None:
        heard.append(text)
        connection.sendall(b"x")

    with serving(answer) as port:
        assert ask("127.0.0.1", port, server).ok
    assert heard[0].startswith(asked)


def test_kafka_is_asked_for_its_versions_with_a_length_that_fits() -> None:
    heard = []

    def answer(connection: socket.socket, text: bytes) -> None:
        heard.append(text)
        connection.sendall(b"x")

    with serving(answer) as port:
        assert ask("127.0.0.1", port, "kafka").ok
    assert struct.unpack("!I", heard[0][:4])[0] == len(heard[0]) - 4


def test_silence_refusal_and_an_empty_answer_are_told_apart() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        silent = ask("127.0.0.1", mute.getsockname()[1], "redis", timeout=0.1)
        port = mute.getsockname()[1]
    assert silent.error == "no answer within 0.1 s"
    assert "refused" in ask("127.0.0.1", port, "redis").error
    with serving(lambda connection, text: None) as closing:
        assert "closed without an answer" in ask("127.0.0.1", closing, "redis").error


@pytest.mark.parametrize(
    ("look", "before", "now", "proven"),
    [
        (evidence.slower_by(0.3), FAST, SLOW, True),
        (evidence.slower_by(0.3), FAST, FAST, False),
        (evidence.slower_by(0.3), SLOW, SLOW, False),
        (evidence.slower_by(0.3), FAST, SILENT, False),
        (evidence.silent(), FAST, SILENT, True),
        (evidence.silent(), SILENT, SILENT, False),
        (evidence.silent(), FAST, RESET, False),
        (evidence.refused(), FAST, RESET, True),
        (evidence.refused(), RESET, RESET, False),
        (evidence.refused(), FAST, SILENT, False),
        (evidence.narrow(20_000), FAST, THIN, True),
        (evidence.narrow(20_000), THIN, THIN, False),
        (evidence.narrow(20_000), FAST, FAST, False),
        (evidence.narrow(20_000), FAST, SILENT, True),
        (evidence.many(), FAST, SLOW, False),
    ],
)
def test_only_the_difference_that_the_fault_makes_proves_it(
    look: evidence.Look, before: Trips, now: Trips, proven: bool
) -> None:
    assert evidence.compared(EDGE, look, before, now).proven is proven


def test_before_and_now_stand_in_one_sentence() -> None:
    summary = evidence.compared(EDGE, evidence.silent(), FAST, SILENT).summary
    assert summary == "a round trip over web.back took 2 ms before and got no answer within 2 s now"
