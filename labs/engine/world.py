"""What every trial of a run shares, and the seam between the engine and the real stores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import aiohttp

from infra.runtime import Edge, Runtime
from labs.engine import cleanup
from labs.engine.clock import RunClock
from labs.engine.display import Display
from labs.engine.evidence import StoreEvidence, Stores
from labs.engine.load import LOCUST
from labs.engine.model import Evidence, FaultRecord, InjectFailedError, Operation, Variant
from labs.engine.timing import Timing


class Platform(Protocol):
    """The stores of the project, as far as the engine touches them itself."""

    def evidence(
        self,
        *,
        scenario: str,
        variant_name: str,
        variant: Variant,
        history: Sequence[Operation],
        faults: Sequence[FaultRecord],
        prefix: str,
    ) -> Evidence:
        """Evidence for the invariants of one trial."""
        ...

    async def drop(self, *, prefix: str | None = None, keep: str | None = None) -> str:
        """Drop what runs have left (see labs.engine.cleanup.drop). Returns "" or a sentence on what is left."""
        ...


@dataclass(frozen=True, slots=True)
class StorePlatform:
    """The real one."""

    runtime: Runtime
    session: aiohttp.ClientSession
    clock: RunClock

    def _stores(self) -> Stores:
        return Stores(
            postgres=self.runtime.address("postgres"),
            postgres_password=self.runtime.variable("POSTGRES_PASSWORD"),
            kafka=self.runtime.address("kafka"),
            prometheus=self.runtime.address("prometheus"),
        )

    def evidence(
        self,
        *,
        scenario: str,
        variant_name: str,
        variant: Variant,
        history: Sequence[Operation],
        faults: Sequence[FaultRecord],
        prefix: str,
    ) -> Evidence:
        """Connects when it is asked something."""
        return StoreEvidence(
            scenario=scenario,
            variant_name=variant_name,
            variant=variant,
            history=tuple(history),
            faults=tuple(faults),
            prefix=prefix,
            stores=self._stores(),
            clock=self.clock,
            session=self.session,
        )

    async def drop(self, *, prefix: str | None = None, keep: str | None = None) -> str:
        """See labs.engine.cleanup.drop."""
        return await cleanup.drop(self._stores(), prefix=prefix, keep=keep)


@dataclass(frozen=True, slots=True)
class World:
    """One run: `root` is the checkout, `folder` where the run leaves its files."""

    runtime: Runtime
    platform: Platform
    session: aiohttp.ClientSession
    clock: RunClock
    display: Display
    timing: Timing
    seed: int
    root: Path
    folder: Path
    generator: Sequence[str] = LOCUST


@dataclass(frozen=True, slots=True)
class TrialContext:
    """`FaultContext` of one variant."""

    world: World
    variant: Variant

    @property
    def runtime(self) -> Runtime:
        """The project's."""
        return self.world.runtime

    @property
    def session(self) -> aiohttp.ClientSession:
        """Shared by the run."""
        return self.world.session

    @property
    def seed(self) -> int:
        """Of the run."""
        return self.world.seed

    def service(self, role: str) -> str:
        """Raises InjectFailedError for a role that the variant does not bind."""
        if role not in self.variant.roles:
            raise InjectFailedError(f"this variant binds no role {role!r}")
        return self.variant.roles[role]

    def url(self, role: str) -> str:
        """Without a proxy between."""
        host, port = self.runtime.address(self.service(role))
        return f"http://{host}:{port}"

    def edge(self, name: str) -> Edge:
        """Raises InjectFailedError for a link that the variant or the project does not have."""
        proxy = self.variant.edges.get(name, "")
        edges = self.runtime.edges()
        if proxy not in edges:
            raise InjectFailedError(f"this variant has no link {name!r}")
        return edges[proxy]

    def toxiproxy(self) -> str:
        """Its API."""
        host, port = self.runtime.address("toxiproxy")
        return f"http://{host}:{port}"

    def now(self) -> float:
        """Seconds from the start of the run."""
        return self.world.clock.now()
