"""Where a system's knee is, from steps of load that were measured one by one.

The knee is the highest step up to which every step kept two bounds: goodput (operations acknowledged, of those offered)
of at least 98 %, and p99 from the intended send time of at most a stated limit. Raj Jain calls that load the *usable
capacity*: The Art of Computer Systems Performance Analysis (1991), chapter 3.3. The other definitions do worse here: the
point of greatest curvature (Satopaa et al., Finding a "Kneedle" in a Haystack, 2011) moves with the last step that was
measured, and the peak of *power* (goodput / mean delay: Kleinrock, 1979) lies at half load for an M/M/1 queue and knows
no tail. A step whose generator was late says nothing about the system, and is not believed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from loadtests.history import Live, Outcome
from loadtests.latency import CORE_LIMIT, LAG_LIMIT_MS, Latencies

OK_SHARE = 0.98
COLLAPSED_SHARE = 0.5
STEPS_BEYOND = 2
"""So many steps beyond the knee are drawn: enough to see the curve bend."""


class Status(StrEnum):
    """Both bounds kept, one broken, or the generator was the bottleneck."""

    WITHIN = "within"
    BEYOND = "beyond"
    GENERATOR = "generator"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a step must keep: p99 in milliseconds from the intended send time, and the share that is acknowledged."""

    p99_ms: float
    ok_share: float = OK_SHARE


@dataclass(frozen=True, slots=True)
class Window:
    """The part of a step that is judged, in seconds on the monotonic clock; what comes before it is warm-up."""

    begin: float
    end: float

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.end - self.begin

    def holds(self, moment: float | None) -> bool:
        """The end belongs to it no longer."""
        return moment is not None and self.begin <= moment < self.end


class Operation(msgspec.Struct, frozen=True):
    """Of a line of the history what is judged here; times as there."""

    intended_at: float
    sent_at: float | None
    done_at: float | None
    attempts: int
    outcome: Outcome


class Step(msgspec.Struct, frozen=True):
    """What came of one rate. Operations are those *intended* in the window; throughput is what was acknowledged in it.

    `attempts` is the mean per operation sent; above 1 the client's own retries are part of the load.
    """

    rate: float
    seconds: float
    operations: int
    ok: int
    fail: int
    unknown: int
    refused: int
    offered_per_second: float
    throughput_per_second: float
    attempts: float | None
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    lag_p99_ms: float | None
    cores: float | None
    status: Status
    reason: str

    @property
    def ok_share(self) -> float:
        """Acknowledged, of what was offered; 0 of nothing."""
        return self.ok / self.operations if self.operations else 0.0


class Knee(msgspec.Struct, frozen=True):
    """Between which steps it lies: `rate` kept the bounds, `beyond` did not; None where no step says so."""

    rate: float | None
    beyond: float | None
    sentence: str

    @property
    def told(self) -> str:
        """`250/s`, `above 400/s`, `below 50/s` or `unknown`."""
        if self.rate is not None:
            return f"{self.rate:g}/s" if self.beyond is not None else f"above {self.rate:g}/s"
        return "unknown" if self.beyond is None else f"below {self.beyond:g}/s"


def measured(
    operations: Sequence[Operation], live: Sequence[Live], rate: float, window: Window, bounds: Bounds
) -> Step:
    """Judge a step by the client's own history. What never ended counts as lasting until the last sign of life."""
    cohort = [one for one in operations if window.holds(one.intended_at)]
    sent = [one for one in cohort if one.sent_at is not None]
    last = max((one.done_at for one in operations if one.done_at is not None), default=window.end)
    latency, lag = Latencies(), Latencies()
    for one in sent:
        latency.record((last if one.done_at is None else one.done_at) - one.intended_at)
        lag.record((one.sent_at or one.intended_at) - one.intended_at)
    used = [line.cores for line in live if line.cores is not None and window.begin <= line.at <= window.end + 1]
    told = {outcome: sum(one.outcome is outcome for one in cohort) for outcome in Outcome}
    acknowledged = sum(one.outcome is Outcome.OK and window.holds(one.done_at) for one in operations)
    step = Step(
        rate=rate,
        seconds=round(window.seconds, 3),
        operations=len(cohort),
        ok=told[Outcome.OK],
        fail=told[Outcome.FAIL],
        unknown=told[Outcome.UNKNOWN],
        refused=len(cohort) - len(sent),
        offered_per_second=round(len(cohort) / window.seconds, 2),
        throughput_per_second=round(acknowledged / window.seconds, 2),
        attempts=round(sum(one.attempts or 1 for one in sent) / len(sent), 3) if sent else None,
        p50_ms=latency.at(50),
        p90_ms=latency.at(90),
        p99_ms=latency.at(99),
        max_ms=latency.longest,
        lag_p99_ms=lag.at(99),
        cores=round(sum(used) / len(used), 3) if used else None,
        status=Status.WITHIN,
        reason="",
    )
    status, reason = judged(step, bounds)
    return msgspec.structs.replace(step, status=status, reason=reason)


def judged(step: Step, bounds: Bounds) -> tuple[Status, str]:
    """The generator first: figures of a late one mean nothing, good or bad."""
    if not step.operations or step.p99_ms is None:
        return Status.GENERATOR, "the generator sent nothing in the part that is judged"
    if step.lag_p99_ms is not None and step.lag_p99_ms > LAG_LIMIT_MS:
        return Status.GENERATOR, f"the generator was late (p99 {step.lag_p99_ms:.0f} ms, limit {LAG_LIMIT_MS:.0f} ms)"
    if step.cores is not None and step.cores > CORE_LIMIT:
        return Status.GENERATOR, f"the generator used {step.cores:.0%} of a core (limit {CORE_LIMIT:.0%})"
    broken = []
    if step.ok_share < bounds.ok_share:
        broken.append(f"goodput {step.ok_share:.1%} of offered, below {bounds.ok_share:.0%}")
    if step.p99_ms > bounds.p99_ms:
        broken.append(f"p99 {step.p99_ms:.0f} ms, above {bounds.p99_ms:g} ms")
    if step.refused:
        broken.append(f"{step.refused} not sent at the in-flight cap")
    return (Status.BEYOND, "; ".join(broken)) if broken else (Status.WITHIN, "")


@dataclass(frozen=True, slots=True)
class Measured:
    """A step that counts, and the first measurement of the same rate if it was measured twice."""

    step: Step
    superseded: Step | None = None


def climb(rates: Sequence[float], perform: Callable[[float], Step]) -> Iterator[Measured]:
    """Measure rate after rate until the curve has bent: two steps beyond the knee, or half of the operations lost.

    The first step that is not within the bounds is measured again, and the better evidence counts: one hiccup of the
    machine is no knee. Two steps in a row whose generator was late end it, too: a faster one would be later still.
    """
    outside: list[Status] = []
    for rate in rates:
        step, superseded = perform(rate), None
        if step.status is not Status.WITHIN and not outside:
            step, superseded = _better(step, perform(rate))
        yield Measured(step, superseded)
        outside = [] if step.status is Status.WITHIN else [*outside, step.status]
        collapsed = step.status is Status.BEYOND and step.ok_share < COLLAPSED_SHARE
        if collapsed or len(outside) >= STEPS_BEYOND:
            return


def _better(first: Step, second: Step) -> tuple[Step, Step]:
    """Which of two measurements counts: the second, unless only the first can be believed."""
    if second.status is Status.GENERATOR and first.status is not Status.GENERATOR:
        return first, second
    return second, first


def knee(steps: Sequence[Step], bounds: Bounds) -> Knee:
    """From one step per rate, in any order."""
    ordered = sorted(steps, key=lambda step: step.rate)
    believed = [step for step in ordered if step.status is not Status.GENERATOR]
    if not believed:
        return Knee(None, None, "No step can be believed: the generator was late in all of them.")
    beyond = next((step.rate for step in believed if step.status is Status.BEYOND), None)
    below = [step.rate for step in believed if beyond is None or step.rate < beyond]
    limits = f"p99 at most {bounds.p99_ms:g} ms and goodput at least {bounds.ok_share:.0%}"
    if not below:
        return Knee(None, beyond, f"The knee lies below the first step: already {beyond:g}/s broke {limits}.")
    rate = below[-1]
    doubtful = [step.rate for step in ordered if step.status is Status.GENERATOR and step.rate > below[0]]
    doubt = [one for one in doubtful if beyond is None or one < beyond]
    note = f" Not believed, as the generator was late: {', '.join(f'{one:g}/s' for one in doubt)}." if doubt else ""
    if beyond is None:
        return Knee(rate, None, f"No knee up to {rate:g}/s: every step that counts kept {limits}.{note}")
    return Knee(rate, beyond, f"The knee is at {rate:g}/s: the last step with {limits}; {beyond:g}/s broke it.{note}")
