"""Webhooks: figures and aims."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from benchmarks.rows import Aim, Figures, Row, Shall, Unit, beside, one, rounds, several

OF_LOOP = Aim(
    Shall.BE_AT_LEAST, 0.5, Unit.RATIO, of_limit=True,
    limit="The loop writes nothing down; a delivery also claims its row, writes an attempt and the outcome, and Postgres takes its part of the same cores.",
)  # fmt: skip
END_TO_END = Aim(
    Shall.BE_ABOVE, 750, Unit.PER_SECOND,
    limit="API, dispatcher, receivers, Postgres and the generator share the cores: each message is taken, fanned out, signed, sent and accounted for on two of them.",
)  # fmt: skip
MEMORY = Aim(
    Shall.BE_BELOW, 200, Unit.MEBIBYTES, limit="What is scheduled waits in Postgres; a dispatcher that grows with it has a leak."
)  # fmt: skip
ISOLATION = Aim(
    Shall.BE_AT_LEAST, 0.95, Unit.RATIO, of_limit=True,
    limit="An endpoint that hangs holds its own few slots, each with a connection and a timer until its 15 s are over.",
)  # fmt: skip


class WebhooksFigures(Figures):
    """Rates are per second, of one dispatcher process."""

    LIMIT: ClassVar[str] = (
        "A bare aiohttp loop posts the same signed bytes to the same receivers and writes nothing down; the dispatcher's figure includes a durable "
        "row for every attempt. Isolation is beside the same 900 endpoints alone, twice: what those two differ by is noise."
    )

    settings: dict[str, str] = msgspec.field(default_factory=dict)
    loop_per_second: list[float] = msgspec.field(default_factory=list)
    dispatcher_per_second: list[float] = msgspec.field(default_factory=list)
    ratio: float = 0.0
    pairs: list[float] = msgspec.field(default_factory=list)
    loop_cpu_us: list[float] = msgspec.field(default_factory=list)
    dispatcher_cpu_us: list[float] = msgspec.field(default_factory=list)
    end_to_end_per_second: list[float] = msgspec.field(default_factory=list)
    accept_p99_ms: float = 0.0
    memory_mib_idle: float = 0.0
    memory_mib_100k_scheduled: float = 0.0
    memory_mib: dict[str, float] = msgspec.field(default_factory=dict)
    undisturbed_per_second: list[float] = msgspec.field(default_factory=list)
    with_hung_per_second: list[float] = msgspec.field(default_factory=list)
    isolation: float = 0.0
    isolation_noise: float = 0.0
    first_attempt_p99_ms_alone: list[float] = msgspec.field(default_factory=list)
    first_attempt_p99_ms_alone_again: list[float] = msgspec.field(default_factory=list)
    first_attempt_p99_ms_beside_hung: list[float] = msgspec.field(default_factory=list)

    def title(self) -> str:
        """See Figures."""
        return "one dispatcher process"

    def rows(self) -> list[Row]:
        """See Figures."""
        return [
            beside(
                "deliveries, a durable row each", self.dispatcher_per_second, self.loop_per_second, "bare aiohttp loop",
                Unit.PER_SECOND, OF_LOOP, ratio=self.ratio or None, headline=True,
            ),
            beside("CPU of one delivery", self.dispatcher_cpu_us, self.loop_cpu_us, "of a request of the bare loop", Unit.MICROSECONDS),
            rounds("publish to delivered", self.end_to_end_per_second, Unit.PER_SECOND, END_TO_END),
            one("publish, p99 at saturation", self.accept_p99_ms, Unit.MILLISECONDS),
            one("memory of the dispatcher, idle", self.memory_mib_idle, Unit.MEBIBYTES),
            one("memory beside 100,000 scheduled retries", self.memory_mib_100k_scheduled or None, Unit.MEBIBYTES, MEMORY),
            self._isolated(),
            one("the same two runs of 900 alone, one of the other (A/A)", self.isolation_noise, Unit.RATIO),
            beside(
                "wait of the 900 for their first attempt, p99, beside 100 that hang", self.first_attempt_p99_ms_beside_hung,
                [*self.first_attempt_p99_ms_alone, *self.first_attempt_p99_ms_alone_again], "alone", Unit.WHOLE_MILLISECONDS,
            ),
            several("memory after publishing", self.memory_mib, Unit.MEBIBYTES),
        ]  # fmt: skip

    def _isolated(self) -> Row:
        return beside(
            "900 endpoints beside 100 that hang for 15 s", self.with_hung_per_second, self.undisturbed_per_second, "alone",
            Unit.PER_SECOND, ISOLATION, ratio=self.isolation or None, cannot_tell=self._noise(),
        )  # fmt: skip

    def _noise(self) -> str:
        """Two runs without any that hang differ by more than half of what is missing to all with them."""
        if self.isolation < ISOLATION.bound and 1 - self.isolation_noise > (1 - self.isolation) / 2:
            return "the two runs without any that hang differ too much"
        return ""
