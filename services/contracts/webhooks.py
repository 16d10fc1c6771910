"""Bodies on `webhooks.operational.v1`. The key is the application; the kind of event is in the header `ce_type`."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

EventType = Literal[
    "webhooks.endpoint.disabled",
    "webhooks.message.attempt.exhausted",
    "webhooks.message.attempt.recovered",
]


class EndpointDisabled(msgspec.Struct, frozen=True):
    """The service switched an endpoint off: it answered 410 (`gone`) or failed for too long (`failing`)."""

    endpoint_id: str
    reason: Literal["gone", "failing"]
    disabled_at: datetime
    failing_since: datetime | None


class AttemptEvent(msgspec.Struct, frozen=True):
    """`exhausted`: the schedule is over, the delivery is dead. `recovered`: it was delivered after many failures, or after that."""

    message_id: str
    event_id: str
    event_type: str
    endpoint_id: str
    attempts: int
    last_status: int | None
