"""What is known of one variant in one scenario."""

from __future__ import annotations

from dataclasses import dataclass, field

from labs.engine.load import PhaseStart
from labs.engine.model import FaultRecord, Figure, Finding, Operation, Phase, Probe, StoryLine, Variant, Window
from labs.engine.reconcile import Reconciliation
from labs.engine.steady import Latency, latency_of
from labs.engine.verdict import TrialSummary


@dataclass(frozen=True, slots=True)
class ProbeRecord:
    """A steady-state figure or a recovery probe, as it was taken."""

    phase: Phase
    at: float
    probe: Probe
    note: str = ""


@dataclass(slots=True)
class Trial:
    """What is known of a variant so far."""

    scenario: str
    name: str
    variant: Variant
    prefix: str
    phases: list[PhaseStart] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    unsettled: list[str] = field(default_factory=list)
    crashed: list[str] = field(default_factory=list)
    findings: dict[str, Finding] = field(default_factory=dict)
    probes: list[ProbeRecord] = field(default_factory=list)
    history: list[Operation] = field(default_factory=list)
    faults: tuple[FaultRecord, ...] = ()
    reconciliation: Reconciliation | None = None
    metrics: dict[str, float | None] = field(default_factory=dict)
    figures: tuple[Figure, ...] = ()
    elsewhere: frozenset[str] = frozenset()
    """Keys of operations of earlier scenarios on the same databases: found there, and not this scenario's."""
    recovery_seconds: float | None = None
    story_of: str = ""
    story: tuple[StoryLine, ...] = ()

    @property
    def summary(self) -> TrialSummary:
        """What the verdict is made from."""
        return TrialSummary(
            scenario=self.scenario,
            variant=self.name,
            role=self.variant.role,
            findings=self.findings,
            problems=tuple(self.problems),
            unsettled=tuple(self.unsettled),
            crashed=tuple(self.crashed),
            may_lack=self.variant.on_request,
        )

    @property
    def in_order(self) -> bool:
        """Nothing went wrong with the experiment, and the variant has recovered: another scenario may follow on it."""
        return not (self.problems or self.unsettled or self.crashed)

    @property
    def latency(self) -> Latency | None:
        """Of all operations after the control."""
        return latency_of(operation for operation in self.history if operation.phase is not Phase.CONTROL)

    def window(self, start: float, end: float) -> Window:
        """The operations meant to be sent in a stretch of the run."""
        return Window(end - start, tuple(one for one in self.history if start <= one.intended_at < end))
