"""What must hold of a chain whose last hop becomes slow, judged from outside: the client's history and the bank's record.

Imports nothing from the services. Offenders are merchant references. A payment's source is `tok_<reference>`; the bank logs
each charge twice, when it joins the queue (`arrived`) and when a worker has served it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence

from hdrh.histogram import HdrHistogram

from labs.engine.model import Evidence, Figure, Finding, NotApplicableError, Operation, Outcome

BUDGET_SECONDS = 1.0
"""What the client grants for one operation."""
BUDGET_SLACK_SECONDS = 0.05
LATE_AT_MOST = 0.01
MOST_REQUESTS_PER_OPERATION = 1.1
RECOVERED_WITHIN_SECONDS = 10.0
LOAD_AFTER_HEAL_SECONDS = 8.0
"""With less load than this after the heal nothing is judged."""
WINDOW_SECONDS = 3.0
HEALTHY_SHARE = 0.95
LAST_SECONDS = 5.0

ARRIVALS = """
SELECT source, count(*) AS arrived FROM requests
WHERE path = '/v1/charges' AND outcome = 'arrived' AND source IS NOT NULL GROUP BY source
"""
QUESTIONS = "SELECT count(*) AS asked FROM requests WHERE path LIKE '/v1/operations/%'"


async def arrivals(evidence: Evidence) -> Mapping[str, int]:
    """How many requests to charge reached the bank, by merchant reference."""
    found = {}
    for row in await evidence.sql("bank", ARRIVALS):
        source, arrived = row["source"], row["arrived"]
        if not isinstance(source, str) or not isinstance(arrived, int):
            raise TypeError("the bank's record has other columns than this checker expects")
        found[source.removeprefix("tok_")] = arrived
    return found


def sent(operations: Sequence[Operation]) -> list[Operation]:
    """Without those that the generator itself never sent."""
    return [operation for operation in operations if operation.sent_at is not None]


def healed_at(evidence: Evidence) -> float:
    """When the last fault was taken back. Raises NotApplicableError where there was none."""
    moments = [fault.healed_at for fault in evidence.faults if fault.healed_at is not None]
    if not moments:
        raise NotApplicableError("no fault was healed")
    return max(moments)


def sick_windows(operations: Sequence[Operation], start: float) -> list[tuple[float, bool]]:
    """Each window of WINDOW_SECONDS that begins with an operation at `start` or later: its beginning, and whether it is sick.

    Sick: fewer than HEALTHY_SHARE of its operations ended ok. Only windows that the load filled.
    """
    times = [operation.intended_at for operation in operations]
    good = [0]
    for operation in operations:
        good.append(good[-1] + (operation.outcome is Outcome.OK))
    windows = []
    for first in range(bisect_left(times, start), len(times)):
        if times[first] + WINDOW_SECONDS > times[-1]:
            break
        end = bisect_left(times, times[first] + WINDOW_SECONDS)
        windows.append((times[first], good[end] - good[first] < HEALTHY_SHARE * (end - first)))
    return windows


def recovery_seconds(operations: Sequence[Operation], healed: float) -> float | None:
    """From the heal until all windows of 3 s are healthy for good; None if the last one is not, or there is none."""
    windows = sick_windows(operations, healed)
    if not windows or windows[-1][1]:
        return None
    sick = [number for number, (_, is_sick) in enumerate(windows) if is_sick]
    return windows[sick[-1] + 1][0] - healed if sick else 0.0


async def recovers_within_10s_of_heal(evidence: Evidence) -> Finding:
    """From 10 s after the bank is fast again, 95 % of the operations of every 3 s end ok.

    A short run holds its load for less than 13 s. It is judged earlier, over its last seconds: the harder claim.
    """
    operations, healed = sent(evidence.history), healed_at(evidence)
    loaded = operations[-1].intended_at - healed if operations else 0.0
    if loaded < LOAD_AFTER_HEAL_SECONDS:
        return Finding.unknown(f"the load ended less than {LOAD_AFTER_HEAL_SECONDS:g} s after the heal")
    windows = sick_windows(operations, healed + min(RECOVERED_WITHIN_SECONDS, loaded - WINDOW_SECONDS - 0.5))
    offenders: dict[str, None] = {}
    times = [operation.intended_at for operation in operations]
    for start in (start for start, is_sick in windows if is_sick):
        for operation in operations[bisect_left(times, start) : bisect_left(times, start + WINDOW_SECONDS)]:
            if operation.outcome is not Outcome.OK:
                offenders[operation.key] = None
    after = recovery_seconds(operations, healed_at(evidence))
    note = "never again while the load lasted" if after is None else f"healthy {after:.1f} s after the heal"
    return Finding.of(list(offenders), note)


async def bank_is_not_amplified(evidence: Evidence) -> Finding:
    """The bank is asked to charge at most 1.1 times for each operation of the client, over the whole trial."""
    operations = sent(evidence.history)
    if not operations:
        return Finding.unknown("the client sent nothing")
    arrived = await arrivals(evidence)
    ratio = sum(arrived.values()) / len(operations)
    if ratio <= MOST_REQUESTS_PER_OPERATION:
        return Finding.of([], f"{ratio:.2f} requests per operation")
    again = sorted(key for key, times in arrived.items() if times > 1)
    return Finding.of(again, f"{ratio:.1f} requests per operation, {max(arrived.values())} for one of them")


async def edge_answers_within_budget(evidence: Evidence) -> Finding:
    """99 of 100 operations end within the client's budget of 1 s and 50 ms, counted from the intended send."""
    operations = sent(evidence.history)
    late = [operation for operation in operations if _late(operation)]
    if len(late) <= LATE_AT_MOST * len(operations):
        return Finding.of([], f"{len(late)} of {len(operations)} were late")
    ended = [operation.latency for operation in late if operation.latency is not None]
    return Finding.of([operation.key for operation in late], f"up to {max(ended):.1f} s" if ended else "")


def _late(operation: Operation) -> bool:
    return operation.latency is None or operation.latency > BUDGET_SECONDS + BUDGET_SLACK_SECONDS


async def figures(evidence: Evidence) -> Sequence[Figure]:
    """Amplification at the bank, latency at the edge, recovery."""
    operations = sent(evidence.history)
    arrived = await arrivals(evidence)
    healed = healed_at(evidence)
    failed = [arrived[operation.key] for operation in operations if _failed_in_vain(operation, arrived)]
    last = [one for one in operations if one.intended_at > operations[-1].intended_at - LAST_SECONDS]
    asked = (await evidence.sql("bank", QUESTIONS))[0]["asked"]
    record, history = "the bank's record", "client history, from the intended send"
    return (
        Figure("requests at the bank per operation", _ratio(sum(arrived.values()), len(operations)), "×", record,
               limit=MOST_REQUESTS_PER_OPERATION),
        Figure("the same, operations that reached it and failed", _ratio(sum(failed), len(failed)), "×", record),
        Figure("questions to the bank per operation", _ratio(int(str(asked)), len(operations)), "×", record),
        Figure("latency at the edge, p99", _p99_ms(operations), "ms", history,
               limit=(BUDGET_SECONDS + BUDGET_SLACK_SECONDS) * 1000),
        Figure("healthy after the heal", recovery_seconds(operations, healed), "s", history,
               limit=RECOVERED_WITHIN_SECONDS),
        Figure(f"ok in the last {LAST_SECONDS:g} s of load",
               _ratio(100 * sum(one.outcome is Outcome.OK for one in last), len(last)), "%", history),
        Figure("load after the heal", operations[-1].intended_at - healed, "s", history),
    )  # fmt: skip


def _failed_in_vain(operation: Operation, arrived: Mapping[str, int]) -> bool:
    return operation.outcome is not Outcome.OK and operation.key in arrived


def _ratio(some: float, all_of_them: int) -> float | None:
    return round(some / all_of_them, 2) if all_of_them else None


def _p99_ms(operations: Sequence[Operation]) -> float | None:
    histogram = HdrHistogram(1, 600_000_000, 3)
    ended = [operation.latency for operation in operations if operation.latency is not None]
    for latency in ended:
        histogram.record_value(max(1, int(latency * 1e6)))
    return round(histogram.get_value_at_percentile(99) / 1000, 1) if ended else None
