"""Tells Prometheus what the running lab does, so that dashboards can mark phases and faults.

`lab_phase{lab,variant,phase}` and `lab_fault_active{lab,variant,fault,target}` are 1 while it is so and 0 afterwards, on a
small /metrics of the engine's own. Nothing here may fail a lab: without Prometheus or a free address there are no marks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, start_http_server

from infra.docker import engine
from infra.native.layout import Layout
from infra.native.recipes.base import LOOPBACK
from infra.native.render import HOST_OF_CONTAINERS, PROCESSES, write_target
from infra.runtime import Runtime, RuntimeProblem
from labs.engine.display import Display, Tick
from labs.engine.model import Phase

TARGET = "lab"


class Marks:
    """The two gauges. One per command; labels of earlier labs stay at 0."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._phase = Gauge(
            "lab_phase",
            "1 for the phase that the running lab is in",
            ["lab", "variant", "phase"],
            registry=self.registry,
        )
        self._fault = Gauge(
            "lab_fault_active",
            "1 while a fault is injected",
            ["lab", "variant", "fault", "target"],
            registry=self.registry,
        )
        # There from the start, so that a dashboard's query has an answer before the first phase.
        self._phase.labels("", "", "")
        self._fault.labels("", "", "", "")
        self._now: tuple[str, str, str] | None = None
        self._active: set[tuple[str, str, str, str]] = set()

    def enter(self, lab: str, variant: str, phase: Phase) -> None:
        """The phase begins, and the one before it is over."""
        self.leave()
        self._now = (lab, variant, phase.value)
        self._phase.labels(*self._now).set(1)

    def leave(self) -> None:
        """No phase."""
        if self._now is not None:
            self._phase.labels(*self._now).set(0)
            self._now = None

    def faults(self, lab: str, variant: str, active: tuple[str, ...]) -> None:
        """Just these are injected now; each is `kind target`."""
        now = {(lab, variant, kind, target) for kind, _, target in (one.partition(" ") for one in active)}
        for labels in self._active - now:
            self._fault.labels(*labels).set(0)
        for labels in now - self._active:
            self._fault.labels(*labels).set(1)
        self._active = now


@dataclass(slots=True)
class MarkingDisplay:
    """Shows what `shown` shows, and keeps the marks of one lab."""

    shown: Display
    marks: Marks
    lab: str
    _who: str = field(default="", init=False)

    def say(self, text: str) -> None:
        """As it is."""
        self.shown.say(text)

    def begin(self, who: str, phase: Phase, seconds: float | None) -> None:
        """A phase starts."""
        self._who = who
        self.marks.enter(self.lab, who, phase)
        self.shown.begin(who, phase, seconds)

    def tick(self, elapsed: float, tick: Tick) -> None:
        """Twice a second: which faults are active."""
        self.marks.faults(self.lab, self._who, tick.faults)
        self.shown.tick(elapsed, tick)

    def end(self, elapsed: float, tick: Tick) -> None:
        """The phase is over; a fault that lasts is still in the next one's first tick."""
        self.marks.leave()
        self.shown.end(elapsed, tick)


@contextmanager
def told_to_prometheus(marks: Marks, runtime: Runtime, root: Path) -> Iterator[str]:
    """Serve the marks where the project's Prometheus reads them, as long as the block lasts; yields the address or ""."""
    layout = Layout(root, root / ".lab", runtime.project, runtime=runtime.name)
    folder = layout.prometheus / PROCESSES
    if not folder.is_dir():
        yield ""
        return
    host = _reachable_address(runtime)
    try:
        server, thread = start_http_server(0, addr=host, registry=marks.registry)
    except OSError:
        # A gateway that is no address of this machine: an engine in a virtual machine, which forwards to loopback.
        server, thread = start_http_server(0, addr=LOOPBACK, registry=marks.registry)
    shown = HOST_OF_CONTAINERS if runtime.name == "docker" else LOOPBACK
    address = f"{shown}:{server.server_port}"
    write_target(folder, TARGET, address, job=TARGET)
    try:
        yield address
    finally:
        (folder / f"{TARGET}.json").unlink(missing_ok=True)
        server.shutdown()
        server.server_close()
        thread.join()


def _reachable_address(runtime: Runtime) -> str:
    """Loopback; for containers the address of this machine on their bridge, which no other machine reaches."""
    if runtime.name != "docker":
        return LOOPBACK
    question = ["docker", "network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}"]
    try:
        return engine.run(question, timeout=5.0).strip() or LOOPBACK
    except RuntimeProblem:
        return LOOPBACK
