"""Checkout: figures and aims."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from benchmarks.rows import Aim, Figures, Row, Shall, Unit, beside, one, several

OF_DIRECT = Aim(
    Shall.BE_AT_LEAST, 0.6, Unit.RATIO, of_limit=True,
    limit="A hop more is one HTTP server and one client more for each payment, on the same two cores.",
)  # fmt: skip
P99 = Aim(
    Shall.BE_BELOW, 150, Unit.MILLISECONDS,
    limit="The tail is that of payments, three commits in a row, with one more process waiting for a core.",
)  # fmt: skip
HEDGED = Aim(Shall.BE_AT_MOST, 0.05, Unit.SHARE, limit="More hedges than their budget allows is a bug of the budget.")
RETRIED = Aim(Shall.BE_AT_MOST, 0.1, Unit.SHARE, limit="More retries than their budget allows is a bug of the budget.")


class CheckoutFigures(Figures):
    """Rates are per second."""

    LIMIT: ClassVar[str] = "The same payments taken directly, without the hop, in turn on the same servers."

    settings: dict[str, str] = msgspec.field(default_factory=dict)
    direct_per_second: list[float] = msgspec.field(default_factory=list)
    checkouts_per_second: list[float] = msgspec.field(default_factory=list)
    ratio: float = 0.0
    rate_at_half: float = 0.0
    p50_ms_at_half: float = 0.0
    p99_ms_at_half: float = 0.0
    reads_per_second: float = 0.0
    hedged_share: float | None = None
    retried_share: float | None = None
    cpu_ms_per_checkout: dict[str, float] = msgspec.field(default_factory=dict)
    memory_mib: dict[str, float] = msgspec.field(default_factory=dict)

    def title(self) -> str:
        """See Figures."""
        return "what the hop before payments costs"

    def rows(self) -> list[Row]:
        """See Figures."""
        half = f"{self.rate_at_half:,.0f}/s"
        return [
            beside(
                "checkouts", self.checkouts_per_second, self.direct_per_second, "payments taken directly", Unit.PER_SECOND,
                OF_DIRECT, ratio=self.ratio or None, headline=True,
            ),
            one(f"p50 at half of saturation ({half}), from the intended send time", self.p50_ms_at_half, Unit.MILLISECONDS),
            one("p99 at half of saturation", self.p99_ms_at_half or None, Unit.MILLISECONDS, P99),
            one("reads, at saturation", self.reads_per_second, Unit.PER_SECOND),
            one("of them hedged", self.hedged_share, Unit.SHARE, HEDGED),
            one("calls to payments that were retries", self.retried_share, Unit.SHARE, RETRIED),
            several("CPU per checkout", self.cpu_ms_per_checkout, Unit.CPU_MILLISECONDS),
            several("memory", self.memory_mib, Unit.MEBIBYTES),
        ]  # fmt: skip
