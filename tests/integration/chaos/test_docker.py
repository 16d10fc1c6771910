"""The scripts that act otherwise on containers: links inside Toxiproxy's network, a volume of the engine, a network of one's own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.docker import engine
from infra.docker.runtime import DockerRuntime
from infra.runtime import RuntimeProblem
from tests.hardened import hardened
from tests.integration.chaos.stack import COMPOSE, SERVER, chaos
from tests.integration.infra.stack import Scratch, free_low_ports

IMAGE = "backend-lab:dev"
NEEDED = (IMAGE, "ghcr.io/shopify/toxiproxy:2.12.0", "redis:8.0")
DOCKERFILE = f"FROM {IMAGE}\nCOPY server.py ./\n"


def unavailable() -> str:
    """Why these tests cannot run here."""
    try:
        engine.answers()
    except RuntimeProblem as problem:
        return str(problem)
    missing = [image for image in NEEDED if not engine.has_image(image)]
    return f"not here: {', '.join(missing)}; LAB_RUNTIME=docker make up makes them" if missing else ""


WHY_NOT = unavailable()
pytestmark = [
    pytest.mark.integration,
    pytest.mark.docker,
    pytest.mark.slow,
    pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT),
]


@pytest.fixture(scope="module")
def containers() -> Iterator[Scratch]:
    """The stack of the other tests in containers, with its edges."""
    root = Path(tempfile.mkdtemp(prefix="lab-chaos-docker-"))
    ports = free_low_ports(["web", "back", "edge", "toxiproxy", "redis"])
    image = f"lab-scratch:{root.name}".lower()
    compose = hardened((COMPOSE % ports).replace("scratch:dev", image))
    (root / "docker-compose.yml").write_text(compose)
    (root / "Dockerfile").write_text(DOCKERFILE)
    (root / "server.py").write_text(SERVER.replace('("127.0.0.1",', '("0.0.0.0",'))
    runtime = DockerRuntime("dev", edges=True, root=root)
    try:
        runtime.up(["web", "toxiproxy", "redis"])
        yield Scratch(root, ports)
    finally:
        runtime.remove()
        engine.run(["docker", "rmi", "-f", image])
        shutil.rmtree(root, ignore_errors=True)


def calm(containers: Scratch) -> None:
    """The register is empty and all runs."""
    assert list((containers.root / ".lab/projects/dev/chaos").glob("*.json")) == []
    runtime = DockerRuntime("dev", edges=True, root=containers.root)
    assert {row.state for row in runtime.status()} == {"running"}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("kill", "web"), "web (pid"),
        (("pause", "back"), "stood still"),
        (("latency", "web.back", "--ms", "300"), "a round trip over web.back took"),
        (("partition", "web.back"), "no answer within 2 s now"),
        (("reset", "web.back"), "reset by peer"),
        (("loss", "web.back", "--percent", "20"), "were lost"),
        (("clock-skew", "web"), "+3600 s off"),
    ],
)
def test_a_script_proves_that_it_acted_and_heals(containers: Scratch, words: tuple[str, ...], sentence: str) -> None:
    do, target, *more = words
    running = chaos(containers, "--do", do, "--target", target, "--for", "4s", *more)
    assert running.end() == 0, running.events
    assert any(event["proven"] and sentence in event["text"] for event in running.of("receipt")), running.events
    calm(containers)


def test_what_a_killed_command_left_in_a_container_is_taken_back(containers: Scratch) -> None:
    running = chaos(containers, "--do", "loss", "--target", "web.back", "--percent", "20", "--for", "10m")
    running.event("receipt")
    running.process.kill()
    running.end()
    assert chaos(containers, "--do", "heal").end() == 0
    calm(containers)


def test_a_service_loses_its_network_and_gets_it_back(containers: Scratch) -> None:
    running = chaos(containers, "--do", "partition", "--target", "back", "--for", "3s")
    assert running.end() == 0, running.events
    assert "runs on without a network" in running.of("receipt")[0]["text"]
    calm(containers)


def test_a_volume_of_the_engine_is_full_or_refused_with_the_reason(containers: Scratch) -> None:
    running = chaos(containers, "--do", "fill-disk", "--target", "redis", "--for", "3s")
    code = running.end()
    if code == 1:
        assert any("root" in event["text"] for event in running.of("problem")), running.events
    else:
        assert running.of("receipt")[0]["facts"]["free_bytes"] == 0
    calm(containers)
