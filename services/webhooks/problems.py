"""The problem documents of the webhooks API, each with its stable type."""

from __future__ import annotations

from services.kit.errors import Problem
from services.kit.idempotency import KeyMissing, KeyReused

__all__ = ["KeyMissing", "KeyReused"]


class BacklogFull(Problem):
    def __init__(self, limit: int) -> None:
        super().__init__(
            429,
            "backlog_full",
            "Too many deliveries of this application are waiting",
            detail=f"At most {limit} may wait. Nothing was stored; send the message again later, or mend the endpoints.",
            headers={"Retry-After": "30"},
            extra={"limit": limit},
        )


class NoSuchEndpoint(Problem):
    def __init__(self) -> None:
        super().__init__(404, "no_such_endpoint", "There is no such endpoint")


class NoSuchMessage(Problem):
    def __init__(self) -> None:
        super().__init__(404, "no_such_message", "There is no such message")


class NoSuchReplay(Problem):
    def __init__(self) -> None:
        super().__init__(404, "no_such_replay", "There is no such replay")


class ForbiddenUrl(Problem):
    def __init__(self, refusal: str, sentence: str) -> None:
        super().__init__(
            422, "forbidden_url", "This URL cannot be an endpoint", detail=sentence, extra={"reason": refusal}
        )


class InvalidSecret(Problem):
    def __init__(self, sentence: str) -> None:
        super().__init__(
            422, "invalid_secret", "This secret cannot be used", detail=f"{sentence[:1].upper()}{sentence[1:]}."
        )


class TooManyEndpoints(Problem):
    def __init__(self, limit: int) -> None:
        super().__init__(
            409, "too_many_endpoints", "The application has as many endpoints as it may", extra={"limit": limit}
        )


class EndpointDisabled(Problem):
    def __init__(self) -> None:
        super().__init__(409, "endpoint_disabled", "The endpoint is switched off; enable it first")


class DeliveryInFlight(Problem):
    def __init__(self) -> None:
        super().__init__(
            409, "delivery_in_flight", "This delivery is being attempted right now", headers={"Retry-After": "5"}
        )


class EventIdReused(Problem):
    def __init__(self, message: str) -> None:
        super().__init__(
            409,
            "event_id_reused",
            "A message with this event_id and other content exists",
            detail="The same event_id means the same event for as long as messages are kept.",
            extra={"message": message},
        )


class PayloadTooLarge(Problem):
    def __init__(self, limit: int) -> None:
        super().__init__(413, "payload_too_large", "The payload is too large", detail=f"At most {limit} bytes.")


class PayloadNotFitting(Problem):
    def __init__(self, place: str, rule: str) -> None:
        super().__init__(
            422,
            "payload_does_not_fit",
            "The payload does not fit the schema of its event type",
            detail=f"At {place or 'the top'} the rule {rule} is broken.",
            extra={"at": place, "rule": rule},
        )


class InvalidSchema(Problem):
    def __init__(self, sentence: str) -> None:
        super().__init__(422, "invalid_schema", "This JSON Schema cannot be used", detail=sentence)


class ReservedType(Problem):
    def __init__(self) -> None:
        super().__init__(422, "reserved_event_type", "Event types that begin with webhooks. are the service's own")


class InvalidRange(Problem):
    def __init__(self) -> None:
        super().__init__(422, "invalid_range", "after must be earlier than before, and both within 1970 to 9999")
