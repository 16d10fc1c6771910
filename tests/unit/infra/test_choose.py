"""Which runtime: what was asked for, else what was chosen before, else Docker where it can do the work; with a fake `docker`."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra import choose
from infra.docker import engine
from infra.native.runtime import CHECKOUT
from infra.runtime import RuntimeProblem

COMPOSE = """
services:
  store: {image: "store:1", profiles: [week2]}
  other: {image: "other:1", profiles: [week9]}
  own: {image: "own:dev", build: ., profiles: [week2]}
"""
DOCKERFILE = "FROM base:3 AS build\nRUN true\nFROM build AS more\nFROM --platform=linux/amd64 base:3\n"
FAKE = """#!/bin/sh
case "$1 $2" in
  "version "*) [ -z "$NO_ENGINE" ] || { echo "Cannot connect to the Docker daemon." >&2; exit 1; }; echo 28.1 ;;
  "compose version") [ -z "$NO_COMPOSE" ] ;;
  "image inspect") case " $LOCAL " in *" $5 "*) ;; *) exit 1 ;; esac ;;
  "pull "*) eval "$PULL" ;;
esac
"""


class Machine:
    """A checkout, and a machine whose Docker does what the variables say."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.root, self.file, self.patch = root, root / ".lab" / "runtime", patch
        for path, text in {
            "docker-compose.yml": COMPOSE,
            "infra/docker/Dockerfile": DOCKERFILE,
            "bin/docker": FAKE,
        }.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        (root / "bin" / "docker").chmod(0o755)
        patch.setenv("PATH", str(root / "bin"), prepend=":")
        patch.delenv("LAB_RUNTIME", raising=False)
        self.has()

    def has(self, *, local: str = "", pull: str = "exit 1", **variables: str) -> None:
        for name, value in {"LOCAL": local, "PULL": pull, **variables}.items():
            self.patch.setenv(name, value)

    def choose(self) -> tuple[str, str]:
        return choose.choose(self.file, root=self.root)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_docker_is_chosen_when_all_images_of_the_profile_are_here(machine: Machine) -> None:
    machine.has(local="store:1 base:3", pull="echo must not be asked >&2; exit 1")
    assert machine.choose() == ("docker", "engine 28.1 answers and has all images")
    assert machine.file.read_text() == "docker: engine 28.1 answers and has all images\n"


def test_docker_is_chosen_when_a_missing_image_can_be_pulled(machine: Machine) -> None:
    machine.has(local="store:1", pull='[ "$2" = base:3 ]')
    assert machine.choose() == ("docker", "engine 28.1 answers and reaches its registry")


@pytest.mark.slow
def test_an_image_that_is_on_its_way_when_the_time_is_over_can_be_pulled(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose, "PULL_SECONDS", 0.5)
    machine.has(pull='echo "1: Pulling from library/store"; exec sleep 60')
    assert machine.choose()[0] == "docker"


@pytest.mark.slow
def test_a_registry_that_says_nothing_gives_native_within_the_bound(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose, "PULL_SECONDS", 0.5)
    machine.has(pull="exec sleep 60")
    name, reason = machine.choose()
    assert name == "native"
    assert "store:1 is not here" in reason


def test_a_registry_that_refuses_gives_native_with_the_image_that_is_missing(machine: Machine) -> None:
    name, reason = machine.choose()
    assert name == "native"
    assert reason.startswith("Docker's engine answers, but store:1 is not here")


def test_an_engine_that_does_not_answer_gives_native_with_dockers_words(machine: Machine) -> None:
    machine.has(local="store:1 base:3", NO_ENGINE="1")
    assert machine.choose() == ("native", "Docker said: Cannot connect to the Docker daemon")


def test_an_engine_without_compose_gives_native(machine: Machine) -> None:
    machine.has(local="store:1 base:3", NO_COMPOSE="1")
    name, reason = machine.choose()
    assert name == "native"
    assert "there is no 'docker compose' here" in reason


def test_without_a_docker_command_native_is_chosen_and_kept_with_its_reason(machine: Machine) -> None:
    machine.patch.setenv("PATH", str(machine.root))
    assert machine.choose()[0] == "native"
    assert machine.file.read_text().startswith("native: There is no 'docker' command here")


def test_the_choice_is_kept_until_the_file_is_gone(machine: Machine) -> None:
    machine.choose()
    machine.has(local="store:1 base:3")
    assert machine.choose()[0] == "native"
    machine.file.unlink()
    assert machine.choose()[0] == "docker"


def test_a_docker_that_was_chosen_and_is_away_is_said_with_what_to_do(machine: Machine) -> None:
    machine.has(local="store:1 base:3")
    machine.choose()
    machine.has(NO_ENGINE="1")
    with pytest.raises(RuntimeProblem, match=r"Cannot connect.* start it, or set LAB_RUNTIME=native, or 'make clean'"):
        machine.choose()


def test_a_kept_choice_that_names_no_runtime_is_said_in_a_sentence(machine: Machine) -> None:
    machine.file.parent.mkdir()
    machine.file.write_text("\n")
    with pytest.raises(RuntimeProblem, match="must begin with native or docker"):
        machine.choose()


def test_the_environment_overrides_what_was_kept_and_is_not_kept(machine: Machine) -> None:
    machine.choose()
    before = machine.file.read_text()
    machine.patch.setenv("LAB_RUNTIME", "docker")
    assert machine.choose() == ("docker", "LAB_RUNTIME asks for it")
    assert machine.file.read_text() == before


def test_the_env_file_may_ask_too(machine: Machine) -> None:
    (machine.root / ".env").write_text("LAB_RUNTIME=native\n")
    machine.has(local="store:1 base:3")
    assert machine.choose() == ("native", "LAB_RUNTIME asks for it")


def test_another_word_is_refused_with_what_is_allowed(machine: Machine) -> None:
    machine.patch.setenv("LAB_RUNTIME", "podman")
    with pytest.raises(RuntimeProblem, match="must be native or docker, not 'podman'"):
        machine.choose()
    assert not machine.file.exists()


def test_docker_without_an_engine_is_one_sentence(machine: Machine) -> None:
    machine.patch.setenv("LAB_RUNTIME", "docker")
    machine.patch.setenv("PATH", str(machine.root))
    with pytest.raises(RuntimeProblem, match="There is no 'docker' command here"):
        machine.choose()
    assert not machine.file.exists()


def test_the_images_of_this_checkout_are_pinned_by_version() -> None:
    found = choose.images(CHECKOUT)
    assert {"postgres:17.6", "python:3.13-slim"} <= set(found)
    assert not any(image.endswith(":latest") or ":" not in image for image in found)


def test_dockers_times_are_read_to_the_microsecond() -> None:
    assert engine.wall_seconds("2026-11-22T14:09:44.174123456Z") == pytest.approx(1795356584.174123)
    assert engine.wall_seconds("2026-11-22T14:09:44Z") == 1795356584.0
