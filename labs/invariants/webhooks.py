"""What must hold of webhooks, judged from outside: the client's history, the sender's tables, the receivers' own record.

Imports nothing from the services and has SQL of its own. Receiver n is registered for the event type `lab.group<n mod
GROUPS>`, so an event has to reach ENDPOINTS / GROUPS of them. An offender is `<event> -> <receiver>`, in the order of the load.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from labs.engine.model import Evidence, Finding, NotApplicableError, Outcome, Row

ENDPOINTS = 1000
GROUPS = 125
TYPE_PREFIX = "lab.group"
RECEIVERS_ROLE = "receivers"

RECEIVED = """
SELECT receiver, coalesce(event_id, webhook_id) AS event, count(*) AS times FROM requests
WHERE status BETWEEN 200 AND 299 GROUP BY 1, 2
"""
SEEN = "SELECT DISTINCT receiver, coalesce(event_id, webhook_id) AS event FROM requests"
DELIVERIES = """
SELECT m.event_id AS event, e.url, d.state, d.dead_reason
FROM deliveries d JOIN messages m ON m.id = d.message_id JOIN endpoints e ON e.id = d.endpoint_id
"""
# Attempts of which the sender does not know whether they were taken.
DOUBTFUL = """
SELECT m.event_id AS event, e.url, count(*) AS times
FROM attempts a JOIN deliveries d ON d.id = a.delivery_id
JOIN messages m ON m.id = d.message_id JOIN endpoints e ON e.id = d.endpoint_id
WHERE a.outcome IN ('interrupted', 'timed_out', 'unreachable') GROUP BY 1, 2
"""
# Requests that got no answer at all, and were not taken: the sender's attempt is in doubt, the receiver's record is not.
SILENT = """
SELECT receiver, coalesce(event_id, webhook_id) AS event, count(*) AS times FROM requests WHERE status IS NULL GROUP BY 1, 2
"""
INTERRUPTED = "SELECT count(*) AS times FROM attempts WHERE outcome = 'interrupted'"
UNSIGNED = """
SELECT DISTINCT receiver, coalesce(event_id, webhook_id) AS event FROM requests WHERE NOT verified
"""
SIGNED = "SELECT EXISTS (SELECT FROM requests WHERE verified) AS any"
STORED = "SELECT event_id FROM messages"
OPEN = "SELECT state, count(*) AS times FROM deliveries WHERE state IN ('scheduled', 'in_flight') GROUP BY 1"

ACCOUNTED = frozenset({"scheduled", "in_flight", "dead"})

_URL = re.compile(r"/r/([0-9]+)\Z")
_GROUP = re.compile(re.escape(TYPE_PREFIX) + r"([0-9]+)\Z")

T = TypeVar("T")


@dataclass(frozen=True, slots=True, order=True)
class Pair:
    """An event and a receiver that wants it."""

    event: str
    receiver: int

    def __str__(self) -> str:
        return f"{self.event} -> {self.receiver}"


def type_of(receiver: int) -> str:
    """The event type that a receiver is registered for."""
    return f"{TYPE_PREFIX}{receiver % GROUPS}"


def receivers_of(event_type: str) -> tuple[int, ...]:
    """All that are registered for a type."""
    found = _GROUP.search(event_type)
    if found is None:
        return ()
    return tuple(number for number in range(1, ENDPOINTS + 1) if number % GROUPS == int(found[1]))


def _value(row: Row, name: str, kind: type[T]) -> T:
    value = row[name]
    assert isinstance(value, kind), f"{name} is {type(value).__name__}"
    return value


def _receiver(url: str) -> int:
    found = _URL.search(url)
    return int(found[1]) if found else 0


def _counted(rows: Sequence[Row]) -> dict[Pair, int]:
    return {
        Pair(_value(row, "event", str), _value(row, "receiver", int)): _value(row, "times", int)
        for row in rows
        if row["event"] is not None
    }


def _ordered(evidence: Evidence, pairs: set[Pair]) -> tuple[str, ...]:
    order = {one.key: number for number, one in enumerate(evidence.history)}
    return tuple(str(pair) for pair in sorted(pairs, key=lambda pair: (order.get(pair.event, len(order)), pair)))


def wanted(evidence: Evidence) -> set[Pair]:
    """Every acknowledged event with each of its receivers."""
    return {
        Pair(one.key, receiver)
        for one in evidence.history
        if one.outcome is Outcome.OK
        for receiver in receivers_of(one.result["event_type"])
    }


async def received(evidence: Evidence) -> dict[Pair, int]:
    """How often a receiver took an event (answered 2xx), from the receivers' record."""
    return _counted(await evidence.sql("receivers", RECEIVED))


async def states(evidence: Evidence) -> dict[Pair, str]:
    """What the sender says of each delivery; nothing if it keeps no deliveries."""
    try:
        rows = await evidence.sql("webhooks", DELIVERIES)
    except NotApplicableError:
        return {}
    return {
        Pair(_value(row, "event", str), _receiver(_value(row, "url", str))): _value(row, "state", str) for row in rows
    }


async def every_event_reaches_every_endpoint(evidence: Evidence) -> Finding:
    """An acknowledged event is, for each of its endpoints, received, scheduled, or in the dead letters."""
    got, told = await received(evidence), await states(evidence)
    lost = {pair for pair in wanted(evidence) if pair not in got and told.get(pair) not in ACCOUNTED}
    return Finding.of(_ordered(evidence, lost))


def struck(evidence: Evidence) -> set[int]:
    """The receivers that some fault made misbehave."""
    found: set[int] = set()
    for one in evidence.faults:
        first, count = one.parameters.get("first"), one.parameters.get("count")
        if one.role == RECEIVERS_ROLE and isinstance(first, int) and isinstance(count, int):
            found.update(range(first, first + count))
    return found


async def who_is_well_gets_everything(evidence: Evidence) -> Finding:
    """A receiver that no fault struck has every event: dead letters are for those that were not well."""
    got, ill = await received(evidence), struck(evidence)
    pairs = {pair for pair in wanted(evidence) if pair.receiver not in ill}
    return Finding.of(_ordered(evidence, pairs - got.keys()), f"{len(pairs)} deliveries to receivers that were well")


async def delivered_means_received(evidence: Evidence) -> Finding:
    """What the sender calls delivered is in the receiver's own record."""
    await evidence.sql("webhooks", "SELECT FROM deliveries LIMIT 0")
    got = await received(evidence)
    told = await states(evidence)
    return Finding.of(
        _ordered(evidence, {pair for pair, state in told.items() if state == "delivered" and pair not in got})
    )


async def nothing_received_unasked(evidence: Evidence) -> Finding:
    """No receiver saw an event that the client never sent, or one of a type that it does not want."""
    types = {one.key: one.result.get("event_type") for one in evidence.history}
    odd = set()
    for row in await evidence.sql("receivers", SEEN):
        pair = Pair(str(row["event"]), _value(row, "receiver", int))
        kind = types.get(pair.event)
        if pair.event not in types or (kind is not None and kind != type_of(pair.receiver)):
            odd.add(pair)
    return Finding.of(_ordered(evidence, odd))


async def doubtful(evidence: Evidence) -> dict[Pair, int]:
    """Attempts that were cut off by a kill, timed out or broke off, without those that the receiver says it did not take.

    Raises NotApplicableError.
    """
    silent = _counted(await evidence.sql("receivers", SILENT))
    told = {
        Pair(_value(row, "event", str), _receiver(_value(row, "url", str))): _value(row, "times", int)
        for row in await evidence.sql("webhooks", DOUBTFUL)
    }
    return {pair: max(0, times - silent.get(pair, 0)) for pair, times in told.items()}


async def duplicates_are_explained(evidence: Evidence) -> Finding:
    """Received more than once only if that many more attempts were cut off by a kill, timed out, or broke off."""
    allowed, got = await doubtful(evidence), await received(evidence)
    return Finding.of(_ordered(evidence, {pair for pair, times in got.items() if times - 1 > allowed.get(pair, 0)}))


async def every_signature_verifies(evidence: Evidence) -> Finding:
    """Each request, retries and repeats too, carries a fresh signature by its receiver's secret."""
    (row,) = await evidence.sql("receivers", SIGNED)
    if not row["any"]:
        return Finding.not_applicable("it does not sign")
    rows = await evidence.sql("receivers", UNSIGNED)
    return Finding.of(_ordered(evidence, {Pair(str(row["event"]), _value(row, "receiver", int)) for row in rows}))


async def still_open(evidence: Evidence) -> str:
    """Empty once no delivery is due, waiting or under way."""
    try:
        rows = await evidence.sql("webhooks", OPEN)
    except NotApplicableError:
        return ""
    return ", ".join(f"{_value(row, 'times', int)} {_value(row, 'state', str)}" for row in rows)


async def events_found(evidence: Evidence) -> Mapping[str, int]:
    """Events that the sender has stored."""
    return {_value(row, "event_id", str): 1 for row in await evidence.sql("webhooks", STORED)}


@dataclass(frozen=True, slots=True)
class Counts:
    """How the deliveries of acknowledged events ended, and how many requests were one too many.

    `allowed` bounds `duplicates`: attempts in flight at a kill, timed out or broken off, to those who took the event at all.
    It and `interrupted`, those in flight at a kill, are None where the sender logs no attempts.
    """

    wanted: int
    received: int
    dead: int
    scheduled: int
    lost: int
    duplicates: int
    interrupted: int | None
    allowed: int | None


async def count(evidence: Evidence) -> Counts:
    """For the report."""
    pairs, got, told = wanted(evidence), await received(evidence), await states(evidence)
    missing = Counter(told.get(pair, "lost") for pair in pairs if pair not in got)
    interrupted = allowed = None
    try:
        (row,) = await evidence.sql("webhooks", INTERRUPTED)
        interrupted = _value(row, "times", int)
        allowed = sum(times for pair, times in (await doubtful(evidence)).items() if pair in got)
    except NotApplicableError:
        pass
    return Counts(
        wanted=len(pairs),
        received=sum(pair in got for pair in pairs),
        dead=missing["dead"],
        scheduled=missing["scheduled"] + missing["in_flight"],
        lost=missing["lost"] + missing["delivered"],
        duplicates=sum(times - 1 for times in got.values()),
        interrupted=interrupted,
        allowed=allowed,
    )
