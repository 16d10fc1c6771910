from __future__ import annotations

import msgspec
import pytest

from services.catalog.connect import State, Status, place_of, status_of


def body(connector: str, *tasks: tuple[str, str | None]) -> bytes:
    parts = [
        {"id": 0, "state": state, "worker_id": "w", **({"trace": trace} if trace else {})} for state, trace in tasks
    ]
    return msgspec.json.encode(
        {"name": "c", "connector": {"state": connector, "worker_id": "w"}, "tasks": parts, "type": "source"}
    )


def test_a_connector_runs_only_with_its_task() -> None:
    assert status_of(body("RUNNING", ("RUNNING", None))).running
    assert not status_of(body("RUNNING")).running
    assert not status_of(body("RUNNING", ("UNASSIGNED", None))).running


def test_a_failed_task_tells_the_innermost_cause() -> None:
    trace = (
        "ConnectException: outer\n\tat x\nCaused by: middle\n\tat y\nCaused by: SQLException: the slot is gone\n\tat z"
    )
    found = status_of(body("RUNNING", ("FAILED", trace)))
    assert found == Status(State.RUNNING, State.FAILED, "SQLException: the slot is gone")
    assert found.failed
    assert not found.running


def test_a_connector_may_fail_without_a_task() -> None:
    assert status_of(body("FAILED")).failed


@pytest.mark.parametrize("answer", [b"", b"{}", b'{"connector":{"state":"DANCING"}}'])
def test_an_answer_of_another_shape_is_no_status(answer: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        status_of(answer)


def test_a_place_is_where_the_log_was_read_to() -> None:
    assert place_of(b'{"offsets":[]}') is None
    whole = b'{"offsets":[{"partition":{"server":"c"},"offset":{"lsn_proc":7,"lsn_commit":6,"lsn":8,"messageType":"COMMIT"}}]}'
    assert place_of(whole) == 7
    assert place_of(b'{"offsets":[{"partition":{},"offset":{"lsn":8,"snapshot":"INITIAL"}}]}') == 8
