"""Routes: HTTP to a command and back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.kit import ids, openapi
from services.kit.access import ApiKeys, bearer
from services.kit.admission import Places, store_answers
from services.kit.http import json_response, read_json
from services.kit.idempotency import idempotency_key
from services.kit.query import Query
from services.patterns.idempotency import fingerprint
from services.payments import handlers, metrics, problems
from services.payments.bank import signature_holds
from services.payments.domain import OPERATION_PREFIX, OperationKind
from services.payments.handlers import Caller, Context, Reply
from services.payments.schemas import (
    PREFIX,
    BankEvent,
    CapturePayment,
    CreatePayment,
    PaymentList,
    PaymentView,
    RefundPayment,
    VoidPayment,
)


@dataclass(slots=True)
class Edge:
    """What the routes need beside the commands' context. One per process."""

    context: Context
    keys: ApiKeys = field(init=False)
    places: Places = field(init=False)

    def __post_init__(self) -> None:
        self.places = Places(self.context.settings.max_in_flight, metrics.SHED.inc)
        self.keys = ApiKeys(self.context.store.merchant_of, self.context.clock.monotonic)

    async def merchant(self, request: Request) -> str:
        """Whose request this is. Raises Unauthorised."""
        return await self.keys.owner(bearer(request))

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[None]:
        """Count a command in; raises Busy beyond the bound, when nothing has been done yet.

        Its body was read before: who sends slowly must not hold a place.
        """
        with self.places.one(), store_answers():
            yield


def _payment_id(text: str) -> UUID:
    payment = ids.decode(PREFIX, text)
    if payment is None:
        raise problems.NoSuchPayment
    return payment


def _answer(reply: Reply) -> Response:
    problem = reply.response.status >= 400
    headers = {} if problem else {"Location": f"/v1/payments/{reply.payment_id}"}
    if reply.replayed:
        headers["Idempotent-Replayed"] = "true"
    media_type = "application/problem+json" if problem else "application/json"
    return Response(reply.response.body, reply.response.status, headers, media_type=media_type)


def routes(edge_of: Callable[[], Edge]) -> APIRouter:
    """The router. `edge_of` is called once the application's lifespan has begun."""
    router = APIRouter(prefix="/v1")

    @router.post("/payments", openapi_extra=_documented(CreatePayment, 201, keyed=True))
    async def create(request: Request) -> Response:
        """Create a payment: authorise it and, by default, capture it."""
        edge = edge_of()
        body = await request.body()
        async with edge.admitted():
            merchant = await edge.merchant(request)
            key = idempotency_key(request)
            wanted = await read_json(request, CreatePayment)
            caller = Caller(merchant, key, fingerprint("POST /v1/payments", body))
            return _answer(await handlers.create_payment(edge.context, caller, wanted))

    async def operate(
        request: Request, text: str, kind: OperationKind, shape: type[CapturePayment | VoidPayment | RefundPayment]
    ) -> Response:
        edge = edge_of()
        body = await request.body()
        async with edge.admitted():
            merchant = await edge.merchant(request)
            key = idempotency_key(request)
            wanted = await read_json(request, shape) if body else shape()
            amount = None if isinstance(wanted, VoidPayment) else wanted.amount
            caller = Caller(merchant, key, fingerprint(f"POST {request.url.path}", body))
            return _answer(await handlers.operate(edge.context, caller, kind, _payment_id(text), amount))

    @router.post(
        "/payments/{payment_id}/capture",
        openapi_extra=_documented(CapturePayment, 200, keyed=True, body_required=False),
    )
    async def capture(payment_id: str, request: Request) -> Response:
        """Capture an authorised payment once, whole or in part; the rest is released."""
        return await operate(request, payment_id, OperationKind.CAPTURE, CapturePayment)

    @router.post(
        "/payments/{payment_id}/void", openapi_extra=_documented(VoidPayment, 200, keyed=True, body_required=False)
    )
    async def void(payment_id: str, request: Request) -> Response:
        """Give an authorised payment up; the reserved money is released."""
        return await operate(request, payment_id, OperationKind.VOID, VoidPayment)

    @router.post(
        "/payments/{payment_id}/refunds", openapi_extra=_documented(RefundPayment, 201, keyed=True, body_required=False)
    )
    async def refund(payment_id: str, request: Request) -> Response:
        """Give captured money back, whole or in part, as often as something is left."""
        return await operate(request, payment_id, OperationKind.REFUND, RefundPayment)

    @router.get("/payments/{payment_id}", openapi_extra=_documented(None, 200))
    async def get(payment_id: str, request: Request) -> Response:
        """A payment as it is now."""
        edge = edge_of()
        async with edge.admitted():
            merchant = await edge.merchant(request)
            return json_response(200, await handlers.get_payment(edge.context, merchant, _payment_id(payment_id)))

    @router.get("/payments", openapi_extra=openapi.documented(None, 200, answer=PaymentList, parameters=openapi.PAGING))
    async def listing(request: Request) -> Response:
        """The merchant's payments, newest first."""
        edge = edge_of()
        async with edge.admitted():
            merchant = await edge.merchant(request)
            query = Query.of(request, "limit", "cursor")
            before = query.cursor(PREFIX)
            return json_response(200, await handlers.list_payments(edge.context, merchant, before, query.limit))

    @router.post(
        "/bank-events",
        status_code=204,
        openapi_extra=openapi.documented(BankEvent, 204, parameters=[_SIGNATURE_HEADER], public=True),
    )
    async def bank_event(request: Request) -> Response:
        """The bank's webhook. Only a hint: it makes the resolver ask sooner."""
        edge = edge_of()
        body = await request.body()
        async with edge.admitted():
            now = edge.context.clock.now()
            secret = edge.context.settings.bank_webhook_secret.get_secret_value().encode()
            if not signature_holds(request.headers.get("bank-signature", ""), body, secret, now.timestamp()):
                raise problems.InvalidSignature
            event = await read_json(request, BankEvent)
            operation = ids.decode(OPERATION_PREFIX, event.reference or "")
            await edge.context.store.note_bank_event(event.id, now, operation)
            return Response(status_code=204)

    return router


_KEY_HEADER = openapi.idempotency_key(
    "Opaque, compared byte by byte, quotes included. The same key and body get the same answer for 24 hours.",
    required=True,
)


_SIGNATURE_HEADER = openapi.header(
    "Bank-Signature", "^t=[0-9]+,v1=[0-9a-f]{64}$", "The bank's HMAC-SHA256 over time and body", required=True
)


def _documented(body: type | None, status: int, *, keyed: bool = False, body_required: bool = True) -> dict[str, Any]:
    """A route that answers with a payment; whoever sends a key may have to ask for it again."""
    parameters = [_KEY_HEADER] if keyed else []
    document = openapi.documented(body, status, answer=PaymentView, parameters=parameters, body_required=body_required)
    if keyed:
        responses = document["responses"]
        responses["202"] = responses[str(status)] | {"description": "Not known yet; ask at Location"}
    return document
