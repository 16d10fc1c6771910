"""W3C trace context through HTTP and Kafka. Spans are recorded only if OTLP_ENDPOINT is set.

Switched off, a process still passes the caller's `traceparent` on (or begins one), so that logs of one request share
their trace id; no SDK is imported.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

Kind = Literal["server", "client", "producer", "consumer", "internal"]

_FORM = re.compile(r"^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$")
_current: ContextVar[str | None] = ContextVar("traceparent", default=None)
_tracer: Tracer | None = None
_provider: TracerProvider | None = None


def valid(traceparent: str | None) -> str | None:
    """The header if it is well formed (version 00, ids not zero), else None: garbage begins a new trace."""
    match = _FORM.match(traceparent or "")
    if match is None or set(match[1]) == {"0"} or set(match[2]) == {"0"}:
        return None
    return match[0]


def new_traceparent() -> str:
    """A fresh trace that is not sampled by itself."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"


def current_traceparent() -> str | None:
    """What to send to the next hop."""
    return _current.get()


def current_trace_id() -> str | None:
    """32 hex digits, for logs and exemplars."""
    value = _current.get()
    return value[3:35] if value else None


def configure(service: str, endpoint: str) -> None:
    """Export spans in batches to `endpoint` + /v1/traces; nothing at all if it is empty."""
    global _tracer, _provider
    if not endpoint:
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    _provider = TracerProvider(resource=Resource.create({"service.name": service}))
    exporter = OTLPSpanExporter(endpoint=endpoint.rstrip("/") + "/v1/traces", timeout=5)
    _provider.add_span_processor(BatchSpanProcessor(exporter))
    _tracer = _provider.get_tracer("backend-lab")


def shutdown() -> None:
    """Send what is left; bounded by the exporter's timeout."""
    if _provider is not None:
        _provider.shutdown()


@contextmanager
def span(
    name: str,
    kind: Kind = "internal",
    *,
    parent: str | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> Iterator[None]:
    """Run the block as a child of `parent` (a traceparent) or of the current span."""
    above = valid(parent) or _current.get()
    if _tracer is None:
        token = _current.set(above or new_traceparent())
        try:
            yield
        finally:
            _current.reset(token)
        return
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    context = TraceContextTextMapPropagator().extract({"traceparent": above}) if above else None
    kinds = trace.SpanKind
    with _tracer.start_as_current_span(
        name, context=context, kind=kinds[kind.upper()], attributes=dict(attributes or {})
    ) as active:
        ids = active.get_span_context()
        token = _current.set(f"00-{ids.trace_id:032x}-{ids.span_id:016x}-{int(ids.trace_flags):02x}")
        try:
            yield
        finally:
            _current.reset(token)
