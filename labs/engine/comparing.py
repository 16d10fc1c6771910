"""A lab without load and faults: every variant is asked the same questions, one after the other, and what it answers is judged.

Its phases are preflight, control, baseline, reconcile, verdict. In the control each variant must hold, as in any lab: there it
is asked what even the naive one can answer. The answers are the lab's history, so all that reads a history works as ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from labs.engine.model import Answered, Comparison, FaultContext, Operation, Phase, Round
from labs.engine.probing import crash
from labs.engine.schedule import TROUBLE, describe

LONGEST_SECONDS = 3600.0
"""Of one round: a million documents take their time; more is a mistake."""


class NotComparedError(Exception):
    """The questions could not be asked. Says why; the trial is unknown."""


async def ask(comparison: Comparison, ctx: FaultContext, about: Round) -> list[Operation]:
    """One round of questions as operations, by the time that they were asked. Raises NotComparedError."""
    phase = Phase.CONTROL if about.control else Phase.BASELINE
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            answers = await comparison.ask(ctx, about)
    except TROUBLE as reason:
        raise NotComparedError(f"{about.variant} could not be asked: {describe(reason)}") from reason
    except Exception as error:  # a lab's own code that crashes is a result: unknown
        raise NotComparedError(f"{about.variant} could not be asked: {crash(error)}") from error
    if not answers:
        raise NotComparedError(f"{about.variant} was asked nothing")
    return operations(answers, phase)


def operations(answers: Sequence[Answered], phase: Phase) -> list[Operation]:
    """As the history has them. Closed model: a question is asked when the one before is answered."""
    ordered = sorted(answers, key=lambda one: one.asked_at)
    return [
        Operation(
            id=f"{phase.value}-{number}",
            key=one.key,
            kind=one.kind,
            phase=phase,
            intended_at=one.asked_at,
            sent_at=one.asked_at,
            done_at=one.done_at,
            attempts=1,
            status=None,
            outcome=one.outcome,
            error=one.error,
            result=dict(one.result),
        )
        for number, one in enumerate(ordered)
    ]
