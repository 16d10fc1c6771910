"""Payments: figures and aims."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from benchmarks.rows import NONE, Aim, Figures, Row, Shall, Unit, beside, each, one, several

OURS = ("payments-api", "payments-relay", "payments-resolver", "payments-reconciler", "sim-bank")
SCALE = 1_000
"""Payments a second for which the cores are added up."""

RATIO = Aim(
    Shall.BE_AT_LEAST, 0.3, Unit.RATIO, of_limit=True,
    limit="pgbench has both cores for Postgres and itself; a payment also pays for two HTTP servers, JSON, signatures and the generator on the same cores.",
)  # fmt: skip
P99 = Aim(
    Shall.BE_BELOW, 100, Unit.MILLISECONDS,
    limit="Three commits follow each other in a payment, so a slow moment of the disk is paid three times, and on two cores every other process stands in the way of the tail.",
)  # fmt: skip
RELAY = Aim(
    Shall.BE_AT_LEAST, 5_000, Unit.PER_SECOND,
    limit="One relay reads, publishes and deletes in turn; Postgres and the broker share its cores.",
)  # fmt: skip
RECALL = Aim(Shall.BE_AT_LEAST, 1, Unit.SHARE, limit="A mistake that is not found is a bug of the reconciler.")
ALARMS = Aim(Shall.BE_AT_MOST, 0, Unit.COUNT, limit="A finding where nothing was planted is a bug of the reconciler.")
MEMORY = Aim(
    Shall.BE_BELOW, 300, Unit.MEBIBYTES, limit="Each process is an interpreter with its libraries, some 45 MiB before it does anything."
)  # fmt: skip


class ReconciliationFigures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`recall`: share of the planted mistakes that were found. `false_alarms`: findings on the honest file, and unplanted ones."""

    lines: int
    seconds: float
    cpu_seconds: float
    planted: int
    recall: float
    false_alarms: int


class PaymentsFigures(Figures):
    """Rates are per second."""

    LIMIT: ClassVar[str] = (
        "pgbench runs the whole flow's statements and commits, ours and the bank's, on the same server in the same minutes: "
        "two statements here, one at the bank, three commits. `fsync`, `synchronous_commit` and `full_page_writes` are on."
    )

    settings: dict[str, str] = msgspec.field(default_factory=dict)
    limit_per_second: list[float] = msgspec.field(default_factory=list)
    payments_per_second: list[float] = msgspec.field(default_factory=list)
    ratio: float = 0.0
    p50_ms_at_half: float = 0.0
    p99_ms_at_half: float = 0.0
    rate_at_half: float = 0.0
    cpu_ms_per_payment: dict[str, float] = msgspec.field(default_factory=dict)
    memory_mib: dict[str, float] = msgspec.field(default_factory=dict)
    charged_once: int = 0
    relay_events: int = 0
    relay_events_per_second: float = 0.0
    reconciliation: ReconciliationFigures | None = None

    def title(self) -> str:
        """See Figures."""
        return "from HTTP to durable and charged"

    def rows(self) -> list[Row]:
        """See Figures."""
        half = f"{self.rate_at_half:,.0f}/s"
        return [
            beside(
                "payments, durable and charged", self.payments_per_second, self.limit_per_second, "pgbench, the whole flow", Unit.PER_SECOND,
                RATIO, ratio=self.ratio or None, headline=True,
            ),
            one(f"p50 at half of saturation ({half}), from the intended send time", self.p50_ms_at_half, Unit.MILLISECONDS),
            one("p99 at half of saturation", self.p99_ms_at_half or None, Unit.MILLISECONDS, P99),
            one("captured here and charged exactly once at the bank", self.charged_once, Unit.COUNT),
            one(f"relay after an outage, {self.relay_events:,} events", self.relay_events_per_second or None, Unit.PER_SECOND, RELAY),
            *self._reconciled(),
            several("CPU per payment", {name: value for name, value in self.cpu_ms_per_payment.items() if value >= 0.005}, Unit.CPU_MILLISECONDS),
            self._memory(),
        ]  # fmt: skip

    def sums(self) -> list[str]:
        """See Figures."""
        cores = sum(self.cpu_ms_per_payment.values()) * SCALE / 1000
        if not cores:
            return []
        parts = {name: value * SCALE / 1000 for name, value in self.cpu_ms_per_payment.items() if value >= 0.1}
        told = " + ".join(f"{value:.1f} {name}" for name, value in parts.items())
        needed = f"{SCALE:,} payments/s need {cores:.1f} cores at this CPU per payment ({told})"
        return [
            f"{needed}, and a disk that takes {3 * SCALE:,} commits/s or groups them. The API scales by processes, one Postgres by its cores."
        ]

    def _reconciled(self) -> list[Row]:
        found = self.reconciliation
        if found is None:
            return [Row("reconciler", NONE)]
        return [
            one(f"reconciler, {found.lines:,} lines", found.seconds, Unit.SECONDS),
            one(f"mistakes found, of {found.planted} planted", found.recall, Unit.SHARE, RECALL),
            one("false alarms", found.false_alarms, Unit.COUNT, ALARMS),
        ]

    def _memory(self) -> Row:
        ours = {name: self.memory_mib[name] for name in OURS if name in self.memory_mib}
        total = sum(ours.values())
        shown = f"{Unit.MEBIBYTES.of(total)} ({each(ours, Unit.MEBIBYTES)})" if ours else NONE
        return Row("memory of our processes and the bank", shown, total if ours else None, aim=MEMORY)
