"""`docker compose --profile week2 up --build --wait` and nothing of ours beside it, with two copies of every worker."""

from __future__ import annotations

import json
import os
import random
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra import choose
from infra.docker import engine
from infra.docker.defaults import workers
from infra.native.compose import ComposeFile, Stack
from infra.native.environment import shifted_ports
from infra.native.free_ports import reserve
from infra.runtime import RuntimeProblem

ROOT = Path(__file__).resolve().parents[2]
FILE = ComposeFile(ROOT / "docker-compose.yml")
PROFILE = "week2"
COPIES = 2


def unavailable() -> str:
    """Why this cannot run here. Asks for no image: a test run does not wait for a download."""
    try:
        engine.require_compose()
    except RuntimeProblem as problem:
        return str(problem)
    missing = [image for image in choose.images(ROOT, [PROFILE]) if not engine.has_image(image)]
    return f"these images are not here: {', '.join(missing)}" if missing else ""


WHY_NOT = unavailable()
pytestmark = [
    pytest.mark.integration,
    pytest.mark.docker,
    pytest.mark.slow,
    pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT),
]


@dataclass(frozen=True, slots=True)
class Up:
    name: str
    stack: Stack
    scaled: list[str]

    def address(self, service: str) -> str:
        return f"http://127.0.0.1:{self.stack.service(service).ports[0].published}"


@pytest.fixture(scope="module")
def plain() -> Iterator[Up]:
    variables = free_variables()
    stack = FILE.resolve(variables)
    scaled = [name for name in workers(stack) if PROFILE in stack.service(name).profiles]
    name = f"lab-e2e-{os.getpid()}"
    words = ["docker", "compose", "-p", name, "--project-directory", str(ROOT), "-f", str(ROOT / "docker-compose.yml")]
    env = {**{key: value for key, value in os.environ.items() if not key.startswith("LAB_")}, **variables}
    copies = [word for worker in scaled for word in ("--scale", f"{worker}={COPIES}")]
    try:
        up = [*words, "--profile", PROFILE, "up", "--build", "--wait", "--wait-timeout", "240", *copies]
        engine.run(up, env=env, timeout=900.0)
        yield Up(name, stack, scaled)
    finally:
        engine.run([*words, "--profile", "*", "down", "--volumes", "--remove-orphans"], env=env, timeout=180.0)


def free_variables() -> dict[str, str]:
    """Every port of the file, moved together to where nobody listens."""
    given = FILE.resolve({}).variables
    for _ in range(50):
        moved = shifted_ports(given, random.randrange(1_500, 13_000))
        if all(reserve(int(port)) for port in moved.values()):
            return moved
    raise AssertionError("no free ports")


def ask(url: str, body: object = None, **headers: str) -> dict[str, object]:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=10) as answer:
        found: dict[str, object] = json.load(answer)
        return found


def test_every_service_of_the_profile_is_up_and_workers_twice(plain: Up) -> None:
    assert len(plain.scaled) >= 9
    listed = engine.run(
        ["docker", "ps", "--filter", f"label=com.docker.compose.project={plain.name}", "--format", "{{.Names}}"]
    )
    running = listed.split()
    for worker in plain.scaled:
        assert {f"{plain.name}-{worker}-{number}" for number in range(1, COPIES + 1)} <= set(running)


def test_prometheus_finds_every_copy_of_a_worker(plain: Up) -> None:
    query = urllib.parse.urlencode({"query": "count by (job) (up == 1)"})
    wanted = {worker: str(COPIES) for worker in plain.scaled}
    deadline = time.monotonic() + 30.0
    while True:
        answer = ask(f"{plain.address('prometheus')}/api/v1/query?{query}")
        rows = answer["data"]["result"]  # type: ignore[index]  # Prometheus' own format
        found = {row["metric"]["job"]: row["value"][1] for row in rows}
        if found.items() >= wanted.items():
            return
        assert time.monotonic() < deadline, f"wanted {wanted}, found {found}"
        time.sleep(0.5)


def test_a_payment_is_taken(plain: Up) -> None:
    payment = {"amount": 1250, "currency": "EUR", "source": "tok_me", "reference": "order-1"}
    headers = {
        "Authorization": "Bearer lab_demo_merchant_key",
        "Idempotency-Key": "plain-compose-1",
        "Content-Type": "application/json",
    }
    assert ask(f"{plain.address('payments-api')}/v1/payments", payment, **headers)["status"] == "captured"


def test_our_processes_are_not_root_and_keep_to_loopback(plain: Up) -> None:
    assert engine.run(["docker", "exec", f"{plain.name}-payments-api-1", "id", "-u"]).strip() != "0"
    format_of_ports = "{{range .NetworkSettings.Ports}}{{range .}}{{.HostIp}} {{end}}{{end}}"
    listed = engine.run(["docker", "ps", "-q", "--filter", f"label=com.docker.compose.project={plain.name}"]).split()
    addresses = engine.run(["docker", "inspect", "--format", format_of_ports, *listed]).split()
    assert set(addresses) == {"127.0.0.1"}
