"""Which trials a run has, in which order, and which of them share processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from labs.engine.model import Invariant, Lab, Load
from labs.engine.phases import Control, TrialRun
from labs.engine.planning import Plan
from labs.engine.trial import Trial
from labs.engine.world import World

Keep = Callable[[Trial], None]
"""Called with each trial when it is over."""


@dataclass(slots=True)
class Proven:
    """What each variant has held without faults in this run. An identical control would show it once more."""

    _held: dict[str, list[tuple[Load, frozenset[str]]]] = field(default_factory=dict)

    def control(self, variant: str, load: Load, invariants: tuple[Invariant, ...]) -> Control:
        """Needed unless this load has been seen to leave all these invariants whole."""
        names = {one.__name__ for one in invariants}
        seen = any(held == load and names <= known for held, known in self._held.get(variant, ()))
        return Control(invariants, needed=not seen)

    def note(self, variant: str, load: Load, control: Control) -> None:
        """It held."""
        self._held.setdefault(variant, []).append((load, frozenset(one.__name__ for one in control.invariants)))


async def try_all(world: World, lab: Lab, plans: Sequence[Plan], names: Sequence[str], keep: Keep) -> None:
    """Each variant in each scenario that tries it; variant by variant where scenarios share processes."""
    proven = Proven()
    if lab.share_processes:
        for name in names:
            await _try_shared(world, lab, [one for one in plans if one.scenario.tries(name)], name, proven, keep)
        return
    for plan in plans:
        for name in names:
            if plan.scenario.tries(name):
                control = proven.control(name, plan.control_load, plan.scenario.invariants or ())
                await _try(TrialRun(world, lab, plan, name, control=control), plan, control, proven, keep)


async def _try_shared(world: World, lab: Lab, plans: Sequence[Plan], name: str, proven: Proven, keep: Keep) -> None:
    """One start and one control for all. After a scenario that ended badly, the next one starts afresh."""
    everything = tuple({one.__name__: one for plan in plans for one in plan.scenario.invariants or ()}.values())
    before: TrialRun | None = None
    try:
        for number, plan in enumerate(plans):
            control = proven.control(name, plan.control_load, everything)
            going_on = before if before is not None and before.goes_on else None
            before = TrialRun(
                world,
                lab,
                plan,
                name,
                control=control,
                after=going_on,
                more=number + 1 < len(plans),
                number=number,
            )
            await _try(before, plan, control, proven, keep)
    finally:
        if before is not None:
            await before.leave()


async def _try(run: TrialRun, plan: Plan, control: Control, proven: Proven, keep: Keep) -> None:
    trial = await run.run()
    if run.control_passed:
        proven.note(trial.name, plan.control_load, control)
    keep(trial)
