"""The operators' endpoints: look at the breakers before the bank, hold one open or closed by hand, give it back."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Literal

import msgspec
from fastapi import APIRouter, Request
from pydantic import SecretStr
from starlette.responses import Response

from services.kit.access import Unauthorised
from services.kit.http import json_response, read_json
from services.patterns.breaker import Breaker, State
from services.payments import problems
from services.payments.bank import Bank

STATES = {"open": State.OPEN, "closed": State.CLOSED}


class Force(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of PUT."""

    state: Literal["open", "closed"]


class BreakerView(msgspec.Struct, frozen=True):
    """`calls`, `failed` and `slow` are those of the window as it is now; `forced`: set by hand."""

    shard: str
    state: str
    forced: bool
    calls: int
    failed: int
    slow: int


def view(breaker: Breaker) -> BreakerView:
    """For people."""
    state, counts = breaker.state, breaker.counts
    return BreakerView(
        breaker.name, state.name.lower(), breaker.forced is not None, counts.calls, counts.failed, counts.slow
    )


def routes(bank_of: Callable[[], Bank], key: SecretStr) -> APIRouter:
    """Below /ops, for holders of `key`. Forced open, a shard is left alone; forced closed, it is called whatever it does."""
    router = APIRouter(prefix="/ops", include_in_schema=False)
    expected = b"Bearer " + key.get_secret_value().encode()

    def _admit(request: Request) -> None:
        if not hmac.compare_digest(request.headers.get("authorization", "").encode("latin-1"), expected):
            raise Unauthorised

    def _breaker(request: Request, shard: str) -> Breaker:
        _admit(request)
        found = bank_of().breakers.get(shard)
        if found is None:
            raise problems.NoSuchShard
        return found

    @router.get("/breakers")
    async def listing(request: Request) -> Response:
        _admit(request)
        return json_response(200, [view(breaker) for breaker in bank_of().breakers.values()])

    @router.put("/breakers/{shard}")
    async def force(request: Request, shard: str) -> Response:
        breaker = _breaker(request, shard)
        wanted = await read_json(request, Force)
        breaker.force(STATES[wanted.state])
        return json_response(200, view(breaker))

    @router.delete("/breakers/{shard}")
    async def release(request: Request, shard: str) -> Response:
        breaker = _breaker(request, shard)
        breaker.force(None)
        return json_response(200, view(breaker))

    return router
