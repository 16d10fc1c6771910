"""What every container of docker-compose.yml promises: health, limits, no restart behind the lab's back, time to drain."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.native.compose import COMPLETED, ComposeFile, parse_bytes, parse_seconds
from services.kit.settings import ProcessSettings
from services.webhooks.dispatcher import COMMIT_SECONDS
from tests.documents import compose

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docker-compose.yml"
COMPOSE = compose()

Body = dict[str, Any]
OWN = COMPOSE["x-process"]["image"]
PINNED = re.compile(r"(\w[\w./-]*):v?\d+\.\d+(\.\d+)*")
OVERRIDABLE = re.compile(r"^\$\{[A-Z_]+:-(.+)\}$")
WITHOUT_A_PROGRAM_TO_ASK_WITH = {"redis-exporter"}
RUN_TO_THEIR_END_BY_LABS = {"search-fill", "search-reindex", "week07-day2-naive-reindex", "week07-day5-fill"}
"""One-shots that nothing of the compose file waits for."""
DRAIN = float(ProcessSettings.model_fields["drain_seconds"].default)
"""A process's own requests; then what it has begun ends."""
AFTERWARDS = {"webhooks-dispatcher": DRAIN + 2 * COMMIT_SECONDS}
MARGIN = 5.0


def one_shots(services: dict[str, Body]) -> set[str]:
    needs = [body.get("depends_on", {}) for body in services.values()]
    return {name for need in needs for name, how in need.items() if how["condition"] == COMPLETED}


def problems(services: dict[str, Body]) -> list[str]:
    """What is wrong, one line each that begins with the service's name."""
    found = []
    once = one_shots(services)
    for name, body in services.items():
        own = body["image"] == OWN
        if not own and not PINNED.fullmatch(OVERRIDABLE.sub(r"\1", body["image"])):
            found.append(f"{name}: its image is not pinned by version")
        if "healthcheck" not in body and name not in once | RUN_TO_THEIR_END_BY_LABS | WITHOUT_A_PROGRAM_TO_ASK_WITH:
            found.append(f"{name}: no health check")
        if "mem_limit" not in body or parse_bytes(str(body["mem_limit"]), name) > 1 << 30:
            found.append(f"{name}: no memory limit, or one above 1 GiB")
        if not 0 < body.get("pids_limit", 0) <= 1024:
            found.append(f"{name}: no limit of processes and threads")
        if body.get("restart") != "no":
            found.append(f"{name}: something else than the lab may start it again")
        if own and not body.get("init"):
            found.append(f"{name}: nobody reaps its children")
        found += [f"{name}: publishes {port} beyond this machine" for port in open_ports(body)]
        found += [f"{name}: {mount} is no named volume or configuration" for mount in loose_mounts(body)]
        grace = parse_seconds(str(body.get("stop_grace_period", "0s")), name)
        if grace < (DRAIN + AFTERWARDS.get(name, 0.0) + MARGIN if own else 5.0):
            found.append(f"{name}: {grace:.0f} s are too few to stop in")
    return found


def open_ports(body: Body) -> list[str]:
    return [str(port) for port in body.get("ports", ()) if not str(port).startswith("127.0.0.1:")]


def loose_mounts(body: Body) -> list[str]:
    mounts = [str(mount) for mount in body.get("volumes", ())]
    return [
        mount
        for mount in mounts
        if mount.partition(":")[0] not in COMPOSE["volumes"]
        and not (mount.startswith(("${LAB_CONFIG:-", "./infra/")) and mount.endswith(":ro"))
    ]


def test_every_service_is_bounded_watched_and_given_time_to_drain() -> None:
    assert problems(COMPOSE["services"]) == []


@pytest.mark.parametrize(
    ("service", "change", "sentence"),
    [
        ("redis", lambda body: body.update(image="redis:latest"), "not pinned"),
        ("redis", lambda body: body.update(image="redis"), "not pinned"),
        ("payments-api", lambda body: body.pop("healthcheck"), "no health check"),
        ("payments-api", lambda body: body.pop("mem_limit"), "no memory limit"),
        ("kafka", lambda body: body.update(mem_limit="2g"), "no memory limit"),
        ("kafka", lambda body: body.pop("pids_limit"), "no limit of processes"),
        ("kafka", lambda body: body.update(restart="always"), "may start it again"),
        ("payments-relay", lambda body: body.pop("init"), "reaps"),
        ("payments-api", lambda body: body.update(ports=["18000:18000"]), "beyond this machine"),
        ("redis", lambda body: body.update(volumes=["/data"]), "no named volume"),
        ("payments-api", lambda body: body.update(stop_grace_period="10s"), "10 s are too few"),
        ("webhooks-dispatcher", lambda body: body.update(stop_grace_period="20s"), "20 s are too few"),
    ],
)
def test_a_service_that_breaks_a_rule_is_named(service: str, change: Callable[[Body], object], sentence: str) -> None:
    services = copy.deepcopy(COMPOSE["services"])
    change(services[service])
    (problem,) = problems(services)
    assert problem.startswith(f"{service}: ")
    assert sentence in problem


def test_only_gateways_simulators_and_programs_of_a_lab_publish_a_port() -> None:
    stack = ComposeFile(FILE).resolve({})
    workers = {name for name, one in stack.services.items() if one.builds and one.health and not one.ports}
    assert {"payments-relay", "payments-resolver", "webhooks-dispatcher", "cron-scheduler-1"} <= workers
    assert all(stack.service(name).environment["HTTP_PORT"] == "19000" for name in workers)


@pytest.mark.skipif(shutil.which("docker") is None, reason="there is no 'docker' command here")
def test_docker_compose_reads_the_file_without_a_word() -> None:
    words = ["docker", "compose", "-f", str(FILE), "--profile", "*", "config", "--quiet"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    if "is not a docker command" in done.stderr or "unknown shorthand flag" in done.stderr:
        pytest.skip("there is no 'docker compose' here")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
