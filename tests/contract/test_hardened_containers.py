"""Every container of docker-compose.yml runs without root, without capabilities and on a file system that it cannot change."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.documents import compose

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = compose()

Body = dict[str, Any]
KEYSTORE = "its entry point writes the keystore beside the configuration, and SEARCH_IMAGE may have another layout"
WRITABLE = dict.fromkeys(("search-engine", "search-engine-1", "search-engine-2", "search-engine-3"), KEYSTORE)
"""Services whose file system may be changed, and why."""
WIDER = {
    "privileged",
    "cap_add",
    "devices",
    "device_cgroup_rules",
    "group_add",
    "network_mode",
    "pid",
    "ipc",
    "userns_mode",
}
"""Keys that give a container more than it has by itself. None is needed: faults enter by a container of their own."""
USER = re.compile(r"[1-9]\d*:\d+")
"""A number, which cannot name another user in another build of the image."""
BUILDS = "kafka-topics"


def problems(services: Mapping[str, Body], writable: Mapping[str, str] = WRITABLE) -> list[str]:
    """What is wrong, one line each that begins with the service's name."""
    found = []
    for name, body in services.items():
        if USER.fullmatch(str(body.get("user", ""))) is None:
            found.append(f"{name}: names no user that is not root")
        if body.get("cap_drop") != ["ALL"]:
            found.append(f"{name}: keeps capabilities")
        if body.get("security_opt") != ["no-new-privileges:true"]:
            found.append(f"{name}: may gain privileges")
        if (body.get("read_only") is True) == (name in writable):
            found.append(f"{name}: its file system is {'read-only' if name in writable else 'writable'}")
        found += [f"{name}: has {key}" for key in sorted(WIDER & body.keys())]
        found += [f"{name}: {mount} has no size" for mount in body.get("tmpfs", ()) if "size=" not in mount]
        found += [f"{name}: mounts the engine's socket" for mount in body.get("volumes", ()) if "docker.sock" in mount]
    return found + [f"{name}: an exception for nobody" for name in sorted(writable.keys() - services.keys())]


def builders(services: Mapping[str, Body]) -> list[str]:
    return [name for name, body in services.items() if "build" in body]


def test_no_container_is_root_or_can_become_it_or_changes_its_own_programs() -> None:
    assert problems(COMPOSE["services"]) == []


@pytest.mark.parametrize(
    ("service", "change", "sentence"),
    [
        ("toxiproxy", lambda body: body.pop("user"), "names no user"),
        ("postgres", lambda body: body.update(user="root"), "names no user"),
        ("postgres", lambda body: body.update(user="0:0"), "names no user"),
        ("redis", lambda body: body.pop("cap_drop"), "keeps capabilities"),
        ("redis", lambda body: body.update(cap_drop=["NET_RAW"]), "keeps capabilities"),
        ("kafka", lambda body: body.update(cap_add=["NET_ADMIN"]), "has cap_add"),
        ("kafka", lambda body: body.update(privileged=True), "has privileged"),
        ("kafka", lambda body: body.pop("security_opt"), "may gain"),
        ("payments-api", lambda body: body.update(security_opt=["seccomp:unconfined"]), "may gain"),
        ("payments-api", lambda body: body.pop("read_only"), "is writable"),
        ("payments-api", lambda body: body.update(read_only=False), "is writable"),
        ("payments-api", lambda body: body.update(tmpfs=["/tmp"]), "has no size"),
        ("search-engine", lambda body: body.update(read_only=True), "is read-only"),
        ("prometheus", lambda body: body["volumes"].append("/var/run/docker.sock:/s"), "socket"),
    ],
)
def test_a_container_that_may_more_is_named(service: str, change: Callable[[Body], object], sentence: str) -> None:
    services = copy.deepcopy(COMPOSE["services"])
    change(services[service])
    (problem,) = problems(services)
    assert problem.startswith(f"{service}: ")
    assert sentence in problem


def test_an_exception_that_nobody_needs_is_named() -> None:
    assert problems(COMPOSE["services"], {**WRITABLE, "gone": "it wrote"}) == ["gone: an exception for nobody"]


def test_the_image_of_our_processes_is_built_once_by_what_every_week_starts() -> None:
    services = COMPOSE["services"]
    assert builders(services) == [BUILDS]
    assert {"week2", "week7"} <= set(services[BUILDS]["profiles"])
    assert services[BUILDS]["image"] == COMPOSE["x-process"]["image"]


def test_our_processes_run_as_the_user_of_their_image() -> None:
    dockerfile = (ROOT / "infra" / "docker" / "Dockerfile").read_text("utf-8")
    made = re.search(r"useradd .*--uid (\d+) .*?(\w+)$", dockerfile, re.MULTILINE)
    assert made is not None
    assert dockerfile.rstrip().endswith(f"USER {made[2]}")
    ours = {name: body["user"] for name, body in COMPOSE["services"].items() if body.get("init")}
    assert {name for name, user in ours.items() if user != f"{made[1]}:{made[1]}"} == {
        "kafka-jvm"
    }  # reads as Kafka's user
