"""What happens to calls on their way to the simulated target of scheduled jobs."""

from __future__ import annotations

from labs.faults.simulator import Switch

ROLE = "target"


def holds_request(target: str, *, seconds: float, calls: int = 1) -> Switch:
    """The next calls of that target arrive so much later, whatever became of their sender. 0 seconds change nothing."""
    return Switch(ROLE, "holds_request", {"target": target, "hold_seconds": seconds, "calls": calls}, zero=seconds == 0)
