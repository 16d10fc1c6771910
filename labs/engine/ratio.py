"""Where a ratio decides: two equal stretches first, so that the noise of the machine is known (an A/A run)."""

from __future__ import annotations

from labs.engine.model import Finding


def compare(first: float, second: float, under_fault: float, *, at_least: float, what: str = "throughput") -> Finding:
    """Broken if `under_fault` is below `at_least` (0 to 1) of the mean of the two equal stretches before it.

    Unknown if nothing was measured in one of them, or if they differ by more than half of the loss that would break the
    promise: 0.95 allows a loss of 5 %, so the two may differ by 2.5 %. A loss seen that is larger than the allowed one
    by more than the noise is a loss all the same. Raises ValueError for a share outside 0 to 1.
    """
    if not 0 < at_least < 1:
        raise ValueError("at_least is a share between 0 and 1")
    if min(first, second) <= 0:
        return Finding.unknown(f"{what}: nothing was measured before the fault")
    calm = (first + second) / 2
    noise = abs(first - second) / calm
    kept = under_fault / calm
    note = f"{what}: {kept:.1%} of {calm:.4g} (A/A differs by {noise:.1%}, at least {at_least:.0%} must be kept)"
    if kept + noise < at_least:
        return Finding.of([note], note)
    if noise > (1 - at_least) / 2:
        return Finding.unknown(f"{note}: the two equal stretches differ by more than half of what is to be seen")
    return Finding.of([] if kept >= at_least else [note], note)
