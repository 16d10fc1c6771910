"""Does anything grow that should not? Pure: from samples and sizes to findings, in the words of the invariants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from labs.engine.model import Finding
from labs.soak.bounds import DEAD_LETTERS, TABLES, TOPICS, Bound
from labs.soak.samples import Sample, by_life, by_service
from labs.soak.sizes import Sizes
from labs.soak.systems import INFRASTRUCTURE
from labs.soak.trend import Trend, fitted

MIB = 1 << 20
MOST_MEMORY_BYTES = 6 << 30
JUDGED_FROM_MINUTES = 20
"""Below that the second half is too short to tell a leak from caches that fill."""
WARM_UP_SECONDS = 60.0
"""Of each life: imports, pools and caches of a process that has just started."""
STEEPEST_MIB_PER_HOUR = 30.0
VISIBLE_MIB = 5.0
"""Less than this over the whole fit is noise, however steep."""
FILLS_ITS_CACHE = frozenset((*INFRASTRUCTURE, "connect"))
"""Heaps, shared buffers and head blocks grow up to what they are configured to: reported, and bounded by their limit."""
MORE_DESCRIPTORS, TIMES_DESCRIPTORS = 300, 1.5
"""Pools fill when a leader changes or a backlog is worked off: seen were 110 more. Who leaks at each operation is beyond this soon."""
STEEPEST_DESCRIPTORS_PER_HOUR, VISIBLE_DESCRIPTORS = 120.0, 32.0
PARTS = 4
"""Whoever leaks holds more in each part of the second half than in the one before; a pool that fills once does not."""
FEWEST_SAMPLES = 3
LOG_CAP_BYTES = 72 * MIB
"""What the warden leaves (64 MiB) and the part that it keeps beside (8 MiB)."""
LOG_AT_REST_BYTES_PER_SECOND = 20 << 10
ROWS_AT_REST = 5
SLOT_BYTES = 256 * MIB
Moments = tuple[float, float]


@dataclass(frozen=True, slots=True)
class ProcessFigures:
    """One service, from the start of the load to the last sample. Bytes; `trend` is of its memory, in bytes per hour."""

    service: str
    lives: int
    first: int
    last: int
    peak: int
    trend: Trend | None
    descriptors_first: int | None
    descriptors_last: int | None
    judged: bool


def figures(samples: Sequence[Sample], load: Moments, minutes: float) -> list[ProcessFigures]:
    """By service, in alphabetical order, of those that were seen during the load."""
    found = []
    for service, own in sorted(by_service(one for one in samples if one.at >= load[0]).items()):
        found.append(
            ProcessFigures(
                service=service,
                lives=len(by_life(own)),
                first=own[0].memory_bytes,
                last=own[-1].memory_bytes,
                peak=max(one.memory_bytes for one in own),
                trend=memory_trend([one for one in samples if one.service == service], load),
                descriptors_first=own[0].descriptors,
                descriptors_last=own[-1].descriptors,
                judged=minutes >= JUDGED_FROM_MINUTES and service not in FILLS_ITS_CACHE,
            )
        )
    return found


def memory_trend(own: Sequence[Sample], load: Moments) -> Trend | None:
    """Bytes per hour; see `_trend`."""
    return _trend(own, load, lambda one: one.memory_bytes)


def _trend(own: Sequence[Sample], load: Moments, value: Callable[[Sample], int | None]) -> Trend | None:
    """Over the second half of the load, without the first minute of each life. `own` are of one service."""
    middle = (load[0] + load[1]) / 2
    lives = []
    for life in by_life(own):
        warm = [one for one in life if one.at - life[0].at >= WARM_UP_SECONDS or life[0].at <= load[0]]
        points = [(one.at, value(one)) for one in warm if middle <= one.at <= load[1]]
        lives.append([(at, float(number)) for at, number in points if number is not None])
    return fitted(lives)


def is_steep(trend: Trend) -> bool:
    """Whether it is a leak and not noise."""
    grown = trend.per_hour * trend.seconds / 3600
    return trend.per_hour > STEEPEST_MIB_PER_HOUR * MIB and grown > VISIBLE_MIB * MIB


def memory_is_flat(found: Sequence[ProcessFigures]) -> Finding:
    """The memory of no process of ours grows by more than 30 MiB an hour, by a robust fit over the second half."""
    judged = [one for one in found if one.judged]
    fits = [(one, one.trend) for one in judged if one.trend is not None]
    if not fits:
        return Finding.unknown("no process lived long enough for a fit")
    steep = [f"{one.service}: {trend.per_hour / MIB:.0f} MiB/h" for one, trend in fits if is_steep(trend)]
    steepest = max(fits, key=lambda pair: pair[1].per_hour)
    return Finding.of(
        steep, f"{len(fits)} processes; the steepest is {steepest[0].service}, {steepest[1].per_hour / MIB:.1f} MiB/h"
    )


def memory_fits(samples: Sequence[Sample]) -> Finding:
    """All services together never hold more than 6 GiB."""
    totals: dict[float, int] = {}
    for one in samples:
        totals[one.at] = totals.get(one.at, 0) + one.memory_bytes
    if not totals:
        return Finding.unknown("no memory was measured")
    over = [f"at {at:.0f} s: {total / MIB:.0f} MiB" for at, total in totals.items() if total > MOST_MEMORY_BYTES]
    return Finding.of(over, f"at most {max(totals.values()) / MIB:.0f} MiB")


def descriptors_do_not_grow(samples: Sequence[Sample], load: Moments, minutes: float) -> Finding:
    """Late in the load no process has many more files open than early, and from 20 minutes on none has more and more.

    Compared are the medians of the second and of the last quarter; the slope is fitted as that of the memory.
    """
    length = load[1] - load[0]
    early = (load[0] + length / 4, load[0] + length / 2)
    late = (load[0] + length * 3 / 4, load[1])
    grown, compared = [], 0
    for service, own in sorted(by_service(samples).items()):
        before, after = _open(own, early), _open(own, late)
        if len(before) < FEWEST_SAMPLES or len(after) < FEWEST_SAMPLES:
            continue
        compared += 1
        if median(after) > median(before) * TIMES_DESCRIPTORS + MORE_DESCRIPTORS:
            grown.append(f"{service}: {median(before):.0f} to {median(after):.0f}")
        elif minutes >= JUDGED_FROM_MINUTES and service not in FILLS_ITS_CACHE and (more := _more_and_more(own, load)):
            grown.append(f"{service}: {more:.0f} an hour")
    if not compared:
        return Finding.unknown("of no process the open files were seen often enough")
    return Finding.of(grown, f"{compared} processes compared")


def _more_and_more(own: Sequence[Sample], load: Moments) -> float:
    """Open files more per hour; 0 where they do not rise, or by so little that it is noise."""
    trend = _trend(own, load, lambda one: one.descriptors)
    if trend is None or trend.per_hour <= STEEPEST_DESCRIPTORS_PER_HOUR:
        return 0.0
    grown = trend.per_hour * trend.seconds / 3600
    return trend.per_hour if grown > VISIBLE_DESCRIPTORS and _in_every_part(own, load) else 0.0


def _in_every_part(own: Sequence[Sample], load: Moments) -> bool:
    """Of its longest life in the second half each of PARTS has more files open, by the median, than the part before it."""
    middle = (load[0] + load[1]) / 2
    lives = [[one for one in life if middle <= one.at <= load[1]] for life in by_life(own)]
    life = max(lives, key=len, default=[])
    if len(life) < PARTS:
        return False
    begin, part = life[0].at, (life[-1].at - life[0].at) / PARTS
    parts = [_open(life, (begin + number * part, begin + (number + 1) * part)) for number in range(PARTS)]
    return all(later > earlier for earlier, later in pairwise(median(one) for one in parts if one))


def _open(own: Sequence[Sample], between: Moments) -> list[int]:
    return [one.descriptors for one in own if between[0] <= one.at <= between[1] and one.descriptors is not None]


def tables_are_bounded(start: Sizes, end: Sizes, operations: Mapping[str, int]) -> Finding:
    """Each table that grows has a written bound, and has grown by no more than the work explains."""
    grown = {name: table.rows - _rows(start, name) for name, table in end.tables.items()}
    return _bounded(grown, TABLES, operations, end.at - start.at, "rows")


def topics_are_bounded(start: Sizes, end: Sizes, operations: Mapping[str, int]) -> Finding:
    """Each topic is compacted or forgets by time or size, and was written no more than the work explains."""
    endless = [f"{name}: keeps everything for good" for name, topic in end.topics.items() if not topic.bound]
    grown = {
        name: topic.written - (start.topics[name].written if name in start.topics else 0)
        for name, topic in end.topics.items()
        if name not in DEAD_LETTERS
    }
    found = _bounded(grown, TOPICS, operations, end.at - start.at, "records")
    return Finding.of([*endless, *found.offenders], found.note)


def _rows(sizes: Sizes, name: str) -> int:
    return sizes.tables[name].rows if name in sizes.tables else 0


def _bounded(
    grown: Mapping[str, int], bounds: Mapping[str, Bound], operations: Mapping[str, int], seconds: float, unit: str
) -> Finding:
    offenders = []
    for name, more in sorted(grown.items()):
        bound = bounds.get(name)
        if bound is None and more > 0:
            offenders.append(f"{name}: {more} {unit} more, and nobody says what bounds it")
        elif bound is not None and more > (allowed := bound.allowed(operations, seconds)):
            offenders.append(f"{name}: {more} {unit} more, {allowed:.0f} are explained")
    return Finding.of(offenders, f"{sum(more > 0 for more in grown.values())} of {len(grown)} grew")


def nothing_grows_at_rest(settled: Sizes, rest: Sizes) -> Finding:
    """Without load, what grows with the load stands still, and nobody fills a log."""
    found = []
    for name, table in rest.tables.items():
        bound = TABLES.get(name)
        if (bound is None or not bound.a_second) and (more := table.rows - _rows(settled, name)) > ROWS_AT_REST:
            found.append(f"{name}: {more} rows")
    for name, topic in rest.topics.items():
        bound = TOPICS.get(name)
        before = settled.topics[name].written if name in settled.topics else 0
        if (bound is None or not bound.a_second) and topic.written - before > ROWS_AT_REST:
            found.append(f"{name}: {topic.written - before} records")
    seconds = max(rest.at - settled.at, 1.0)
    for name, size in (rest.logs or {}).items():
        rate = (size - (settled.logs or {}).get(name, 0)) / seconds
        if rate > LOG_AT_REST_BYTES_PER_SECOND:
            found.append(f"log of {name}: {rate / 1024:.0f} KiB a second")
    return Finding.of(found, f"{seconds:.0f} s without load")


def outboxes_are_empty(rest: Sizes) -> Finding:
    """What is to be published has been published."""
    drains = [name for name, bound in TABLES.items() if bound.drains]
    if missing := [name for name in drains if name not in rest.tables]:
        return Finding.unknown(f"not measured: {', '.join(missing)}")
    return Finding.of([f"{name}: {rest.tables[name].rows} rows" for name in drains if rest.tables[name].rows])


def dead_letters_are_explained(rest: Sizes, unexplained: Sequence[str]) -> Finding:
    """Nothing was parked that the load does not explain. `unexplained` are deliveries that died without a struck receiver."""
    parked = {name: rest.topics[name].written for name in DEAD_LETTERS if name in rest.topics}
    return Finding.of(
        [*(f"{name}: {number} records" for name, number in parked.items() if number), *unexplained],
        f"{len(parked)} topics of dead letters looked at",
    )


def logs_are_bounded(rest: Sizes) -> Finding:
    """No process's log file is larger than the cap."""
    logs = rest.logs or {}
    return Finding.of(
        [f"{name}: {size / MIB:.0f} MiB" for name, size in sorted(logs.items()) if size > LOG_CAP_BYTES],
        f"{sum(logs.values()) / MIB:.1f} MiB in {len(logs)} files",
    )


def slots_keep_little(rest: Sizes) -> Finding:
    """Change data capture has caught up: the database's log that it keeps from deletion is short."""
    if not rest.slots:
        return Finding.unknown("there is no replication slot")
    return Finding.of(
        [f"{name}: {size / MIB:.0f} MiB" for name, size in rest.slots.items() if size > SLOT_BYTES],
        ", ".join(f"{name} keeps {size / MIB:.1f} MiB" for name, size in rest.slots.items()),
    )
