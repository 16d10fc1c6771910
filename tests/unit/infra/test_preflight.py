from __future__ import annotations

import shutil
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from infra.native import preflight
from infra.runtime import RuntimeProblem


def test_too_little_memory_is_one_sentence_with_both_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=100 << 20))
    preflight.require_memory([100 << 20, None, 100 << 20])
    with pytest.raises(RuntimeProblem, match=r"About 256 MiB of free memory are needed and 100 MiB are available"):
        preflight.require_memory([512 << 20])


def test_too_little_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preflight.require_disk(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: SimpleNamespace(free=5 << 20))
    with pytest.raises(RuntimeProblem, match=r"1 GiB of free disk is needed .* 5 MiB are free"):
        preflight.require_disk(tmp_path)


@pytest.mark.slow
def test_a_busy_port_without_a_variable_is_said_too() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = int(holder.getsockname()[1])
        with pytest.raises(RuntimeProblem, match=rf"Port {port} of web is in use by .*; stop that process\.$"):
            preflight.require_ports([("web", port)], lambda _port: None)
