"""Routes: HTTP to a command and back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.checkout import handlers, metrics, problems
from services.checkout.domain import CheckoutStatus
from services.checkout.payments import Payments
from services.checkout.schemas import PREFIX, CheckoutView, CreateCheckout, view
from services.checkout.settings import CheckoutSettings
from services.kit import ids, openapi
from services.kit.access import Unauthorised, bearer
from services.kit.admission import Places
from services.kit.http import json_response, read_json
from services.kit.idempotency import idempotency_key
from services.patterns.idempotency import valid_key


@dataclass(slots=True)
class Edge:
    """What the routes need. One per process."""

    payments: Payments
    settings: CheckoutSettings
    places: Places = field(init=False)

    def __post_init__(self) -> None:
        self.places = Places(self.settings.max_in_flight, metrics.SHED.inc)

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[None]:
        """Count a request in; raises Busy beyond the bound, at once: waiting would only use up its deadline."""
        with self.places.one():
            yield


def _authorisation(request: Request) -> dict[str, str]:
    """Payments knows the keys; what cannot be one goes no further. Raises Unauthorised."""
    key = bearer(request)
    if valid_key(key.encode("latin-1", "replace")) is None:
        raise Unauthorised
    return {"Authorization": f"Bearer {key}"}


def _idempotency_key(request: Request) -> dict[str, str]:
    """The one Idempotency-Key of the request. Raises KeyMissing, KeyInvalid."""
    return {"Idempotency-Key": idempotency_key(request)}


def routes(edge_of: Callable[[], Edge]) -> APIRouter:
    """The router. `edge_of` is called once the application's lifespan has begun."""
    router = APIRouter(prefix="/v1")

    @router.post("/checkouts", status_code=201, openapi_extra=_documented_create())
    async def create(request: Request) -> Response:
        """Pay: 201 paid, 202 processing (ask at Location), 402 declined."""
        edge = edge_of()
        await request.body()
        async with edge.admitted():
            caller = _authorisation(request) | _idempotency_key(request)
            paid = await handlers.create_checkout(edge.payments, caller, await read_json(request, CreateCheckout))
        shown = view(paid.checkout)
        headers = {"Location": f"/v1/checkouts/{shown.id}"}
        if paid.replayed:
            headers["Idempotent-Replayed"] = "true"
        return json_response(202 if paid.checkout.status is CheckoutStatus.PROCESSING else 201, shown, headers)

    @router.get("/checkouts/{checkout_id}", openapi_extra=openapi.documented(None, 200, answer=CheckoutView))
    async def get(checkout_id: str, request: Request) -> Response:
        """A checkout as it is now."""
        edge = edge_of()
        async with edge.admitted():
            caller = _authorisation(request)
            checkout = ids.decode(PREFIX, checkout_id)
            if checkout is None:
                raise problems.NoSuchCheckout
            return json_response(200, view(await handlers.get_checkout(edge.payments, caller, checkout)))

    return router


_KEY_HEADER = openapi.idempotency_key("The same key and body get the same answer for 24 hours.", required=True)


def _documented_create() -> dict[str, Any]:
    document = openapi.documented(CreateCheckout, 201, answer=CheckoutView, parameters=[_KEY_HEADER])
    responses = document["responses"]
    responses["202"] = responses["201"] | {"description": "Not known yet; ask at Location"}
    return document
