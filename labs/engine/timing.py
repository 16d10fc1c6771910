"""How long each phase takes, and what a whole day promises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from labs.engine.model import Load

BASELINE_SECONDS = 10.0
SHORT_INJECT_SECONDS = 9.0
FULL_BUDGET_SECONDS = 180.0
SHORT_BUDGET_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of each phase of one trial. The module's fault times are multiplied with `scale`.

    `budget` is the promise for a day with two trials, start included. A variant that settles only at its probes' bounds
    may exceed it: recovery is measured, not cut off.
    """

    START: ClassVar[float] = 4.0
    """Infrastructure, once, warm (measured 3 s)."""
    TRIAL_OVERHEAD: ClassVar[float] = 10.0
    """A variant's processes, two load generators, reconcile, stop."""
    SCENARIO_OVERHEAD: ClassVar[float] = 4.0
    """A further scenario on the same processes: one load generator, reconcile."""
    SETTLING: ClassVar[float] = 3.5

    control: float
    baseline: float
    inject: float
    scale: float
    budget: float


def plan(load: Load, *, short: bool = False, seconds: float | None = None) -> Timing:
    """Phases for a run. `seconds` is the load in all (baseline and inject) and at least 15; `short` wins over it.

    Raises ValueError when `seconds` leaves no time to inject.
    """
    full = load.seconds - BASELINE_SECONDS
    if short:
        return Timing(2.0, 3.0, SHORT_INJECT_SECONDS, SHORT_INJECT_SECONDS / full, SHORT_BUDGET_SECONDS)
    total = load.seconds if seconds is None else seconds
    if total < BASELINE_SECONDS + 5:
        raise ValueError("seconds must be at least 15: 10 s of baseline, then the faults")
    inject = total - BASELINE_SECONDS
    budget = FULL_BUDGET_SECONDS + 2 * max(0.0, total - load.seconds)
    return Timing(5.0, BASELINE_SECONDS, inject, inject / full, budget)
