"""Which service a name means, without an engine: a fake `docker` that lists no container."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.docker.runtime import DockerRuntime
from infra.runtime import RuntimeProblem

COMPOSE = """
name: scratch
x-own: &own {image: "scratch:dev", build: ., restart: "no"}
services:
  scheduler-1:
    <<: *own
    command: ["python", "server.py"]
    ports: ["127.0.0.1:24001:24001"]
  worker:
    <<: *own
    command: ["python", "server.py"]
    environment: {HTTP_PORT: "19000"}
"""


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DockerRuntime:
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text("#!/bin/sh\nexit 0\n")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", str(docker.parent), prepend=":")
    (tmp_path / "docker-compose.yml").write_text(COMPOSE)
    return DockerRuntime("dev", edges=False, root=tmp_path)


def test_a_service_whose_name_ends_with_a_number_is_found_before_it_runs(runtime: DockerRuntime) -> None:
    assert runtime.address("scheduler-1") == ("127.0.0.1", 24001)


def test_a_copy_of_a_worker_that_does_not_run_is_said_so(runtime: DockerRuntime) -> None:
    with pytest.raises(RuntimeProblem, match="worker-2 publishes no port and has not been started"):
        runtime.address("worker-2")


def test_a_name_that_the_file_does_not_have_is_named(runtime: DockerRuntime) -> None:
    with pytest.raises(RuntimeProblem, match="no service 'wörker-2'"):
        runtime.address("wörker-2")
