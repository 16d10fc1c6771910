from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from infra.runtime import RuntimeProblem, ServiceStatus
from labs.console.stack import NoSuchService, Stack, plain
from tests.labs.fake_world import FakeRuntime

TRACE = "ab" * 16


class Logging(FakeRuntime):
    """Two services, one of which nobody can ask for its log."""

    def status(self) -> list[ServiceStatus]:
        return [
            ServiceStatus("api", "running", 1, None, 0.0, 5 << 20, None, 18000, 2, ""),
            ServiceStatus("gone", "exited", None, 137, None, None, None, None, 0, "killed"),
        ]

    def logs(self, service: str, *, lines: int = 50) -> list[str]:
        if service == "gone":
            raise RuntimeProblem("no log")
        told: Sequence[dict[str, str]] = (
            {"time": "2", "message": "later", "trace_id": TRACE},
            {"time": "1", "message": "sooner", "trace_id": TRACE},
            {"time": "3", "message": "\x1b[31mother", "trace_id": "c"},
        )
        return [json.dumps(one) for one in told][-lines:]


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    monkeypatch.setattr("infra.projects.existing", lambda root: ["dev"])
    monkeypatch.setattr("infra.projects.current", lambda name, root: Logging(name="native"))
    return Stack(tmp_path)


async def test_state_memory_restarts_and_the_last_line_of_each_service(stack: Stack) -> None:
    (project,) = await stack.projects()
    api, gone = project.rows
    assert (api.state, api.memory, api.restarts, api.port) == ("running", 5 << 20, 2, 18000)
    assert "other" in api.last_line
    assert (gone.state, gone.exit_code, gone.detail, gone.last_line) == ("exited", 137, "killed", "")
    assert await stack.running("dev") == {"api"}


async def test_log_lines_of_a_trace_are_found_in_order_of_time(stack: Stack) -> None:
    found = await stack.lines_with("dev", TRACE)
    assert [(service, json.loads(line)["message"]) for service, line in found] == [("api", "sooner"), ("api", "later")]
    assert await stack.lines_with("none", TRACE) == []


@pytest.mark.parametrize(
    ("project", "service"), [("dev", "none"), ("none", "api"), ("../dev", "api"), ("dev", "../../x")]
)
async def test_a_log_of_nobody_is_a_problem(stack: Stack, project: str, service: str) -> None:
    with pytest.raises(NoSuchService):
        await stack.logs(project, service, 10)


def test_control_characters_of_a_log_do_not_reach_the_page() -> None:
    assert plain("\x1b[31mred\x1b[0m\x00\x07 \tok") == "red   \tok"
