"""What the target measures beside the RED metrics of the kit."""

from __future__ import annotations

from prometheus_client import Counter

CALLS = Counter("sim_target_calls_total", "Calls, by target and what became of them", ["target", "reason"])
