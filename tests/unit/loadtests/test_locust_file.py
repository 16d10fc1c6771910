"""The Locust file as a process: importing it here would patch this process for gevent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from infra.native.free_ports import free_ports

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]


class Api:
    """`POST` answers 202, the third `GET` of a payment says captured; `hang` makes every call wait."""

    def __init__(self) -> None:
        self.hang = threading.Event()
        self.release = threading.Event()
        self.keys: list[str] = []
        self.budgets: list[str | None] = []
        self.polls: dict[str, int] = {}


@contextmanager
def served(api: Api) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self, status: int, state: str, payment: str) -> None:
            if api.hang.is_set():
                api.release.wait(30)
            body = json.dumps({"id": payment, "status": state}).encode()
            try:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                self.close_connection = True

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            api.keys.append(self.headers["Idempotency-Key"])
            if self.path == "/v1/checkouts":
                api.budgets.append(self.headers["Request-Timeout-Ms"])
                self._answer(201, "paid", "chk_" + request["reference"])
            else:
                self._answer(202, "processing", "pay_" + request["reference"])

        def do_GET(self) -> None:
            payment = self.path.rsplit("/", 1)[1]
            api.polls[payment] = api.polls.get(payment, 0) + 1
            self._answer(200, "captured" if api.polls[payment] > 2 else "processing", payment)

        def log_message(self, format: str, *args: Any) -> None:
            del format, args

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            del request, client_address

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        api.release.set()
        server.shutdown()
        thread.join()
        server.server_close()


def launch(
    host: str,
    folder: Path,
    *more: str,
    script: str = "payments.py",
    page: tuple[str, ...] = ("--headless", "--only-summary"),
) -> subprocess.Popen[bytes]:
    argv = [
        *("setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "locust", "-f", f"loadtests/{script}"),
        *(*page, "--host", host, "--seed", "5"),
        *("--history", str(folder / "h.jsonl"), "--live", str(folder / "l.jsonl"), *more),
    ]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(argv, cwd=ROOT, stdout=log, stderr=log, env=os.environ | {"PYTHONWARNINGS": ""})


def history(folder: Path) -> list[dict[str, Any]]:
    path = folder / "h.jsonl"
    whole = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in whole]


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, bound: float = 30.0) -> None:
    deadline = time.monotonic() + bound
    while not condition():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)


def test_the_load_runs_its_schedule_records_everything_and_exits_0(tmp_path: Path) -> None:
    api = Api()
    with served(api) as host:
        process = launch(host, tmp_path, "--rate", "40", "--seconds", "2")
        assert process.wait(60) == 0, (tmp_path / "log").read_text()
    records = history(tmp_path)
    assert len(records) == len(api.keys) == len({record["key"] for record in records}) > 40
    assert {record["outcome"] for record in records} == {"ok"}
    assert all(record["result"] == {"payment": "pay_" + record["key"], "state": "captured"} for record in records)
    assert all(record["intended_at"] <= record["sent_at"] <= record["done_at"] for record in records)
    live = [json.loads(line) for line in (tmp_path / "l.jsonl").read_text().splitlines()]
    assert sum(line["done"] for line in live) == sum(line["sent"] for line in live) == len(records)


def test_sigterm_stops_the_intake_lets_what_is_in_flight_end_and_exits_0(tmp_path: Path) -> None:
    api = Api()
    with served(api) as host:
        process = launch(host, tmp_path, "--rate", "40", "--seconds", "600", "--run", "fixed")
        wait_for(lambda: len(api.keys) > 20, process, tmp_path / "log")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, (tmp_path / "log").read_text()
    records = history(tmp_path)
    assert (
        sorted(record["key"] for record in records)
        == sorted(api.keys)
        == [f"fixed-{n:06d}" for n in range(len(records))]
    )
    assert {record["outcome"] for record in records} == {"ok"}


@pytest.mark.parametrize(("client", "tells_budget"), [("naive", False), ("deadline", True)])
def test_a_checkout_is_loaded_by_either_client(tmp_path: Path, client: str, tells_budget: bool) -> None:
    api = Api()
    with served(api) as host:
        options = ("--rate", "40", "--seconds", "1", "--client", client, "--budget-ms", "700")
        process = launch(host, tmp_path, *options, script="checkout.py")
        assert process.wait(60) == 0, (tmp_path / "log").read_text()
    records = history(tmp_path)
    assert len(records) == len(api.keys) > 20
    assert {(record["kind"], record["outcome"]) for record in records} == {("checkout", "ok")}
    if tells_budget:
        # What is left of it: a generator that was interrupted in between says less.
        assert all(600 <= int(each or 0) <= 700 for each in api.budgets)
    else:
        assert set(api.budgets) == {None}


def test_what_does_not_end_is_unknown_and_what_exceeds_the_cap_is_a_failure_of_the_generator(tmp_path: Path) -> None:
    api = Api()
    api.hang.set()
    with served(api) as host:
        process = launch(host, tmp_path, "--rate", "40", "--seconds", "600", "--max-in-flight", "10")
        wait_for(lambda: len(history(tmp_path)) > 20, process, tmp_path / "log")
        refused = history(tmp_path)
        assert {(record["outcome"], record["error"]) for record in refused} == {("fail", "generator in-flight cap")}
        assert all(record["sent_at"] is None and record["done_at"] is None for record in refused)
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0, (tmp_path / "log").read_text()
    unknown = [record for record in history(tmp_path) if record["outcome"] == "unknown"]
    assert len(unknown) == 10
    assert all(record["sent_at"] is not None for record in unknown)


def test_a_generator_killed_hard_has_written_all_but_the_last_second(tmp_path: Path) -> None:
    api = Api()
    with served(api) as host:
        process = launch(host, tmp_path, "--rate", "40", "--seconds", "600")
        wait_for(lambda: len(history(tmp_path)) > 30, process, tmp_path / "log")
        process.kill()
        process.wait()
    assert all(record["outcome"] == "ok" for record in history(tmp_path))


def test_the_end_of_a_load_is_told_in_percentiles_from_the_intended_time(tmp_path: Path) -> None:
    api = Api()
    with served(api) as host:
        process = launch(host, tmp_path, "--rate", "40", "--seconds", "1")
        assert process.wait(60) == 0, (tmp_path / "log").read_text()
    log = (tmp_path / "log").read_text()
    assert f"{len(history(tmp_path))} payments: ok {len(history(tmp_path))}, fail 0, unknown 0" in log
    assert "latency from the intended send time: p50" in log
    assert "the generator sent late by" in log


def ask(url: str, body: bytes | None = None) -> bytes:
    """b"" while nobody listens there."""
    try:
        with urllib.request.urlopen(url, body, timeout=10) as answer:
            content: bytes = answer.read()
            return content
    except (urllib.error.URLError, ConnectionError):
        return b""


def test_with_its_web_page_the_load_waits_for_the_button_and_obeys_the_fields(tmp_path: Path) -> None:
    api = Api()
    (port,) = free_ports(1)
    page = f"http://127.0.0.1:{port}"
    with served(api) as host:
        where = ("--web-host", "127.0.0.1", "--web-port", str(port))
        process = launch(host, tmp_path, "--rate", "1", "--seconds", "600", page=where)
        try:
            wait_for(lambda: b"locust" in ask(page).lower(), process, tmp_path / "log", bound=60)
            assert api.keys == []
            ask(f"{page}/swarm", urlencode({"host": host, "rate": "40", "seconds": "600", "user_count": "1"}).encode())
            wait_for(lambda: len(api.keys) > 20, process, tmp_path / "log")
            assert b"payment, from the intended time" in ask(f"{page}/stats/requests")
        finally:
            process.terminate()
            process.wait(40)


@pytest.mark.parametrize("wrong", [("--rate", "0"), ("--seconds", "-1"), ("--max-in-flight", "100000")])
def test_a_wrong_option_is_refused_in_one_sentence(tmp_path: Path, wrong: tuple[str, str]) -> None:
    process = launch("http://127.0.0.1:1", tmp_path, *wrong)
    assert process.wait(30) == 1
    log = (tmp_path / "log").read_text()
    assert wrong[0] in log
    assert "Traceback" not in log


def test_a_load_without_its_subscribers_does_not_begin(tmp_path: Path) -> None:
    api = Api()
    with served(api) as host:
        options = ("--rate", "40", "--seconds", "600", "--endpoints", "3", "--receivers-url", "http://receivers")
        process = launch(host, tmp_path, *options, script="webhooks.py")
        assert process.wait(30) == 1, (tmp_path / "log").read_text()
    log = (tmp_path / "log").read_text()
    assert "The endpoints could not be listed: HTTP 200." in log
    assert "Traceback" not in log
    assert api.keys == []


@pytest.mark.parametrize(
    "wrong",
    [("--types", "0"), ("--skew", "-1"), ("--endpoints", "5001"), ("--feed-share", "2"), ("--endpoints", "1")],
    ids=" ".join,
)
def test_a_wrong_option_of_a_system_is_refused_in_one_sentence_too(tmp_path: Path, wrong: tuple[str, str]) -> None:
    process = launch("http://127.0.0.1:1", tmp_path, *wrong, script="webhooks.py")
    assert process.wait(60) == 1
    log = (tmp_path / "log").read_text()
    assert wrong[0] in log
    assert "Traceback" not in log
