"""All SQL of the service (but the schema, which is in migrations), and the mapping of the database's errors."""

from services.kit.store import Connection, Pool, StoreUnavailable, connection
from services.webhooks.store.deliveries import (
    Aftermath,
    Claim,
    DeliveryStore,
    Ended,
    OperationalEvent,
    Ready,
)
from services.webhooks.store.endpoints import (
    Endpoint,
    EndpointStore,
    EventType,
    PageAttempt,
    PageWaiting,
    TooManyEndpoints,
)
from services.webhooks.store.messages import (
    Accepted,
    AttemptRow,
    DeliveryRow,
    Message,
    MessageRow,
    MessageStore,
    NewMessage,
    Search,
)
from services.webhooks.store.replays import Replay, ReplayStore, Selection

__all__ = [
    "Accepted",
    "Aftermath",
    "AttemptRow",
    "Claim",
    "Connection",
    "DeliveryRow",
    "DeliveryStore",
    "Ended",
    "Endpoint",
    "EndpointStore",
    "EventType",
    "Message",
    "MessageRow",
    "MessageStore",
    "NewMessage",
    "OperationalEvent",
    "PageAttempt",
    "PageWaiting",
    "Pool",
    "Ready",
    "Replay",
    "ReplayStore",
    "Search",
    "Selection",
    "StoreUnavailable",
    "TooManyEndpoints",
    "connection",
]
