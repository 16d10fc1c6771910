"""Ports are given to one process at a time."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from infra.native import free_ports as module
from infra.native.free_ports import free_ports
from tests.servers import ROOT

TAKE = "from infra.native.free_ports import free_ports; import sys; print(*free_ports(int(sys.argv[1])), flush=True); input()"


def taker(count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", TAKE, str(count)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_no_port_is_given_to_two_processes_that_run_at_once() -> None:
    mine = free_ports(100)
    others = [taker(150) for _ in range(3)]
    try:
        given = [[int(word) for word in other.stdout.readline().split()] for other in others if other.stdout]
        every = [*mine, *(port for ports in given for port in ports)]
        assert len(every) == 550
        assert len(set(every)) == len(every)
    finally:
        for other in others:
            other.communicate("\n", timeout=30)


@pytest.mark.slow
def test_the_ports_of_a_process_that_ended_are_free_again() -> None:
    for _ in range(15):
        other = taker(900)
        out, _ = other.communicate("\n", timeout=30)
        assert len(set(out.split())) == 900


def test_a_port_somebody_listens_on_is_not_given_out() -> None:
    (port,) = free_ports(1)
    with socket.create_server(("127.0.0.1", port)):
        assert not module.is_free(port)
    assert module.is_free(port)


def test_ports_can_be_asked_for_below_a_bound() -> None:
    assert all(module.LOWEST <= port < module.LOWEST + 4_000 for port in free_ports(20, below=module.LOWEST + 4_000))


def test_a_port_of_ones_own_choice_is_kept_unless_somebody_listens_there() -> None:
    (port,) = free_ports(1)
    assert module.reserve(port)
    with socket.create_server(("127.0.0.1", port)):
        assert not module.reserve(port)


def test_a_port_that_another_process_keeps_cannot_be_reserved() -> None:
    other = taker(1)
    try:
        assert other.stdout is not None
        assert not module.reserve(int(other.stdout.readline()))
    finally:
        other.communicate("\n", timeout=30)


def test_the_oldest_reservations_are_given_back() -> None:
    free_ports(module.KEPT + 50)
    assert len(module._kept) == module.KEPT
