"""One function per command."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from services.kit import ids, ssrf, tracing
from services.kit.clock import Clock
from services.kit.errors import Unavailable
from services.patterns.idempotency import fingerprint
from services.webhooks import intake, metrics, payload_schema, problems
from services.webhooks.intake import Backlog, Schemas
from services.webhooks.keys import Key, Keyring, SealBroken, rotated
from services.webhooks.publisher import Publisher
from services.webhooks.schemas import (
    ENDPOINT,
    MESSAGE,
    REPLAY,
    ChangeEndpoint,
    CreateEndpoint,
    CreateMessage,
    CreateReplay,
    DeliveryView,
    EndpointView,
    EventTypeView,
    MessageAccepted,
    MessageView,
    PutEventType,
    ReplayView,
    RotateSecret,
    delivery_view,
    endpoint_view,
    event_type_view,
    first_id,
)
from services.webhooks.settings import WebhooksSettings
from services.webhooks.signing import KeyFormatError, PrivateKey, Secret, parse_signing_key
from services.webhooks.store import (
    DeliveryRow,
    Endpoint,
    EndpointStore,
    MessageStore,
    Replay,
    ReplayStore,
    Selection,
)
from services.webhooks.store import TooManyEndpoints as StoreTooManyEndpoints

DELIVERIES_SHOWN = 100
ROTATIONS_AT_ONCE = 10
"""How often a rotation begins anew when another one of the same endpoint came first."""
LAST_ID = UUID(int=(1 << 128) - 1)


@dataclass(frozen=True, slots=True)
class Context:
    """What the commands work with."""

    endpoints: EndpointStore
    messages: MessageStore
    replays: ReplayStore
    publisher: Publisher
    schemas: Schemas
    backlog: Backlog
    keyring: Keyring
    policy: ssrf.Policy
    clock: Clock
    settings: WebhooksSettings


async def create_endpoint(context: Context, application: str, wanted: CreateEndpoint) -> EndpointView:
    """Raises ForbiddenUrl, InvalidSecret, TooManyEndpoints."""
    key = _new_key(wanted.secret)
    identity, now = ids.uuid7(), context.clock.now()
    new = Endpoint(
        id=identity,
        application_id=application,
        url=_allowed(context, wanted.url),
        description=wanted.description,
        event_types=wanted.event_types,
        secrets=context.keyring.seal(identity, [Key(key)]),
        rate_per_second=wanted.rate_per_second,
        max_in_flight=wanted.max_in_flight,
        enabled=True,
        disabled_reason=None,
        disabled_at=None,
        failing_since=None,
        created_at=now,
        updated_at=now,
    )
    try:
        made = await context.endpoints.create(new, context.settings.max_endpoints)
    except StoreTooManyEndpoints:
        raise problems.TooManyEndpoints(context.settings.max_endpoints) from None
    return endpoint_view(made, secret=key, public=_public(key))


async def get_endpoint(context: Context, application: str, endpoint: UUID) -> EndpointView:
    """Raises NoSuchEndpoint."""
    found = await existing(context, application, endpoint)
    keys = readable_keys(context, found)
    return endpoint_view(found, public=_public(keys[0].text) if keys else UNSET)


def readable_keys(context: Context, endpoint: Endpoint) -> list[Key]:
    """Newest first; none if they were sealed under another WEBHOOKS_SECRETS_KEY, until they are rotated."""
    try:
        return context.keyring.open(endpoint.id, endpoint.secrets)
    except SealBroken:
        return []


async def existing(context: Context, application: str, endpoint: UUID) -> Endpoint:
    """Raises NoSuchEndpoint, also for one of another application."""
    found = await context.endpoints.get(application, endpoint)
    if found is None:
        raise problems.NoSuchEndpoint
    return found


async def list_endpoints(
    context: Context, application: str, after: UUID | None, limit: int
) -> tuple[list[EndpointView], str | None]:
    """A page, and the cursor of the next."""
    found = await context.endpoints.many(application, after, limit + 1)
    cursor = ids.encode(ENDPOINT, found[limit - 1].id) if len(found) > limit else None
    return [endpoint_view(each) for each in found[:limit]], cursor


async def change_endpoint(context: Context, application: str, endpoint: UUID, wanted: ChangeEndpoint) -> EndpointView:
    """Raises NoSuchEndpoint, ForbiddenUrl. Two at once: the later one wins whole."""
    found = await existing(context, application, endpoint)
    changes = {name: value for name in wanted.__struct_fields__ if (value := getattr(wanted, name)) is not UNSET}
    if "url" in changes:
        changes["url"] = _allowed(context, changes["url"])
    changed = await context.endpoints.update(dataclasses.replace(found, **changes), enabled=changes.get("enabled"))
    if changed is None:
        raise problems.NoSuchEndpoint
    return endpoint_view(changed)


async def delete_endpoint(context: Context, application: str, endpoint: UUID) -> None:
    """Raises NoSuchEndpoint."""
    if not await context.endpoints.delete(application, endpoint):
        raise problems.NoSuchEndpoint


async def rotate_secret(context: Context, application: str, endpoint: UUID, wanted: RotateSecret) -> EndpointView:
    """The old key goes on signing beside the new one for a while. Raises NoSuchEndpoint, InvalidSecret."""
    key = _new_key(wanted.secret)
    for _ in range(ROTATIONS_AT_ONCE):
        found = await existing(context, application, endpoint)
        now = context.clock.now().timestamp()
        keys = rotated(readable_keys(context, found), key, now, context.settings.rotation_seconds)
        changed = await context.endpoints.replace_secrets(found, context.keyring.seal(found.id, keys))
        if changed is not None:
            return endpoint_view(changed, secret=key, public=_public(key))
    raise Unavailable("The secret is being rotated by others; send the same request again.")


async def put_event_type(context: Context, application: str, name: str, wanted: PutEventType) -> EventTypeView:
    """Raises InvalidSchema, ReservedType."""
    if name.startswith(intake.RESERVED):
        raise problems.ReservedType
    try:
        schema = None if wanted.schema is None else payload_schema.check_schema(wanted.schema)
    except payload_schema.SchemaRefused as error:
        raise problems.InvalidSchema(str(error)) from None
    stored = await context.endpoints.put_event_type(application, name, wanted.description, schema)
    context.schemas.forget(application, name)
    return event_type_view(stored)


async def create_message(context: Context, application: str, wanted: CreateMessage) -> MessageAccepted:
    """Raises BacklogFull, EventIdReused and what `intake.prepare` raises."""
    if context.backlog.full(application):
        metrics.SHED.labels("backlog").inc()
        raise problems.BacklogFull(context.settings.max_backlog)
    message = await intake.prepare(
        context.schemas,
        application,
        wanted.event_id,
        wanted.event_type,
        bytes(wanted.payload),
        tracing.current_traceparent(),
    )
    stored = intake.same(message, await context.publisher.accept(message))
    context.backlog.took(application)
    metrics.MESSAGES.labels("api", "new" if stored.new else "known").inc()
    return MessageAccepted(ids.encode(MESSAGE, stored.id), wanted.event_id, wanted.event_type, stored.created_at)


async def get_message(context: Context, application: str, message: UUID) -> MessageView:
    """Raises NoSuchMessage."""
    found = await context.messages.message(application, message)
    if found is None:
        raise problems.NoSuchMessage
    deliveries = await context.messages.deliveries(message, DELIVERIES_SHOWN)
    counts = await context.messages.counts(message)
    return MessageView(
        ids.encode(MESSAGE, found.id),
        found.event_id,
        found.event_type,
        msgspec.Raw(found.payload),
        found.created_at,
        counts,
        [delivery_view(each) for each in deliveries],
    )


async def resend(context: Context, application: str, message: UUID, endpoint_text: str) -> DeliveryView:
    """Raises NoSuchMessage, NoSuchEndpoint, EndpointDisabled, DeliveryInFlight."""
    endpoint = ids.decode(ENDPOINT, endpoint_text)
    if endpoint is None:
        raise problems.NoSuchEndpoint
    found = await existing(context, application, endpoint)
    if await context.messages.message(application, message) is None:
        raise problems.NoSuchMessage
    if not found.enabled:
        raise problems.EndpointDisabled
    row = await context.replays.resend(application, message, endpoint)
    if row is None:
        raise problems.DeliveryInFlight
    return delivery_view(DeliveryRow(*row))  # type: ignore[arg-type]  # the statement returns these columns


async def create_replay(
    context: Context, application: str, key: str | None, mark: bytes, wanted: CreateReplay
) -> ReplayView:
    """Raises NoSuchEndpoint, NoSuchMessage, EndpointDisabled, InvalidRange, KeyMissing, KeyReused."""
    if key is None and not wanted.dry_run:
        raise problems.KeyMissing
    if key is not None and (known := await context.replays.of_key(application, key)) is not None:
        return _replay_view(known, mark)
    chosen = await _selection(context, application, wanted)
    matched = await context.replays.count(chosen)
    if wanted.dry_run or key is None:
        return ReplayView(None, "dry_run", matched, 0, wanted.rate_per_second)
    stored = await context.replays.create(ids.uuid7(), chosen, key, mark, wanted.rate_per_second, matched)
    return _replay_view(stored, mark)


async def get_replay(context: Context, application: str, replay: UUID) -> ReplayView:
    """Raises NoSuchReplay."""
    found = await context.replays.get(application, replay)
    if found is None:
        raise problems.NoSuchReplay
    return _replay_view(found, found.fingerprint)


def _replay_view(replay: Replay, mark: bytes) -> ReplayView:
    if replay.fingerprint != mark:
        raise problems.KeyReused
    return ReplayView(
        ids.encode(REPLAY, replay.id),
        replay.state,
        replay.matched,
        replay.replayed,
        replay.rate_per_second,
        replay.created_at,
        replay.finished_at,
    )


async def _selection(context: Context, application: str, wanted: CreateReplay) -> Selection:
    endpoint = None
    if wanted.endpoint is not None:
        endpoint = ids.decode(ENDPOINT, wanted.endpoint)
        if endpoint is None:
            raise problems.NoSuchEndpoint
        if not (await existing(context, application, endpoint)).enabled:
            raise problems.EndpointDisabled
    # Up to now at most: what comes in later is delivered anyway, and the end of the range must stand still.
    first, last = id_range(wanted.after, wanted.before, context.clock.now() + timedelta(milliseconds=1))
    if wanted.message is not None:
        message = ids.decode(MESSAGE, wanted.message)
        if message is None or await context.messages.message(application, message) is None:
            raise problems.NoSuchMessage
        first, last = max(first, message), min(last, UUID(int=message.int + 1))
    return Selection(application, endpoint, first, last, tuple(sorted(set(wanted.states))))


def id_range(after: datetime | None, before: datetime | None, latest: datetime | None) -> tuple[UUID, UUID]:
    """Ids of [after, before), `before` at most `latest`. Raises InvalidRange."""
    try:
        first = first_id(after) if after is not None else UUID(int=0)
        ends = [each.astimezone(UTC) for each in (before, latest) if each is not None]
        last = first_id(min(ends)) if ends else LAST_ID
    except (ValueError, OverflowError):
        raise problems.InvalidRange from None
    if after is not None and before is not None and after >= before:
        raise problems.InvalidRange
    return first, last


def replay_fingerprint(body: bytes) -> bytes:
    """What a replay's Idempotency-Key is bound to."""
    return fingerprint("POST /v1/replays", body)


def _allowed(context: Context, url: str) -> str:
    try:
        return str(ssrf.check_url(url, context.policy))
    except ssrf.ForbiddenAddressError as error:
        raise problems.ForbiddenUrl(error.refusal.value, str(error)) from None


def _new_key(text: str | None) -> str:
    if text is None:
        return Secret.generate().text()
    try:
        parse_signing_key(text)
    except KeyFormatError as error:
        raise problems.InvalidSecret(str(error)) from None
    return text


def _public(text: str) -> str | UnsetType:
    key = parse_signing_key(text)
    return key.public().text() if isinstance(key, PrivateKey) else UNSET
