"""The header Idempotency-Key and what is wrong with one. The rule of replays is in patterns/idempotency.py."""

from __future__ import annotations

from starlette.requests import Request

from services.kit.errors import Problem
from services.patterns.idempotency import valid_key


class KeyMissing(Problem):
    def __init__(self) -> None:
        super().__init__(400, "idempotency_key_missing", "Send the header Idempotency-Key, once")


class KeyInvalid(Problem):
    def __init__(self) -> None:
        super().__init__(400, "idempotency_key_invalid", "An Idempotency-Key is 1 to 255 visible ASCII characters")


class KeyReused(Problem):
    def __init__(self) -> None:
        super().__init__(422, "idempotency_key_reused", "This Idempotency-Key was used for another request")


class KeyInFlight(Problem):
    def __init__(self) -> None:
        super().__init__(
            409,
            "request_in_flight",
            "The first request with this Idempotency-Key is still being worked on",
            headers={"Retry-After": "1"},
        )


def idempotency_key(request: Request) -> str:
    """The one Idempotency-Key of the request. Raises KeyMissing, KeyInvalid."""
    key = optional_idempotency_key(request)
    if key is None:
        raise KeyMissing
    return key


def optional_idempotency_key(request: Request) -> str | None:
    """The Idempotency-Key, None without one. Raises KeyMissing for two, KeyInvalid."""
    values = [value for name, value in request.scope["headers"] if name == b"idempotency-key"]
    if not values:
        return None
    if len(values) > 1:
        raise KeyMissing
    key = valid_key(values[0])
    if key is None:
        raise KeyInvalid
    return key
