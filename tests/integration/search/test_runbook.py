"""Every command in the boxes of the runbook can be run, and the engine understands it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.search import mappings
from tests.servers import SearchServer

ROOT = Path(__file__).resolve().parents[3]
RUNBOOK = ROOT / "services" / "search" / "RUNBOOK.md"
NATIVE = "127.0.0.1:17920"


def commands(text: str) -> list[str]:
    """The lines of all boxes."""
    boxes = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [line for box in boxes for line in box.splitlines()]


def request(method: str, url: str, body: object | None = None) -> None:
    data = None if body is None else json.dumps(body).encode()
    sent = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(sent, timeout=30) as answer:
        assert answer.status == 200


@pytest.fixture(scope="module")
def engine(search_server: SearchServer) -> Iterator[str]:
    """With an index behind the alias `products`, as the commands expect."""
    name = "products-v1-20260101t000000000"
    request("PUT", f"{search_server.url}/{name}", {**mappings.load().body, "aliases": {"products": {}}})
    yield search_server.url.removeprefix("http://")
    request("DELETE", f"{search_server.url}/{name}")


def ran(command: str, engine: str) -> str:
    """curl's output. Fails for an answer that is an error."""
    words = shlex.split(command.replace(NATIVE, engine))
    assert words[0] == "curl"
    done = subprocess.run([*words, "--fail-with-body", "-S"], capture_output=True, text=True, check=False, timeout=60)
    return "" if done.returncode == 0 else f"{command}: {done.stderr} {done.stdout[:300]}"


def test_the_runbook_has_commands() -> None:
    assert len(commands(RUNBOOK.read_text("utf-8"))) > 15


@pytest.mark.parametrize("command", commands(RUNBOOK.read_text("utf-8")))
def test_a_command_of_the_runbook_is_understood(command: str, engine: str) -> None:
    assert ran(command, engine) == ""


def test_a_command_that_the_engine_refuses_is_seen(engine: str) -> None:
    assert "400" in ran(f"curl -s '{NATIVE}/_cat/indices?v&nonsense=1'", engine)
