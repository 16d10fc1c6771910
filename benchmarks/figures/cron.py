"""Cron: figures and aims."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from benchmarks.rows import NONE, Aim, Figures, Row, Shall, Unit, each, one, several

JITTER_SECONDS = 30
OUTAGE_JOBS = 100
LEASE_SECONDS = 3
OURS = ("cron-api", "cron-scheduler-1", "cron-scheduler-2", "cron-scheduler-3")

LATENESS = Aim(
    Shall.BE_BELOW, 2, Unit.SHORT_SECONDS,
    limit="All jobs are due at the same instant and are planned by one leader: the jittered instants just behind it wait until theirs is planned.",
)  # fmt: skip
HANDOVER = Aim(
    Shall.BE_BELOW, 1, Unit.SHORT_SECONDS, limit="The leader that is told to stop lets go of its lease only when its runs are decided."
)  # fmt: skip
FAILOVER = Aim(
    Shall.BE_BELOW, LEASE_SECONDS + 2, Unit.SHORT_SECONDS,
    limit=f"Nobody may lead before the dead leader's lease of {LEASE_SECONDS} s is over; the rest is the next one's look and its own start.",
)  # fmt: skip
MEMORY = Aim(
    Shall.BE_BELOW, 300, Unit.MEBIBYTES, limit="Each process is an interpreter with its libraries, some 45 MiB before it does anything."
)  # fmt: skip


class CatchUp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What became of a day's instants, and how long it took until the last of them was decided and done."""

    accounted: int
    states: dict[str, int]
    seconds: float


class CronFigures(Figures):
    """Lateness is from the jittered instant to the arrival at the target."""

    LIMIT: ClassVar[str] = (
        "No other program does this, so the limit is the clock: an instant cannot be met before it is there. What is late is late by what "
        "one leader on one core plans and fires; its CPU per run and Postgres' are below."
    )

    jobs: int = 0
    jitter_fired: int = 0
    jitter_p50_seconds: float = 0.0
    jitter_p99_seconds: float = 0.0
    jitter_max_seconds: float = 0.0
    jitter_cpu_ms_per_run: dict[str, float] = msgspec.field(default_factory=dict)
    bytes_per_run: int = 0
    kafka_fired: int = 0
    kafka_drain_seconds: float = 0.0
    kafka_per_second: float = 0.0
    catch_up: dict[str, CatchUp] = msgspec.field(default_factory=dict)
    memory_mib: dict[str, float] = msgspec.field(default_factory=dict)
    handover_seconds: list[float] = msgspec.field(default_factory=list)
    failover_seconds: list[float] = msgspec.field(default_factory=list)

    def title(self) -> str:
        """See Figures."""
        return f"{self.jobs:,} jobs due at one minute; a day of outage; changes of leader"

    def rows(self) -> list[Row]:
        """See Figures."""
        all_fired = Aim(Shall.BE_AT_LEAST, self.jobs, Unit.COUNT, limit="A job that was due and did not fire is a bug.")
        return [
            one(f"fired over HTTP, jitter {JITTER_SECONDS} s", self.jitter_fired, Unit.COUNT, all_fired),
            one("lateness past the jittered instant, p50", self.jitter_p50_seconds * 1000, Unit.MILLISECONDS),
            self._lateness(),
            one("lateness past the jittered instant, worst", self.jitter_max_seconds, Unit.SHORT_SECONDS),
            self._kafka(),
            *(self._outage(name, found) for name, found in self.catch_up.items()),
            self._worst("leader told to stop, until the next one leads", self.handover_seconds, HANDOVER),
            self._worst(f"leader killed, lease {LEASE_SECONDS} s", self.failover_seconds, FAILOVER),
            several("CPU per HTTP run", {name: value for name, value in self.jitter_cpu_ms_per_run.items() if value >= 0.005}, Unit.CPU_MILLISECONDS),
            one("storage of a run with its indexes", self.bytes_per_run, Unit.BYTES),
            self._memory(),
        ]  # fmt: skip

    def sums(self) -> list[str]:
        """See Figures."""
        busiest = max((self.jitter_cpu_ms_per_run.get(name, 0.0) for name in OURS), default=0.0)
        if not busiest:
            return []
        most = f"One leader, on one core, fires at most {1000 / busiest:,.0f} runs/s over HTTP at {busiest:.2f} ms each"
        return [f"{most}; beyond that it takes several leases, each for a part of the jobs."]

    def _lateness(self) -> Row:
        value = self.jitter_p99_seconds if self.jitter_fired else None
        shown = NONE if value is None else Unit.SHORT_SECONDS.of(value)
        return Row("lateness past the jittered instant, p99", shown, value, aim=LATENESS, headline=True)

    def _kafka(self) -> Row:
        shown = f"{Unit.SHORT_SECONDS.of(self.kafka_drain_seconds)} ({Unit.PER_SECOND.of(self.kafka_per_second)})"
        return Row(f"{self.kafka_fired:,} jobs to Kafka without jitter, drained", shown if self.kafka_fired else NONE)

    def _outage(self, name: str, found: CatchUp) -> Row:
        told = ", ".join(f"{count:,} {state}" for state, count in found.states.items())
        figure = f"24 h outage of {OUTAGE_JOBS} jobs a minute, policy {name}: accounted"
        return Row(figure, f"{found.accounted:,} in {Unit.SECONDS.of(found.seconds)}: {told}")

    def _worst(self, figure: str, seconds: list[float], aim: Aim) -> Row:
        return one(f"{figure}, worst of {len(seconds)}", max(seconds, default=None), Unit.SHORT_SECONDS, aim)

    def _memory(self) -> Row:
        ours = {name: self.memory_mib[name] for name in OURS if name in self.memory_mib}
        total = sum(ours.values())
        shown = f"{Unit.MEBIBYTES.of(total)} ({each(ours, Unit.MEBIBYTES)})" if ours else NONE
        return Row("memory, API and three schedulers", shown, total if ours else None, aim=MEMORY)
