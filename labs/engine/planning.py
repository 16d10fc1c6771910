"""A lab's scenario with everything filled in."""

from __future__ import annotations

from dataclasses import dataclass, replace

from labs.engine.model import Discriminates, Lab, Load, Scenario, Settled, SteadyState
from labs.engine.schedule import scaled


@dataclass(frozen=True, slots=True)
class Plan:
    """A lab's scenario with everything filled in, in this run's times."""

    scenario: Scenario
    load: Load
    control_load: Load
    steady_state: tuple[SteadyState, ...]
    settled: tuple[Settled, ...]
    discriminates: Discriminates


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
    )
