"""What every trial of a run shares, and the seam between the engine and the real stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import aiohttp

from infra.runtime import Edge, Runtime
from labs.engine import cleanup
from labs.engine.blocking import blocking
from labs.engine.clock import RunClock
from labs.engine.display import Display
from labs.engine.evidence import StoreEvidence, Stores
from labs.engine.load import LOCUST
from labs.engine.model import SEARCH_ENGINE, Evidence, FaultRecord, InjectFailedError, Operation, Variant
from labs.engine.timing import Timing

SEARCH_ENGINES = (SEARCH_ENGINE, "search-engine-1")
"""Of the cluster one node speaks for all."""


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
        window: tuple[float, float],
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

    def stores(self) -> Stores:
        return Stores(
            postgres=self.runtime.address("postgres"),
            postgres_password=self.runtime.variable("POSTGRES_PASSWORD"),
            kafka=self.runtime.address("kafka"),
            prometheus=self.runtime.address("prometheus"),
            engine_at=self.runtime.address,
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
        window: tuple[float, float],
    ) -> Evidence:
        """Connects when it is asked something."""
        return StoreEvidence(
            scenario=scenario,
            variant_name=variant_name,
            variant=variant,
            history=tuple(history),
            faults=tuple(faults),
            prefix=prefix,
            window=window,
            stores=self.stores(),
            clock=self.clock,
            session=self.session,
        )

    async def drop(self, *, prefix: str | None = None, keep: str | None = None) -> str:
        """See labs.engine.cleanup.drop. A server that does not run, because the lab needs none, is not asked."""
        rows = await blocking(self.runtime.status)
        running = {row.service for row in rows if row.state == "running"}
        left = await cleanup.drop(
            self.stores(), prefix=prefix, keep=keep, databases="postgres" in running, topics="kafka" in running
        )
        engines = [self.runtime.address(one) for one in SEARCH_ENGINES if one in running]
        return "; ".join(filter(None, (left, await cleanup.drop_indices(self.session, engines, prefix, keep))))


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
    docs: int | None = None


@dataclass(frozen=True, slots=True)
class TrialContext:
    """`FaultContext` of one variant. `pinned` are the resolved roles of one fault, `times` is read by a load that grows.

    `variables` are what the variant's processes were started with.
    """

    world: World
    variant: Variant
    pinned: Mapping[str, str] = field(default_factory=dict)
    times: Path | None = None
    variables: Mapping[str, str] = field(default_factory=dict)

    def offer(self, times: float) -> None:
        """Through a file that the generator looks at. Raises InjectFailedError for a load that does not grow."""
        if self.times is None:
            raise InjectFailedError("this lab's load does not grow; say Load(..., grows=True)")
        self.times.parent.mkdir(exist_ok=True)
        beside = self.times.with_suffix(".new")
        beside.write_text(f"{times:g}")
        beside.replace(self.times)

    async def resolved(self, role: str) -> TrialContext:
        """The context in which a role of `Variant.resolvers` is pinned to whom plays it now; otherwise this one.

        Of a link ("leader.store") it is the part before the dot.
        """
        role = role.partition(".")[0]
        resolver = self.variant.resolvers.get(role)
        return self if resolver is None else replace(self, pinned={**self.pinned, role: await resolver(self)})

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
        service = self.pinned.get(role) or self.variant.roles.get(role)
        if service is None:
            raise InjectFailedError(f"this variant binds no role {role!r}")
        return service

    def url(self, role: str) -> str:
        """Without a proxy between."""
        host, port = self.runtime.address(self.service(role))
        return f"http://{host}:{port}"

    def edge(self, name: str) -> Edge:
        """Raises InjectFailedError for a link that the variant or the project does not have."""
        proxy = self.variant.edges.get(self._bound(name), "")
        edges = self.runtime.edges()
        if proxy not in edges:
            raise InjectFailedError(f"this variant has no link {name!r}")
        return edges[proxy]

    def _bound(self, link: str) -> str:
        """The link of the role that a pinned service is bound to: "leader.store" is "node2.store" while node2 leads."""
        resolved, _, end = link.partition(".")
        service = self.pinned.get(resolved)
        return next((f"{role}.{end}" for role, bound in self.variant.roles.items() if bound == service), link)

    def toxiproxy(self) -> str:
        """Its API."""
        host, port = self.runtime.address("toxiproxy")
        return f"http://{host}:{port}"

    def now(self) -> float:
        """Seconds from the start of the run."""
        return self.world.clock.now()
