"""All projects at once, in a checkout that was on Docker before and whose engine is not there now."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra import projects
from infra.runtime import Progress, RuntimeProblem

EMPTY = '{"port_offset": 0, "edges": true, "started": 31, "services": {}}'
RUNNING = '{"started": 1, "services": {"kafka": {"order": 1, "env": {}, "fingerprint": "f"}}}'


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No `docker` command is found here."""
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "docker-compose.yml").write_text("services: {}\n")
    return tmp_path


def was_on_docker(checkout: Path, project: str, state: str) -> None:
    home = checkout / ".lab" / "projects" / project
    home.mkdir(parents=True)
    (home / "docker.json").write_text(state)


def silent(line: str) -> None:
    del line


def test_a_docker_that_holds_nothing_and_is_not_there_is_not_asked(checkout: Path) -> None:
    was_on_docker(checkout, "dev", EMPTY)
    assert projects.existing(checkout) == ["dev"]
    assert projects.current("dev", checkout).name == "native"
    assert projects.current("dev", checkout).status() == []
    projects.down(silent, checkout)


def test_a_docker_that_held_something_and_is_not_there_is_told(checkout: Path) -> None:
    was_on_docker(checkout, "dev", RUNNING)
    assert projects.current("dev", checkout).name == "docker"
    with pytest.raises(RuntimeProblem, match="There is no 'docker' command here"):
        projects.down(silent, checkout)


def test_a_project_that_cannot_be_stopped_keeps_none_other_from_it(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = []

    class Fake:
        name = "native"

        def __init__(self, project: str) -> None:
            self.project = project

        def down(self, *, progress: Progress | None = None) -> None:
            stopped.append(self.project)
            if self.project == "dev":
                raise RuntimeProblem("The engine sleeps.")

    for project in ("dev", "lab"):
        was_on_docker(checkout, project, RUNNING)
    monkeypatch.setattr(projects, "attach", lambda project, runtime, root: Fake(project))
    with pytest.raises(RuntimeProblem, match="The engine sleeps"):
        projects.down(silent, checkout)
    assert stopped == ["dev", "lab"]
