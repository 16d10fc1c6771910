"""The `FaultContext` of a fault by hand: targets are names of services and edges, not roles."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import aiohttp

from infra.docker import engine
from infra.docker.runtime import compose_name
from infra.native.compose import Service, Stack
from infra.native.layout import Layout
from infra.native.startup import is_one_shot
from infra.runtime import Edge, Runtime, RuntimeProblem
from labs.engine.model import InjectFailedError


@runtime_checkable
class Described(Protocol):
    """A runtime that shows the compose file as its project sees it; both do."""

    def stack(self, env: dict[str, str]) -> Stack: ...


@dataclass(frozen=True, slots=True)
class ByHand:
    """One project of the checkout at `root`. Its runtime's methods block."""

    runtime: Runtime
    session: aiohttp.ClientSession
    root: Path
    seed: int = 0
    begun: float = field(default_factory=time.monotonic)

    def service(self, role: str) -> str:
        """The name itself."""
        return role

    def url(self, role: str) -> str:
        """Not through a proxy."""
        host, port = self.runtime.address(role)
        return f"http://{host}:{port}"

    def edge(self, name: str) -> Edge:
        """Raises InjectFailedError."""
        edges = self.runtime.edges()
        if name not in edges:
            raise InjectFailedError(f"there is no edge {name}")
        return edges[name]

    def toxiproxy(self) -> str:
        """Its API."""
        return self.url("toxiproxy")

    def now(self) -> float:
        """Seconds from the start of this command."""
        return time.monotonic() - self.begun

    # --- what may be a target -------------------------------------------------------------------------------------------

    def definition(self, service: str) -> Service | None:
        """From the compose file; None for a copy that `scale` made, or a runtime that shows none."""
        if not isinstance(self.runtime, Described):
            return None
        return self.runtime.stack({}).services.get(service)

    def services(self, *states: str) -> list[str]:
        """Those in one of these states that are not one-shots."""
        found = []
        for row in self.runtime.status():
            definition = self.definition(row.service)
            if row.state in states and (definition is None or not is_one_shot(definition)):
                found.append(row.service)
        return found

    def proxied(self) -> bool:
        """Whether Toxiproxy stands between clients and servers."""
        return "toxiproxy" in self.services("running")

    def edges_in_use(self) -> list[str]:
        """Links whose client runs and was given the proxy's address. None without Toxiproxy."""
        if not self.proxied():
            return []
        definitions = [self.definition(name) for name in self.services("running", "paused")]
        values = [value for one in definitions if one is not None for value in one.environment.values()]
        return [name for name, edge in self.runtime.edges().items() if any(edge.listen in value for value in values)]

    def with_clock(self) -> list[str]:
        """Processes of ours that serve HTTP."""
        running = [(name, self.definition(name)) for name in self.services("running")]
        return [name for name, one in running if one is not None and one.builds and "HTTP_PORT" in one.environment]

    def volume(self, service: str) -> Path:
        """Where this machine keeps the one named volume that only this service mounts. Raises RuntimeProblem."""
        services = self.runtime.stack({}).services if isinstance(self.runtime, Described) else {}
        shared = {mount.source for name, one in services.items() if name != service for mount in one.mounts}
        mounts = services[service].mounts if service in services else ()
        named = [mount.source for mount in mounts if mount.named and mount.source not in shared]
        if len(named) != 1:
            raise RuntimeProblem(f"{service} has no named volume of its own.")
        project = self.runtime.project
        if self.runtime.name != "docker":
            return Layout(self.root, self.root / ".lab", project).data(named[0])
        name = f"{compose_name(self.root, project)}_{named[0]}"
        folder = Path(engine.run(["docker", "volume", "inspect", "--format", "{{.Mountpoint}}", name]).strip())
        try:
            here = folder.is_dir()
        except OSError:
            here = False
        if not here:
            raise RuntimeProblem(
                f"The files of volume {name} are out of reach here ({folder}): a full disk needs root on the engine's machine."
            )
        return folder
