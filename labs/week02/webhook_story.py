"""What happened to one event on its way to one receiver, from the stores: for the page that explains an offender."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from labs.engine import Evidence, NotApplicableError, Operation, Outcome, Row, StoryLine

REQUESTS = """
SELECT at, status, verified, behaviour FROM requests
WHERE receiver = $1 AND coalesce(event_id, webhook_id) = $2 ORDER BY id
"""
ATTEMPTS = """
SELECT a.number, a.started_at, a.finished_at, a.outcome, a.status, a.error
FROM attempts a JOIN deliveries d ON d.id = a.delivery_id
JOIN messages m ON m.id = d.message_id JOIN endpoints e ON e.id = d.endpoint_id
WHERE m.event_id = $2 AND e.url LIKE '%/r/' || $1::integer ORDER BY a.number
"""
DELIVERY = """
SELECT d.state, d.dead_reason, d.created_at, d.updated_at
FROM deliveries d JOIN messages m ON m.id = d.message_id JOIN endpoints e ON e.id = d.endpoint_id
WHERE m.event_id = $2 AND e.url LIKE '%/r/' || $1::integer
"""
NAIVE_MESSAGE = "SELECT created_at FROM messages WHERE event_id = $1"


def _line(evidence: Evidence, row: Row, column: str, who: str, what: str) -> list[StoryLine]:
    moment = row[column]
    return [StoryLine(evidence.since_start(moment), who, what)] if isinstance(moment, datetime) else []


def _client_lines(one: Operation) -> list[StoryLine]:
    """What the publisher did and was told."""
    sent = [] if one.sent_at is None else [StoryLine(one.sent_at, "client", "publishes the event")]
    told = {Outcome.OK: f"is told {one.status}: taken", Outcome.FAIL: f"is told no: {one.error}"}
    if one.done_at is None:
        return sent
    return [*sent, StoryLine(one.done_at, "client", told.get(one.outcome, f"gives up, not knowing: {one.error}"))]


async def story(evidence: Evidence, offender: str) -> Sequence[StoryLine]:
    """`<event> -> <receiver>`, as the invariants name them."""
    event, _, number = offender.partition(" -> ")
    receiver = int(number)
    lines = [line for one in evidence.history if one.key == event for line in _client_lines(one)]
    for row in await evidence.sql("receivers", REQUESTS, receiver, event):
        answer = f"answers {row['status']}" if row["status"] else "does not answer"
        struck = f", being {row['behaviour']}" if row["behaviour"] else ""
        lines += _line(evidence, row, "at", "receiver", f"records the request and {answer}{struck}")
    for row in await evidence.sql("webhooks", NAIVE_MESSAGE, event):
        lines += _line(evidence, row, "created_at", "sender", "stores the event")
    return [*lines, *await _deliveries(evidence, receiver, event)]


async def _deliveries(evidence: Evidence, receiver: int, event: str) -> list[StoryLine]:
    try:
        attempts = await evidence.sql("webhooks", ATTEMPTS, receiver, event)
        deliveries = await evidence.sql("webhooks", DELIVERY, receiver, event)
    except NotApplicableError:
        return []
    lines: list[StoryLine] = []
    for row in attempts:
        reason = f": {row['error']}" if row["error"] else ""
        lines += _line(evidence, row, "started_at", "sender", f"attempt {row['number']}: {row['outcome']}{reason}")
    for row in deliveries:
        reason = f" ({row['dead_reason']})" if row["dead_reason"] else ""
        lines += _line(evidence, row, "updated_at", "sender", f"the delivery is {row['state']}{reason} from here on")
    return lines
