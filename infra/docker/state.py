"""What the Docker runtime must remember between two commands; the truth about a container is always asked from Docker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from infra.native.locking import locked
from infra.runtime import RuntimeProblem


class Started(msgspec.Struct):
    """How a service was last started: `env` is what `up` was given for it. `ended`: "killed", "stopped" or ""."""

    order: int
    env: dict[str, str]
    fingerprint: str
    lives: int = 1
    ended: str = ""


class DockerState(msgspec.Struct):
    port_offset: int = 0
    edges: bool = False
    started: int = 0
    services: dict[str, Started] = {}


class DockerStateFile:
    """Reads and writes a project's state. `changing` is the only way to write."""

    def __init__(self, path: Path, project: str) -> None:
        self.path = path
        self._project = project

    def read(self) -> DockerState:
        """Raises RuntimeProblem when the file is not ours."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=DockerState)
        except FileNotFoundError:
            return DockerState()
        except msgspec.DecodeError as error:
            raise RuntimeProblem(f"{self.path} is damaged ({error}); 'make clean' starts afresh.") from None

    @contextmanager
    def changing(self) -> Iterator[DockerState]:
        """Hold the state's lock, give the state, write it back whole. Keep the block short; do not nest."""
        with locked(self.path.parent / "docker.lock", f"the state of project '{self._project}'", timeout=30.0):
            state = self.read()
            yield state
            part = self.path.with_suffix(".part")
            part.write_bytes(msgspec.json.encode(state))
            part.rename(self.path)
