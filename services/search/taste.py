"""What people like, read from the click log: each process follows the whole topic and keeps what the last weeks said.

Nothing is kept elsewhere, so that no second copy can contradict the log. A process that starts reads the last weeks again; until
it is through, people are ranked for as strangers are, which costs them nothing that they would notice as wrong.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from services.contracts.search import Click
from services.kit import kafka
from services.patterns.backoff import Backoff
from services.search import metrics
from services.search.ranking import Affinity, Experiment, Interaction, Kind, personal
from services.search.ranking.personal import NOBODY

log = logging.getLogger(__name__)

EVENTS_OF_ONE = 50
"""Older ones of the same person fall out: after a fortnight an event counts half."""
REMEMBERED_IDS = 100_000
POLL_MS = 500
PAUSES = Backoff(1.0, 30.0)


@dataclass(slots=True)
class Tastes:
    """Of at most `most` people, those heard of last. `experiment` decides which ranking they see; None: none does."""

    most: int
    now: Callable[[], datetime]
    experiment: Experiment | None = None
    _people: OrderedDict[str, deque[Interaction]] = field(default_factory=OrderedDict)
    _seen: OrderedDict[str, None] = field(default_factory=OrderedDict)

    def affinity(self, user: str) -> Affinity:
        """NOBODY for a stranger."""
        events = self._people.get(user)
        return personal(events, self.now()) if events else NOBODY

    def ranking(self, user: str) -> str | None:
        """None: no experiment decides."""
        return self.experiment.arm(user) if self.experiment is not None else None

    def note(self, event: str, click: Click) -> None:
        """Take an event, by its id once only."""
        if event in self._seen:
            metrics.TASTE_EVENTS.labels("doubled").inc()
            return
        self._seen[event] = None
        if len(self._seen) > REMEMBERED_IDS:
            self._seen.popitem(last=False)
        if click.brand_id is None or click.category is None:
            metrics.TASTE_EVENTS.labels("unusable").inc()
            return
        events = self._people.setdefault(click.person, deque(maxlen=EVENTS_OF_ONE))
        events.append(Interaction(Kind(click.kind), click.brand_id, click.category, click.at))
        self._people.move_to_end(click.person)
        if len(self._people) > self.most:
            self._people.popitem(last=False)
        metrics.TASTE_EVENTS.labels("used").inc()
        metrics.TASTE_PEOPLE.set(len(self._people))

    def read(self, event: str | None, value: bytes | None) -> None:
        """A record of the log; one that cannot be read says nothing of anybody."""
        try:
            click = msgspec.json.decode(value or b"", type=Click)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            metrics.TASTE_EVENTS.labels("unusable").inc()
            return
        if event is None or click.at.tzinfo is None:
            metrics.TASTE_EVENTS.labels("unusable").inc()
            return
        self.note(event, click)


async def follow(tastes: Tastes, bootstrap: str, topic: str, back: timedelta) -> None:
    """Read the whole topic from `back` ago and then on, until cancelled. A broker that is away is asked again."""
    chance, failures = Random(), 0  # noqa: S311  not for secrets
    while True:
        began = asyncio.get_running_loop().time()
        try:
            await _session(tastes, bootstrap, topic, back)
        except (KafkaError, TimeoutError, OSError) as error:
            log.warning("the click log cannot be read", extra={"error": type(error).__name__})
        failures = 0 if asyncio.get_running_loop().time() - began > PAUSES.cap else failures + 1
        await asyncio.sleep(PAUSES.delay(failures, chance))


async def _session(tastes: Tastes, bootstrap: str, topic: str, back: timedelta) -> None:
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        client_id="search-taste",
        metadata_max_age_ms=10_000,
    )
    try:
        async with asyncio.timeout(15):
            await consumer.start()
            await begin(consumer, tastes.now() - back)
        while True:
            for records in (await consumer.getmany(timeout_ms=POLL_MS, max_records=1000)).values():
                for record in records:
                    tastes.read(kafka.header(record.headers, "ce_id"), record.value)
    finally:
        await kafka.stop(consumer)


async def begin(consumer: AIOKafkaConsumer, since: datetime) -> None:
    """Have a consumer without a group read all partitions from `since` on. Raises KafkaError if there is no such topic."""
    partitions: list[TopicPartition] = sorted(consumer.assignment())
    if not partitions:
        raise KafkaError("there is no such topic yet")
    # The ends come first: what is written between the two questions is behind them, and read.
    ends = await consumer.end_offsets(partitions)
    found = await consumer.offsets_for_times(dict.fromkeys(partitions, int(since.timestamp() * 1000)))
    for partition in partitions:
        first = found.get(partition)
        consumer.seek(partition, ends[partition] if first is None else first.offset)
