"""Packets are lost in namespaces of ours and nowhere else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from labs.chaos.probe import ask
from labs.faults import edge, nftables
from labs.faults.loss import loss

ROOT = Path(__file__).resolve().parents[2]
OWN_NETWORK = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--net"]
UNSHARE = shutil.which("unshare") and subprocess.run([*OWN_NETWORK, "true"], check=False, capture_output=True)
needs_namespace = pytest.mark.skipif(
    not UNSHARE or UNSHARE.returncode != 0, reason="this machine gives us no network namespace of our own"
)

CONNECTIONS = 300
IN_NAMESPACE = """
import socket, sys, time
from labs.faults import lossy_link, nftables
lossy_link._raise_loopback()
share, connections = int(sys.argv[1]), int(sys.argv[2])
listener = socket.create_server(("127.0.0.1", 9000), backlog=connections)
other = socket.create_server(("127.0.0.1", 9001), backlog=connections)
nftables.drop(9000, share)
nftables.drop(9000, share)
def connect(server):
    opened = [socket.socket() for _ in range(connections)]
    for each in opened:
        each.setblocking(False)
        each.connect_ex(server.getsockname())
    return opened
kept = connect(other)
untouched = nftables.count()
kept += connect(listener)  # without waiting: a lost packet is sent again after a second and more
counted = nftables.count()
nftables.clear()
print(untouched.seen, counted.seen, counted.dropped, nftables.count().seen)
nftables.clear()
"""


def in_namespace(share: int) -> list[int]:
    argv = [*OWN_NETWORK, sys.executable, "-c", IN_NAMESPACE, str(share), str(CONNECTIONS)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


@needs_namespace
def test_the_rule_drops_its_share_of_its_port_and_nothing_else() -> None:
    other, seen, dropped, after = in_namespace(200)
    assert (other, after) == (0, 0)
    assert seen >= CONNECTIONS
    assert 0.1 < dropped / seen < 0.3


@needs_namespace
def test_the_rule_at_zero_intensity_drops_nothing() -> None:
    _, seen, dropped, _ = in_namespace(0)
    assert seen >= 3 * CONNECTIONS  # SYN, SYN-ACK, ACK
    assert dropped == 0


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"#" * 300_000
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return


@contextmanager
def link(per_thousand: int) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A relay in front of a page, and its port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    argv = [sys.executable, "-m", "labs.faults.lossy_link", f"127.0.0.1:{server.server_address[1]}", str(per_thousand)]
    with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as relay:
        try:
            assert relay.stdout is not None
            yield relay, json.loads(relay.stdout.readline())["port"]
        finally:
            assert relay.stdin is not None
            relay.stdin.close()
            relay.wait(20)
            server.shutdown()
            thread.join(20)
            server.server_close()


def counters(relay: subprocess.Popen[str]) -> dict[str, int]:
    assert relay.stdin is not None
    assert relay.stdout is not None
    relay.stdin.write("count\n")
    relay.stdin.flush()
    answer: dict[str, int] = json.loads(relay.stdout.readline())
    return answer


@needs_namespace
def test_what_a_lossy_link_carries_arrives_whole_and_tcp_had_to_send_again() -> None:
    with link(50) as (relay, port):
        # Few and big packets, and a lost acknowledgement costs nothing: it may take some pages until data is lost.
        for _ in range(200):
            assert ask("127.0.0.1", port, "page", timeout=30).received > 300_000
            counted = counters(relay)
            if counted["retransmitted"] > 0:
                break
    assert counted["dropped"] > 0
    assert counted["retransmitted"] > 0
    assert relay.returncode == 0


@needs_namespace
def test_a_server_that_is_gone_closes_the_connection() -> None:
    with link(0) as (_, port):
        assert ask("127.0.0.1", port, "page").ok
    with pytest.raises(OSError, match="refused"):
        raise OSError(ask("127.0.0.1", port, "page").error)


def test_a_machine_without_namespaces_is_told_why() -> None:
    program = (
        "import sys; from labs.faults import lossy_link as l\n"
        "l._NEW_NETWORK = l._NEW_USER = 0x1\n"  # no such namespace: the kernel refuses, as one without rights does
        "sys.exit(l.main(['127.0.0.1:1', '10']))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "gives us no network namespace of our own" in json.loads(done.stdout)["problem"]


@pytest.mark.parametrize("percent", [-1, 91])
def test_a_loss_outside_its_range_is_refused(percent: float) -> None:
    with pytest.raises(ValueError, match="0 to 90"):
        loss(edge("sut.bank"), percent=percent)


@needs_namespace
def test_beside_a_proxy_the_program_is_only_a_text() -> None:
    text = Path(nftables.__file__).read_text()
    argv = [*OWN_NETWORK, sys.executable, "-I", "-c", text]
    done = subprocess.run([*argv, "9000", "100"], input="count\n", capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["{}", '{"seen": 0, "dropped": 0}']
    assert (done.returncode, done.stderr) == (0, "")
    assert subprocess.run([*argv, "clear"], capture_output=True, text=True, check=False).stdout == "{}\n"
