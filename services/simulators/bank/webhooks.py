"""Webhooks: best effort by design. The queue is bounded; what does not fit is dropped and counted, as the status
endpoint and the settlement file tell the truth anyway."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from dataclasses import dataclass

import aiohttp
import msgspec

from services.kit import ids, tracing
from services.simulators.bank import metrics

LONGEST_QUEUE = 10_000
ATTEMPTS = 3
TIMEOUT_SECONDS = 2.0


class Event(msgspec.Struct, frozen=True):
    """Body of a webhook. A duplicate has the same id."""

    id: str
    type: str
    reference: str | None
    operation: msgspec.Raw


@dataclass(frozen=True, slots=True)
class _Delivery:
    body: bytes
    copies: int
    traceparent: str | None


def signature(secret: str, timestamp: int, body: bytes) -> str:
    """`t=<unix seconds>,v1=<hex HMAC-SHA256 of "<t>.<body>">`, the scheme of Stripe's webhooks."""
    digest = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={digest}"


class Webhooks:
    """`run` delivers in order, one at a time; `enqueue` never waits."""

    def __init__(self, url: str, secret: str) -> None:
        self._url = url
        self._secret = secret
        self._queue: asyncio.Queue[_Delivery] = asyncio.Queue(LONGEST_QUEUE)

    def enqueue(self, reference: str | None, answer: str, copies: int) -> None:
        """Send an operation's answer `copies` times."""
        body = msgspec.json.encode(
            Event(ids.encode("evt", ids.uuid7()), "operation.completed", reference, msgspec.Raw(answer.encode()))
        )
        try:
            self._queue.put_nowait(_Delivery(body, copies, tracing.current_traceparent()))
        except asyncio.QueueFull:
            metrics.WEBHOOKS.labels("dropped").inc()

    async def run(self) -> None:
        """Deliver until cancelled."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
            while True:
                delivery = await self._queue.get()
                for _ in range(delivery.copies):
                    with tracing.span("POST", "client", parent=delivery.traceparent) as span:
                        await self._deliver(session, delivery.body, span)

    async def _deliver(self, session: aiohttp.ClientSession, body: bytes, span: tracing.Span) -> None:
        for attempt in range(ATTEMPTS):
            headers = {
                "Content-Type": "application/json",
                "Bank-Signature": signature(self._secret, int(time.time()), body),
                "traceparent": span.traceparent,
            }
            try:
                async with session.post(self._url, data=body, headers=headers) as answer:
                    if answer.status < 300:
                        metrics.WEBHOOKS.labels("delivered").inc()
                        return
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass
            if attempt < ATTEMPTS - 1:
                await asyncio.sleep(0.1 * 2**attempt)
        span.fail("undelivered")
        metrics.WEBHOOKS.labels("failed").inc()
