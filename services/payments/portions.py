"""A settlement file in portions, each small enough to be compared by itself, so that a day of a million lines fits.

A line beside the operation it belongs to takes more than a kilobyte as objects, packed it takes 150 to 300 bytes. So lines are kept
packed, by the second in which their operation began, which its id tells; a portion is a run of seconds. Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zlib import crc32

import msgspec

from services.kit import ids
from services.payments.domain import OPERATION_PREFIX
from services.payments.reconcile import Line

PORTION_LINES = 2_000
SECOND_MS = 1_000
STRAY_BUCKETS = 1_024
"""Of lines that name no operation of these days; each with all that could be its doubles."""
_PACKED = tuple[str, str, str, int, str, datetime]
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(_PACKED).decode


@dataclass(frozen=True, slots=True)
class Portion:
    """What the file says of all operations that began between two moments (the second is not meant any more).

    `began` is None: what it says of others than those of its day and of the day before.
    """

    packed: tuple[bytes, ...]
    began: tuple[datetime, datetime] | None

    def lines(self) -> Iterator[Line]:
        """In the file's order within a second."""
        for each in self.packed:
            yield Line(*_unpack(each))


def split(day: date, lines: Iterable[Line], size: int = PORTION_LINES) -> list[Portion]:
    """Portions of `size` lines or a few more, one second's at the least. Together they span the day and the one before.

    An operation that began yesterday may have been decided today.
    """
    first, end = _second(day - timedelta(days=1)), _second(day + timedelta(days=1))
    own: defaultdict[int, list[bytes]] = defaultdict(list)
    strays: defaultdict[int, list[bytes]] = defaultdict(list)
    for line in lines:
        second = _began(line.reference)
        packed = _pack((line.charge_id, line.reference, line.kind, line.amount, line.currency, line.settled_at))
        if second is not None and first <= second < end:
            own[second].append(packed)
        else:
            strays[crc32((line.reference or line.charge_id).encode()) % STRAY_BUCKETS].append(packed)
    portions, begin = [], first
    for last, packed_lines in _runs(own, size):
        portions.append(Portion(packed_lines, (_moment(begin), _moment(last + 1))))
        begin = last + 1
    if begin < end:
        portions.append(Portion((), (_moment(begin), _moment(end))))
    return portions + [Portion(packed_lines, None) for _, packed_lines in _runs(strays, size)]


def _runs(buckets: Mapping[int, list[bytes]], size: int) -> Iterator[tuple[int, tuple[bytes, ...]]]:
    """(The last bucket's number, the lines) of runs of buckets with `size` lines or more, but for the last one."""
    gathered: list[bytes] = []
    for number in sorted(buckets):
        gathered += buckets[number]
        if len(gathered) >= size:
            yield number, tuple(gathered)
            gathered = []
    if gathered:
        yield max(buckets), tuple(gathered)


def _began(reference: str) -> int | None:
    operation = ids.decode(OPERATION_PREFIX, reference)
    return None if operation is None else (operation.int >> 80) // SECOND_MS


def _moment(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)


def _second(day: date) -> int:
    return int(datetime.combine(day, time(), UTC).timestamp())
