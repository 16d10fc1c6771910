from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from infra.native.compose import ComposeFile, parse_bytes, parse_seconds, read_env_file
from infra.native.recipes import recipe_for
from infra.runtime import RuntimeProblem
from services.contracts.ports import PORTS

ROOT = Path(__file__).resolve().parents[3]


def written(folder: Path, text: str) -> ComposeFile:
    path = folder / "docker-compose.yml"
    path.write_text(text)
    return ComposeFile(path)


def test_the_repositorys_file_is_inside_the_supported_subset() -> None:
    stack = ComposeFile(ROOT / "docker-compose.yml").resolve({})
    assert {"postgres", "redis", "kafka", "prometheus", "sim-bank", "payments-api"} <= set(stack.in_profile("week2"))
    for service in stack.services.values():
        if service.profiles != {"grafana"}:
            recipe_for(service)


def test_what_only_docker_runs_says_what_to_use_instead() -> None:
    stack = ComposeFile(ROOT / "docker-compose.yml").resolve({})
    with pytest.raises(RuntimeProblem, match="the console draws the same dashboards"):
        recipe_for(stack.service("grafana"))


def test_every_port_variable_of_the_file_stands_in_the_table_with_the_same_number() -> None:
    variables = ComposeFile(ROOT / "docker-compose.yml").resolve({}).variables
    ports = {name: int(value) for name, value in variables.items() if re.search(r"(^|_)PORT(_|$)", name)}
    assert ports.items() <= PORTS.items()


@pytest.mark.parametrize(
    ("text", "key", "place"),
    [
        ("services: {web: {image: redis, entrypoint: x}}", "entrypoint", "services.web"),
        ("services: {web: {image: redis}}\nsecrets: {}", "secrets", "top level"),
        ("services: {web: {image: redis, healthcheck: {test: [CMD, x], disable: true}}}", "disable", "healthcheck"),
        ("services: {web: {image: redis, restart: always}}", "restart: always", "services.web"),
        ("services: {web: {image: redis, depends_on: {web: {restart: true}}}}", "restart", "depends_on.web"),
        ("services: {web: {image: redis, ports: ['80']}}", "80", "services.web.ports"),
        ("x-edges: {a.b: {listen: '1', upstream: '2', weight: 3}}", "weight", "x-edges.a.b"),
    ],
)
def test_an_unknown_key_stops_with_its_name_and_place(tmp_path: Path, text: str, key: str, place: str) -> None:
    with pytest.raises(RuntimeProblem) as caught:
        written(tmp_path, text).resolve({})
    assert f"'{key}'" in str(caught.value)
    assert place in str(caught.value)


@pytest.mark.parametrize("text", ["services: [", "- a", "services: {web: 3}", "services: {web: {mem_limit: many}}"])
def test_a_malformed_file_stops_with_a_sentence(tmp_path: Path, text: str) -> None:
    with pytest.raises(RuntimeProblem, match=r"docker-compose\.yml"):
        written(tmp_path, text).resolve({})


def test_anchors_merges_and_references_are_followed(tmp_path: Path) -> None:
    text = """
x-base: &base {image: "redis:8", mem_limit: 64m, stop_grace_period: 1m30s}
x-env: &env {A: "1", B: "${B:-two}"}
services:
  one: {<<: *base, environment: {<<: *env, C: 3}, ports: ["127.0.0.1:${P:-80}:${P:-80}"]}
  two: {<<: *base, depends_on: [one], volumes: ["v:/data", "./conf:/etc/conf:ro"]}
volumes: {v: {}}
"""
    stack = written(tmp_path, text).resolve({"P": "81"})
    one, two = stack.service("one"), stack.service("two")
    assert dict(one.environment) == {"A": "1", "B": "two", "C": "3"}
    assert (one.memory_limit, one.stop_grace, one.ports[0].published) == (64 << 20, 90.0, 81)
    assert [(mount.target, mount.named, mount.read_only) for mount in two.mounts] == [
        ("/data", True, False),
        ("/etc/conf", False, True),
    ]
    assert stack.with_dependencies(["two"]) == ["one", "two"]


def test_an_image_that_one_service_builds_is_ours_wherever_it_runs(tmp_path: Path) -> None:
    text = """
services:
  first: {image: "own:dev"}
  second: {image: "own:dev", build: .}
  third: {image: "own:dev", build: .}
  foreign: {image: "redis:8"}
"""
    stack = written(tmp_path, text).resolve({})
    assert [name for name, service in stack.services.items() if service.builds] == ["first", "second", "third"]
    assert stack.builders == ("second",)


def test_services_that_depend_on_each_other_are_refused(tmp_path: Path) -> None:
    text = "services: {a: {image: x, depends_on: [b]}, b: {image: x, depends_on: [a]}}"
    with pytest.raises(RuntimeProblem, match="a -> b -> a"):
        written(tmp_path, text).resolve({}).with_dependencies(["a"])


def test_a_dependency_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeProblem, match="no service 'gone'"):
        written(tmp_path, "services: {a: {image: x, depends_on: [gone]}}").resolve({})


def test_an_image_without_a_recipe_is_refused(tmp_path: Path) -> None:
    service = written(tmp_path, "services: {a: {image: 'mysql:9'}}").resolve({}).service("a")
    with pytest.raises(RuntimeProblem, match="mysql:9"):
        recipe_for(service)


@pytest.mark.parametrize(("text", "size"), [("512", 512), ("64k", 65536), ("1.5g", 3 << 29), ("10MB", 10 << 20)])
def test_sizes_count_in_powers_of_1024(text: str, size: int) -> None:
    assert parse_bytes(text, "x") == size


@pytest.mark.parametrize(("text", "seconds"), [("2s", 2.0), ("1m30s", 90.0), ("250ms", 0.25), ("1h", 3600.0)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_seconds(text, "x") == seconds


@pytest.mark.parametrize("text", ["", "5", "s", "2 days", "-1s"])
def test_a_bad_duration_is_refused(text: str) -> None:
    with pytest.raises(RuntimeProblem):
        parse_seconds(text, "x")


def test_an_env_file_has_comments_quotes_and_export(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("# note\nA=1\nexport B='two words'\nC=\"x#y\"\nD=plain # said\n\nE=\n")
    assert read_env_file(path) == {"A": "1", "B": "two words", "C": "x#y", "D": "plain", "E": ""}
    path.write_text("what is this\n")
    with pytest.raises(RuntimeProblem, match="line 1"):
        read_env_file(path)
    assert read_env_file(tmp_path / "none") == {}


def _has_compose() -> bool:
    docker = shutil.which("docker")
    return (
        docker is not None
        and subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode == 0
    )


@pytest.mark.docker
@pytest.mark.skipif(not _has_compose(), reason="docker compose is not installed")
def test_the_reader_agrees_with_docker_compose_config() -> None:
    words = ["docker", "compose", "--profile", "*", "config", "--format", "json"]
    theirs = json.loads(subprocess.run(words, cwd=ROOT, capture_output=True, check=True).stdout)["services"]
    ours = ComposeFile(ROOT / "docker-compose.yml").resolve(read_env_file(ROOT / ".env"))
    assert set(theirs) == set(ours.services)
    for name, service in ours.services.items():
        assert dict(service.environment) == (theirs[name].get("environment") or {}), name
        assert list(service.command) == (theirs[name].get("command") or []), name
        assert [int(port["published"]) for port in theirs[name].get("ports", [])] == [
            p.published for p in service.ports
        ], name
        assert set(theirs[name].get("depends_on", {})) == set(service.depends_on), name
        assert int(theirs[name].get("mem_limit", 0)) == (service.memory_limit or 0), name
