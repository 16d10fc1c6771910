"""Bodies and answers of the webhooks API."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from services.kit import ids
from services.webhooks.store import AttemptRow, DeliveryRow, Endpoint, EventType, MessageRow

ENDPOINT, MESSAGE, DELIVERY, ATTEMPT, REPLAY = "ep", "msg", "dlv", "att", "rpl"

PAYLOAD_BYTES = 256 * 1024

EventId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=200,
        pattern=r"^[A-Za-z0-9_.:@/+~=-]*\Z",
        description="The event's own id: deduplicates within 30 days",
    ),
]
TypeName = Annotated[
    str, Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*\Z", description="dotted words")
]
Url = Annotated[str, Meta(min_length=1, max_length=2048, description="https:// or http://, a public address")]
Description = Annotated[str, Meta(max_length=500, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
Rate = Annotated[int, Meta(ge=1, le=10_000, description="Attempts a second, by one dispatcher process")]
InFlight = Annotated[int, Meta(ge=1, le=1000, description="Attempts at once, by one dispatcher process")]
Types = Annotated[list[TypeName], Meta(min_length=1, max_length=100, description="null: every type but webhooks.*")]
SecretText = Annotated[str, Meta(min_length=1, max_length=200, description="whsec_ (HMAC-SHA256) or whsk_ (ed25519)")]


class CreateEndpoint(Struct, frozen=True, forbid_unknown_fields=True):
    """Without a secret one is made (`whsec_`, 32 random bytes)."""

    url: Url
    event_types: Types | None = None
    secret: SecretText | None = None
    rate_per_second: Rate | None = None
    max_in_flight: InFlight | None = None
    description: Description | None = None


class ChangeEndpoint(Struct, frozen=True, forbid_unknown_fields=True):
    """What is absent stays."""

    url: Url | UnsetType = UNSET
    event_types: Types | UnsetType | None = UNSET
    rate_per_second: Rate | UnsetType | None = UNSET
    max_in_flight: InFlight | UnsetType | None = UNSET
    description: Description | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET


class RotateSecret(Struct, frozen=True, forbid_unknown_fields=True):
    """An empty object, or no body at all: a secret is made."""

    secret: SecretText | None = None


class PutEventType(Struct, frozen=True, forbid_unknown_fields=True):
    """`schema`: JSON Schema 2020-12 of the payload; null checks nothing."""

    schema: dict[str, Any] | None = None
    description: Description | None = None


class CreateMessage(Struct, frozen=True, forbid_unknown_fields=True):
    """The payload is a JSON object of at most 256 KiB; it is sent as it came, byte by byte."""

    event_id: EventId
    event_type: TypeName
    payload: msgspec.Raw


class Resend(Struct, frozen=True, forbid_unknown_fields=True):
    """To this endpoint, at once, whatever became of it."""

    endpoint: Annotated[str, Meta(max_length=40)]


class CreateReplay(Struct, frozen=True, forbid_unknown_fields=True):
    """Deliveries of messages created in [after, before), or of one message. `dry_run` only counts."""

    endpoint: Annotated[str, Meta(max_length=40)] | None = None
    message: Annotated[str, Meta(max_length=40)] | None = None
    after: Annotated[datetime, Meta(tz=True)] | None = None
    before: Annotated[datetime, Meta(tz=True)] | None = None
    states: Annotated[tuple[Literal["dead", "delivered"], ...], Meta(min_length=1, max_length=2)] = ("dead",)
    dry_run: bool = False
    rate_per_second: Annotated[int, Meta(ge=1, le=10_000)] = 100


class EndpointView(Struct, frozen=True, omit_defaults=False):
    """`secret` stands in the answers to create and rotate only; `public_key` where it is an ed25519 key."""

    id: str
    url: str
    event_types: list[str] | None
    rate_per_second: int | None
    max_in_flight: int | None
    description: str | None
    enabled: bool
    disabled_reason: str | None
    disabled_at: datetime | None
    failing_since: datetime | None
    created_at: datetime
    updated_at: datetime
    secret: str | UnsetType = UNSET
    public_key: str | UnsetType = UNSET


class EventTypeView(Struct, frozen=True):
    name: str
    description: str | None
    schema: msgspec.Raw | None
    created_at: datetime
    updated_at: datetime


class MessageAccepted(Struct, frozen=True):
    """The same for the same event_id, however often it is sent."""

    id: str
    event_id: str
    event_type: str
    created_at: datetime


class DeliveryView(Struct, frozen=True):
    """`next_attempt_at` while it is scheduled, `dead_reason` once it is dead."""

    id: str
    endpoint: str
    state: str
    attempts: int
    next_attempt_at: datetime | None
    dead_reason: str | None
    updated_at: datetime


class MessageView(Struct, frozen=True):
    """`deliveries` holds the first hundred; `delivery_counts` counts all by state."""

    id: str
    event_id: str
    event_type: str
    payload: msgspec.Raw
    created_at: datetime
    delivery_counts: dict[str, int]
    deliveries: list[DeliveryView]


class AttemptView(Struct, frozen=True):
    """`response_body`: what came of the first 4 KiB, undecodable bytes replaced."""

    id: str
    delivery: str
    endpoint: str
    number: int
    started_at: datetime
    finished_at: datetime | None
    outcome: str
    status: int | None
    error: str | None
    response_body: str | None


class ReplayView(Struct, frozen=True):
    """`matched` when it was asked for; `replayed` so far. A dry run has no id."""

    id: str | None
    state: str
    matched: int
    replayed: int
    rate_per_second: int
    created_at: datetime | None = None
    finished_at: datetime | None = None


class Listing(Struct, frozen=True):
    """`next_cursor` is null on the last page."""

    data: list[Any]
    next_cursor: str | None


def endpoint_view(
    endpoint: Endpoint, *, secret: str | UnsetType = UNSET, public: str | UnsetType = UNSET
) -> EndpointView:
    """As its owner sees it."""
    return EndpointView(
        ids.encode(ENDPOINT, endpoint.id),
        endpoint.url,
        endpoint.event_types,
        endpoint.rate_per_second,
        endpoint.max_in_flight,
        endpoint.description,
        endpoint.enabled,
        endpoint.disabled_reason,
        endpoint.disabled_at,
        endpoint.failing_since,
        endpoint.created_at,
        endpoint.updated_at,
        secret,
        public,
    )


def event_type_view(found: EventType) -> EventTypeView:
    """As its owner sees it."""
    schema = None if found.schema is None else msgspec.Raw(found.schema)
    return EventTypeView(found.name, found.description, schema, found.created_at, found.updated_at)


def message_row(row: MessageRow) -> MessageAccepted:
    """For lists."""
    return MessageAccepted(ids.encode(MESSAGE, row.id), row.event_id, row.event_type, row.created_at)


def delivery_view(row: DeliveryRow) -> DeliveryView:
    """One endpoint's delivery."""
    return DeliveryView(
        ids.encode(DELIVERY, row.id),
        ids.encode(ENDPOINT, row.endpoint_id),
        row.state,
        row.attempts,
        row.next_attempt_at,
        row.dead_reason,
        row.updated_at,
    )


def attempt_view(row: AttemptRow) -> AttemptView:
    """A line of the log."""
    body = None if row.response_body is None else row.response_body.decode("utf-8", "replace")
    return AttemptView(
        ids.encode(ATTEMPT, row.id),
        ids.encode(DELIVERY, row.delivery_id),
        ids.encode(ENDPOINT, row.endpoint_id),
        row.number,
        row.started_at,
        row.finished_at,
        row.outcome,
        row.status,
        row.error,
        body,
    )


def first_id(moment: datetime) -> UUID:
    """The least UUIDv7 of this instant, in milliseconds. Raises ValueError before 1970."""
    milliseconds = int(moment.timestamp() * 1000)
    if milliseconds < 0:
        raise ValueError("before 1970")
    return UUID(int=milliseconds << 80)
