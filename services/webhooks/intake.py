"""From an event to a stored message: the rules that hold for the API and for the Kafka source alike."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from jsonschema import Draft202012Validator

from services.kit import ids
from services.kit.clock import Clock
from services.patterns.idempotency import fingerprint
from services.webhooks import metrics, payload_schema, problems
from services.webhooks.schemas import MESSAGE, PAYLOAD_BYTES
from services.webhooks.store import Accepted, EndpointStore, MessageStore, NewMessage, StoreUnavailable

log = logging.getLogger(__name__)

SCHEMA_SECONDS = 5.0
"""How long a process may go on with a schema that was replaced elsewhere."""
SCHEMAS = 10_000
INLINE_BYTES = 4 * 1024
"""Larger payloads are checked in a thread, so that others' requests go on."""
RESERVED = "webhooks."
BACKLOG_SECONDS = 1.0
BACKLOG_SHARE = 20
"""The count rests so many times as long as it took."""


@dataclass(slots=True)
class Schemas:
    """Compiled schemas by application and type. None: the type has no schema."""

    store: EndpointStore
    clock: Clock
    _known: dict[tuple[str, str], tuple[Draft202012Validator | None, float]] = field(default_factory=dict)

    async def of(self, application: str, event_type: str) -> Draft202012Validator | None:
        """Raises StoreUnavailable."""
        now = self.clock.monotonic()
        known = self._known.get((application, event_type))
        if known is not None and known[1] > now:
            return known[0]
        schema = await self.store.schema(application, event_type)
        validator = None if schema is None else payload_schema.compiled(schema)
        if len(self._known) >= SCHEMAS:
            self._known.clear()
        self._known[application, event_type] = (validator, now + SCHEMA_SECONDS)
        return validator

    def forget(self, application: str, event_type: str) -> None:
        """Its schema was replaced here."""
        self._known.pop((application, event_type), None)


async def prepare(
    schemas: Schemas, application: str, event_id: str, event_type: str, payload: bytes, traceparent: str | None
) -> NewMessage:
    """Raises PayloadTooLarge, PayloadNotFitting, ReservedType, and Problem 422 for a payload that is no object."""
    if event_type.startswith(RESERVED):
        raise problems.ReservedType
    if len(payload) > PAYLOAD_BYTES:
        raise problems.PayloadTooLarge(PAYLOAD_BYTES)
    if not payload.lstrip()[:1] == b"{":
        raise problems.PayloadNotFitting("", "type object")
    validator = await schemas.of(application, event_type)
    if validator is not None:
        try:
            if len(payload) <= INLINE_BYTES:
                payload_schema.check(validator, payload)
            else:
                await asyncio.to_thread(payload_schema.check, validator, payload)
        except payload_schema.NotFitting as error:
            raise problems.PayloadNotFitting(error.place, error.rule) from None
    try:
        mark = fingerprint(event_type, payload)
    except ValueError:
        raise problems.PayloadNotFitting("", "nesting") from None
    return NewMessage(ids.uuid7(), application, event_id, event_type, payload, mark, traceparent)


def same(message: NewMessage, stored: Accepted) -> Accepted:
    """Raises EventIdReused if the event id stands for other content."""
    if stored.fingerprint != message.fingerprint:
        raise problems.EventIdReused(ids.encode(MESSAGE, stored.id))
    return stored


@dataclass(slots=True)
class Backlog:
    """Scheduled deliveries by application: counted now and then, and what was taken in since is added by guess.

    A bound that may be overrun by a second's worth, not a count to the row.
    """

    limit: int
    _counts: dict[str, int] = field(default_factory=dict)

    def counted(self, counts: Mapping[str, int]) -> None:
        """The truth of a moment ago."""
        self._counts = dict(counts)

    def full(self, application: str) -> bool:
        """No more may be taken in."""
        return self._counts.get(application, 0) >= self.limit

    def took(self, application: str) -> None:
        """A message was taken in."""
        self._counts[application] = self._counts.get(application, 0) + 1

    @property
    def total(self) -> int:
        """Of all applications."""
        return sum(self._counts.values())


async def keep_counting(messages: MessageStore, backlog: Backlog, clock: Clock) -> None:
    """Keep the backlog's count true, as often as the count is cheap."""
    while True:
        began = clock.monotonic()
        try:
            backlog.counted(await messages.backlog())
            metrics.BACKLOG.set(backlog.total)
        except StoreUnavailable as error:
            log.warning("the database is away", extra={"error": str(error)})
        await asyncio.sleep(max(BACKLOG_SECONDS, (clock.monotonic() - began) * BACKLOG_SHARE))
