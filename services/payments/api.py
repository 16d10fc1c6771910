"""Routes: HTTP to a command and back."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from services.kit import ids
from services.kit.errors import Unavailable
from services.kit.http import json_response, read_json
from services.patterns.idempotency import fingerprint, valid_key
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
from services.payments.store import StoreUnavailable

API_KEY_SECONDS = 10.0
"""How long a revoked API key may still work in a process that has seen it."""
API_KEYS = 10_000
PAGE = 20
PAGE_LIMIT = 100


@dataclass(slots=True)
class Edge:
    """What the routes need beside the commands' context. One per process."""

    context: Context
    in_flight: int = 0
    merchants: dict[bytes, tuple[str, float]] = field(default_factory=dict)

    async def merchant(self, request: Request) -> str:
        """Whose request this is. Raises Unauthorised."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise problems.Unauthorised
        digest = hashlib.sha256(key.encode("latin-1", "replace")).digest()
        now = self.context.clock.monotonic()
        known = self.merchants.get(digest)
        if known is not None and known[1] > now:
            return known[0]
        merchant = await self.context.store.merchant_of(digest)
        if merchant is None:
            self.merchants.pop(digest, None)
            raise problems.Unauthorised
        if len(self.merchants) >= API_KEYS:
            self.merchants.clear()
        self.merchants[digest] = (merchant, now + API_KEY_SECONDS)
        return merchant

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[None]:
        """Count a command in; raises Busy beyond the bound, when nothing has been done yet.

        Its body was read before: who sends slowly must not hold a place.
        """
        if self.in_flight >= self.context.settings.max_in_flight:
            metrics.SHED.inc()
            raise problems.Busy
        self.in_flight += 1
        try:
            yield
        except StoreUnavailable:
            raise Unavailable("The database does not answer; send the same request again.") from None
        finally:
            self.in_flight -= 1


def idempotency_key(request: Request) -> str:
    """The one Idempotency-Key of the request. Raises KeyMissing, KeyInvalid."""
    values = [value for name, value in request.scope["headers"] if name == b"idempotency-key"]
    if len(values) != 1:
        raise problems.KeyMissing
    key = valid_key(values[0])
    if key is None:
        raise problems.KeyInvalid
    return key


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

    @router.post("/payments/{payment_id}/capture", openapi_extra=_documented(CapturePayment, 200, keyed=True))
    async def capture(payment_id: str, request: Request) -> Response:
        """Capture an authorised payment once, whole or in part; the rest is released."""
        return await operate(request, payment_id, OperationKind.CAPTURE, CapturePayment)

    @router.post("/payments/{payment_id}/void", openapi_extra=_documented(VoidPayment, 200, keyed=True))
    async def void(payment_id: str, request: Request) -> Response:
        """Give an authorised payment up; the reserved money is released."""
        return await operate(request, payment_id, OperationKind.VOID, VoidPayment)

    @router.post("/payments/{payment_id}/refunds", openapi_extra=_documented(RefundPayment, 201, keyed=True))
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

    @router.get("/payments", openapi_extra=_documented(None, 200, answer=PaymentList, query=_PAGING))
    async def listing(request: Request) -> Response:
        """The merchant's payments, newest first."""
        edge = edge_of()
        async with edge.admitted():
            merchant = await edge.merchant(request)
            before, limit = _paging(request)
            return json_response(200, await handlers.list_payments(edge.context, merchant, before, limit))

    @router.post("/bank-events", status_code=204, openapi_extra=_documented(BankEvent, 204, answer=None))
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


def _paging(request: Request) -> tuple[UUID | None, int]:
    query = request.query_params
    if unknown := set(query) - {"limit", "cursor"}:
        raise problems.InvalidQuery(f"There are limit and cursor; {len(unknown)} other parameters were sent.")
    limit = query.get("limit", str(PAGE))
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 3 and 1 <= int(limit) <= PAGE_LIMIT):
        raise problems.InvalidQuery(f"limit is 1 to {PAGE_LIMIT}.")
    if "cursor" not in query:
        return None, int(limit)
    before = ids.decode(PREFIX, query["cursor"])
    if before is None:
        raise problems.InvalidQuery("cursor is the next_cursor of an earlier page.")
    return before, int(limit)


_PAGING = (
    {
        "name": "limit",
        "in": "query",
        "schema": {"type": "integer", "minimum": 1, "maximum": PAGE_LIMIT, "default": PAGE},
    },
    {"name": "cursor", "in": "query", "schema": {"type": "string"}, "description": "next_cursor of the page before"},
)
_KEY_HEADER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
    "description": "Opaque, compared byte by byte, quotes included. The same key and body get the same answer for 24 hours.",
}
_PROBLEM = {"description": "RFC 9457 problem", "content": {"application/problem+json": {"schema": {"type": "object"}}}}


def _documented(
    body: type | None,
    status: int,
    *,
    keyed: bool = False,
    answer: type | None = PaymentView,
    query: tuple[dict[str, Any], ...] = (),
) -> dict[str, Any]:
    """What OpenAPI says of a route that reads and writes its bodies itself."""
    document: dict[str, Any] = {"responses": {"4XX": _PROBLEM, "503": _PROBLEM}}
    done: dict[str, Any] = {"description": "Done"}
    if answer is not None:
        done["content"] = _content(answer)
    document["responses"][str(status)] = done
    if keyed:
        document["responses"]["202"] = done | {"description": "Not known yet; ask at Location"}
        document["parameters"] = [_KEY_HEADER]
    elif query:
        document["parameters"] = list(query)
    if body is not None:
        document["requestBody"] = {"required": True, "content": _content(body)}
    return document


def _content(kind: type) -> dict[str, Any]:
    schemas, components = msgspec.json.schema_components([kind], ref_template="#/components/schemas/{name}")
    (schema,) = schemas
    name = schema["$ref"].rpartition("/")[2]
    return {"application/json": {"schema": _inline(components[name], components)}}


def _inline(schema: Any, components: dict[str, Any]) -> Any:
    if isinstance(schema, dict):
        if "$ref" in schema:
            return _inline(components[schema["$ref"].rpartition("/")[2]], components)
        return {name: _inline(value, components) for name, value in schema.items()}
    return [_inline(value, components) for value in schema] if isinstance(schema, list) else schema
