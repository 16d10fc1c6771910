"""A lab's scenario with everything filled in."""

from __future__ import annotations

from dataclasses import dataclass, replace

from labs.engine.model import Discriminates, Lab, Load, Scenario, Settled, SteadyState, Variant
from labs.engine.schedule import end_of, scaled
from labs.engine.timing import BASELINE_SECONDS, Timing

FURTHER_BASELINE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Plan:
    """A lab's scenario with everything filled in, in this run's times."""

    scenario: Scenario
    load: Load
    control_load: Load
    steady_state: tuple[SteadyState, ...]
    settled: tuple[Settled, ...]
    discriminates: Discriminates
    acknowledged_at_least: float = 0.0
    baseline_scale: float = 1.0
    short: bool = False

    def baseline(self, timing: Timing) -> float:
        """Seconds."""
        return timing.baseline * self.baseline_scale

    def hold(self, variant: Variant, timing: Timing) -> float | None:
        """Seconds of load from the heal on, at least; None where the variant does not say."""
        if variant.hold is None or not self.short:
            return variant.hold
        return variant.hold * timing.scale if variant.short_hold is None else variant.short_hold

    def inject(self, variant: Variant, timing: Timing) -> float:
        """Seconds from the first fault to the heal, as planned."""
        faults = self.scenario.faults
        if variant.hold is not None and faults:
            return end_of(faults)
        return max(timing.inject, end_of(faults))

    def seconds(self, variant: Variant, timing: Timing, *, settling: float) -> float:
        """Of load in one trial without its control: baseline, faults, and what comes after the heal."""
        held = self.hold(variant, timing) or 0.0
        return self.baseline(timing) + self.inject(variant, timing) + max(held, settling)


def plans_of(lab: Lab, timing: Timing, *, rate: float | None = None, short: bool = False) -> tuple[Plan, ...]:
    """Of all scenarios that such a run tries. Raises ValueError if a short run would try none."""
    tried = [one for one in lab.all_scenarios() if one.in_short or not short]
    if not tried:
        raise ValueError(f"{lab.name} has no scenario for a short run")
    return tuple(plan_of(lab, one, scale=timing.scale, rate=rate, short=short) for one in tried)


def day_seconds(lab: Lab, timing: Timing, *, short: bool = False) -> float:
    """What a day of all its regular variants is expected to take."""
    plans = plans_of(lab, timing, short=short)
    total = timing.START
    for name, variant in lab.variants.items():
        if variant.on_request or (short and not variant.in_short):
            continue
        if lab.comparison is not None:
            total += lab.comparison.short_seconds if short else lab.comparison.seconds
            continue
        tried = [one for one in plans if one.scenario.tries(name)]
        if not tried:
            continue
        starts = 1 if lab.share_processes else len(tried)
        total += starts * timing.TRIAL_OVERHEAD + timing.control
        total += (len(tried) - starts) * timing.SCENARIO_OVERHEAD
        total += sum(one.seconds(variant, timing, settling=timing.SETTLING) for one in tried)
    return total


def _baseline_scale(lab: Lab, scenario: Scenario) -> float:
    """A further scenario on the same processes needs less: their generator and their calm were judged in the first."""
    further = lab.share_processes and scenario is not lab.all_scenarios()[0]
    default = FURTHER_BASELINE_SECONDS if further else lab.baseline_seconds
    return (scenario.baseline_seconds or default or BASELINE_SECONDS) / BASELINE_SECONDS


def plan_of(lab: Lab, scenario: Scenario, *, scale: float, rate: float | None = None, short: bool = False) -> Plan:
    """Fill in what the scenario leaves to the lab; scale the fault times; override the rate."""
    load = scenario.load or lab.load
    control = lab.control_load or load
    if rate is not None:
        load = replace(load, rate=rate)
        control = lab.control_load or load
    discriminates = scenario.discriminates or lab.discriminates
    invariants = lab.invariants if scenario.invariants is None else scenario.invariants
    names = [invariant.__name__ for invariant in invariants]
    if discriminates.invariant.__name__ not in names:
        invariants = (discriminates.invariant, *invariants)
    faults = scaled(scenario.faults, scale)
    if short and scenario.short_faults is not None:
        faults = scenario.short_faults
    return Plan(
        scenario=replace(scenario, faults=faults, invariants=invariants),
        load=load,
        control_load=control,
        steady_state=lab.steady_state if scenario.steady_state is None else scenario.steady_state,
        settled=lab.settled if scenario.settled is None else scenario.settled,
        discriminates=discriminates,
        acknowledged_at_least=lab.acknowledged_at_least
        if scenario.acknowledged_at_least is None
        else scenario.acknowledged_at_least,
        baseline_scale=_baseline_scale(lab, scenario),
        short=short,
    )
