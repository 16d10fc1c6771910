"""Our reader of docker-compose.yml and Docker's own must see the same services. Needs `docker compose`, but no engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pytest

from infra.native.compose import ComposeFile, Health, Service, parse_seconds

ROOT = Path(__file__).resolve().parents[2]
GIVEN: tuple[dict[str, str], ...] = (
    {},
    {"LAB_PREFIX": "run7_", "PAYMENTS_SHARDED": "1", "EDGE_PAYMENTS_POSTGRES": "toxiproxy:17500", "CRON_LEASE_SECONDS": ""},
    {"POSTGRES_PORT": "22432", "KAFKA_HOST": "127.0.0.1", "BIND_HOST": "127.0.0.1", "LAB_CONFIG": "/etc/lab"},
)  # fmt: skip
DOCKERS_DEFAULTS: dict[str, Any] = {"interval": "30s", "timeout": "30s", "retries": 3, "start_period": "0s"}


def has_compose() -> bool:
    if shutil.which("docker") is None:
        return False
    return (
        subprocess.run(["docker", "compose", "version"], capture_output=True, check=False, timeout=30).returncode == 0
    )


pytestmark = pytest.mark.skipif(not has_compose(), reason="there is no 'docker compose' here")


def dockers(given: Mapping[str, str], root: Path = ROOT) -> dict[str, Any]:
    words = ["docker", "compose", "--project-directory", str(root), "-f", str(root / "docker-compose.yml")]
    env = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **given}
    done = subprocess.run(
        [*words, "--env-file", "/dev/null", "--profile", "*", "config", "--format", "json"],
        env=env, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    services: dict[str, Any] = json.loads(done.stdout)["services"]
    return services


def as_docker_writes(service: Service, root: Path) -> dict[str, object]:
    return {
        "image": service.image,
        "builds": service.builds,
        "command": list(service.command),
        "environment": dict(service.environment),
        "ports": [(port.host_ip, port.published, port.target) for port in service.ports],
        "mounts": [(one.source if one.named else str((root / one.source).resolve()), one.target, one.read_only) for one in service.mounts],
        "depends_on": dict(service.depends_on),
        "health": service.health,
        "profiles": sorted(service.profiles),
        "memory_limit": service.memory_limit,
        "stop_signal": service.stop_signal,
        "stop_grace": service.stop_grace,
    }  # fmt: skip


def as_we_write(body: Mapping[str, Any], built: Collection[str]) -> dict[str, object]:
    memory = body.get("mem_limit")
    return {
        "image": body["image"],
        "builds": body["image"] in built,
        "command": body.get("command") or [],
        "environment": body.get("environment") or {},
        "ports": [(one["host_ip"], int(one["published"]), one["target"]) for one in body.get("ports", ())],
        "mounts": [(one["source"], one["target"], one.get("read_only", False)) for one in body.get("volumes", ())],
        "depends_on": {name: how["condition"] for name, how in (body.get("depends_on") or {}).items()},
        "health": _health(body.get("healthcheck")),
        "profiles": sorted(body.get("profiles", ())),
        "memory_limit": None if memory is None else int(memory),
        "stop_signal": body.get("stop_signal", "SIGTERM"),
        "stop_grace": parse_seconds(body.get("stop_grace_period", "10s"), "docker"),
    }


def _health(body: Mapping[str, Any] | None) -> Health | None:
    if body is None:
        return None
    told = {**DOCKERS_DEFAULTS, **body}
    seconds = {name: parse_seconds(told[name], "docker") for name in ("interval", "timeout", "start_period")}
    return Health(tuple(told["test"][1:]), told["test"][0] == "CMD-SHELL", retries=told["retries"], **seconds)


def differences(given: Mapping[str, str], root: Path = ROOT) -> list[str]:
    """`service.field` of all that the two see differently."""
    theirs, ours = dockers(given, root), ComposeFile(root / "docker-compose.yml").resolve(given).services
    built = {body["image"] for body in theirs.values() if "build" in body}
    found = [f"{name} is seen by one of them" for name in sorted(theirs.keys() ^ ours.keys())]
    for name in theirs.keys() & ours.keys():
        left, right = as_docker_writes(ours[name], root), as_we_write(theirs[name], built)
        found += [f"{name}.{key}: {left[key]} / {right[key]}" for key in left if left[key] != right[key]]
    return found


@pytest.mark.parametrize("given", GIVEN, ids=["defaults", "lab", "native"])
def test_both_readers_see_the_same_services(given: dict[str, str]) -> None:
    assert differences(given) == []


def test_a_line_that_the_two_read_differently_is_named(tmp_path: Path) -> None:
    text = 'services:\n  store:\n    image: "store:1"\n    environment:\n      MODE: {}\n'
    file = tmp_path / "docker-compose.yml"
    file.write_text(text.format('"on"'))
    assert differences({}, tmp_path) == []
    file.write_text(text.format("1.0"))  # a number, which the two spell differently
    assert differences({}, tmp_path) == ["store.environment: {'MODE': '1.0'} / {'MODE': '1'}"]
