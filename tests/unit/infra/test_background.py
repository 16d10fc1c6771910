from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from infra.background import Background, Life
from infra.native import procfs
from infra.native.free_ports import free_ports, is_free
from infra.runtime import RuntimeProblem

SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
print("serving", flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def port() -> int:
    return free_ports(1)[0]


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Background]:
    page = Background("page", tmp_path / "page")
    yield page
    page.stop()


def start(page: Background, port: int, program: str = SERVER) -> tuple[Life, bool]:
    argv = (sys.executable, "-c", program, str(port))
    return page.start(argv, port=port, variable="PAGE_PORT", ready="/", root=page.folder.parent)


def test_it_is_started_once_and_found_again(page: Background, port: int) -> None:
    life, fresh = start(page, port)
    assert fresh
    assert start(page, port) == (life, False)
    assert Background("page", page.folder).life() == life


def test_it_ends_and_its_port_is_free(page: Background, port: int) -> None:
    life, _ = start(page, port)
    assert page.stop()
    assert not psutil.pid_exists(life.pid)
    assert is_free(port)
    assert not page.stop()


@pytest.mark.slow
def test_a_busy_port_is_one_sentence_that_names_the_variable(page: Background, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)), pytest.raises(RuntimeProblem, match=r"PAGE_PORT .* in \.env\.$"):
        start(page, port)


def test_a_program_that_dies_says_its_last_line(page: Background, port: int) -> None:
    with pytest.raises(RuntimeProblem, match="no such luck"):
        start(page, port, "raise SystemExit('no such luck')")
    assert page.life() is None


def test_another_process_under_the_same_pid_is_left_alone(page: Background, port: int) -> None:
    stat = procfs.read_stat(1)
    assert stat is not None
    page.folder.mkdir()
    for life in (
        Life(1, stat.start_ticks + 1, procfs.boot_id(), port),
        Life(1, stat.start_ticks, "of another boot", port),
    ):
        (page.folder / "state.json").write_bytes(msgspec.json.encode(life))
        assert page.life() is None
        assert not page.stop()


def test_a_damaged_file_is_no_process(page: Background) -> None:
    page.folder.mkdir()
    (page.folder / "state.json").write_text("{")
    assert page.life() is None
