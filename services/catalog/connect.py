"""Kafka Connect's REST interface, and what its answers mean. The connector's password never leaves this module in a message."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Self
from urllib.parse import quote

import msgspec

from services.kit.client import Call, CallFailed, Client, ClientOptions
from services.patterns.retry import Safety

TIMEOUT_SECONDS = 10.0
_FOR_NOW = {HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT}
"""409: the workers are being sorted. A worker that starts or ends answers 5xx."""
TOLD = 500
"""Characters of a reason."""


class ConnectAway(Exception):
    """No answer, or none that says anything: it starts, is away, or sorts its workers. Try again."""


class ConnectRefused(Exception):
    """It does not take what it was told; the same again would end the same."""


class State(StrEnum):
    """Of a connector or task, as Connect names it."""

    RUNNING = "RUNNING"
    FAILED = "FAILED"
    PAUSED = "PAUSED"
    STOPPED = "STOPPED"
    UNASSIGNED = "UNASSIGNED"
    RESTARTING = "RESTARTING"
    DESTROYED = "DESTROYED"


@dataclass(frozen=True, slots=True)
class Status:
    """`task` None: there is no task (yet). `reason`: the first line of why something failed."""

    connector: State
    task: State | None
    reason: str | None = None

    @property
    def running(self) -> bool:
        return self.connector is State.RUNNING and self.task is State.RUNNING

    @property
    def failed(self) -> bool:
        return State.FAILED in (self.connector, self.task)


class _Part(msgspec.Struct, frozen=True):
    state: State
    trace: str | None = None


class _StatusBody(msgspec.Struct, frozen=True):
    connector: _Part
    tasks: list[_Part] = []


class _Place(msgspec.Struct, frozen=True):
    lsn_proc: int | None = None
    lsn: int | None = None


class _Offset(msgspec.Struct, frozen=True):
    offset: _Place


class _OffsetsBody(msgspec.Struct, frozen=True):
    offsets: list[_Offset] = []


class _Error(msgspec.Struct, frozen=True):
    message: str = ""


class Connect:
    """One worker's interface; it passes on what another one must do. Raises ConnectAway, ConnectRefused everywhere."""

    def __init__(self, url: str) -> None:
        self._client = Client("connect", url, ClientOptions(timeout=TIMEOUT_SECONDS, connections=4))

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._client.__aexit__(*error)

    async def configuration(self, name: str) -> dict[str, str] | None:
        """As Connect has it; None: there is no such connector."""
        body = await self._ask("GET", name, "/config")
        return None if body is None else msgspec.json.decode(body, type=dict[str, str])

    async def configure(self, name: str, settings: Mapping[str, str]) -> None:
        """Make the connector, or change it."""
        await self._ask("PUT", name, "/config", msgspec.json.encode(dict(settings)))

    async def status(self, name: str) -> Status | None:
        """None: there is no such connector, or Connect does not know yet."""
        body = await self._ask("GET", name, "/status")
        return None if body is None else status_of(body)

    async def place(self, name: str) -> int | None:
        """How far the connector has written down to be, as a position in the database's log. None: nowhere yet."""
        body = await self._ask("GET", name, "/offsets")
        return None if body is None else place_of(body)

    async def restart(self, name: str) -> None:
        """Connector and tasks, those that failed."""
        await self._ask("POST", name, "/restart?includeTasks=true&onlyFailed=true")

    async def stop(self, name: str) -> None:
        """End its tasks; the connector and its offsets stay (KIP-875)."""
        await self._ask("PUT", name, "/stop")

    async def resume(self, name: str) -> None:
        await self._ask("PUT", name, "/resume")

    async def forget_offsets(self, name: str) -> None:
        """Of a stopped connector: its next start is its first."""
        await self._ask("DELETE", name, "/offsets")

    async def delete(self, name: str) -> None:
        """Idempotent."""
        await self._ask("DELETE", name, "")

    async def _ask(self, method: str, name: str, what: str, body: bytes | None = None) -> bytes | None:
        if body is None and method != "GET":
            body = b""  # so that it has a media type, which Connect wants even where there is nothing
        path = f"/connectors/{quote(name, safe='')}{what}"
        call = Call(f"{method} {what.partition('?')[0] or '/'}", method, path, Safety.IDEMPOTENT, body)
        try:
            answer = await self._client.call(call)
        except CallFailed as failed:
            raise ConnectAway(failed.reason.value) from None
        if answer.status == HTTPStatus.NOT_FOUND:
            return None
        if answer.status < HTTPStatus.BAD_REQUEST:
            return answer.body
        if answer.status < HTTPStatus.INTERNAL_SERVER_ERROR and answer.status not in _FOR_NOW:
            raise ConnectRefused(f"Connect answered {answer.status}: {_reason(answer.body)}")
        raise ConnectAway(f"it answered {answer.status}: {_reason(answer.body)}")


def status_of(body: bytes) -> Status:
    """Of an answer to GET /connectors/{name}/status."""
    found = msgspec.json.decode(body, type=_StatusBody)
    task = found.tasks[0] if found.tasks else None
    traces = [part.trace for part in (found.connector, task) if part is not None and part.trace]
    return Status(found.connector.state, None if task is None else task.state, _cause(traces[0]) if traces else None)


def place_of(body: bytes) -> int | None:
    """Of an answer to GET /connectors/{name}/offsets."""
    found = msgspec.json.decode(body, type=_OffsetsBody).offsets
    if not found:
        return None
    at = found[0].offset
    return at.lsn_proc if at.lsn_proc is not None else at.lsn or 0


def _cause(trace: str) -> str:
    """The innermost cause of a Java stack trace: that is what a reader can do something about."""
    lines = trace.splitlines() or [""]
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    return (causes[-1] if causes else lines[0]).strip()[:TOLD]


def _reason(body: bytes) -> str:
    try:
        return " ".join(msgspec.json.decode(body, type=_Error).message.split())[:TOLD]
    except msgspec.DecodeError:
        return "an answer without a reason"
