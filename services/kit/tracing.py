"""W3C trace context through HTTP, Kafka and tables. Spans are recorded only if OTLP_ENDPOINT is set.

Switched off, a process still passes the caller's `traceparent` on (or begins one), so that logs of one request share
their trace id; no SDK is imported. Names and attributes follow OpenTelemetry's semantic conventions; an attribute holds
neither a secret nor a card token nor a body. Who calls whom is in services/contracts/trace_edges.py.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    from services.kit.trace_export import BatchSender

Kind = Literal["server", "client", "producer", "consumer", "internal"]
Value = str | int | float | bool

MOST_LINKS = 512
"""A consumer's batch is no larger; the SDK keeps 128 unless told."""
LONGEST_VALUE = 512
"""Characters of an attribute; a path may be as long as its sender likes."""

_FORM = re.compile(r"^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$")
_current: ContextVar[str | None] = ContextVar("traceparent", default=None)
_tracer: trace.Tracer | None = None
_provider: TracerProvider | None = None
_sender: BatchSender | None = None


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
    """32 hex digits, for logs."""
    value = _current.get()
    return value[3:35] if value else None


def exemplar(traceparent: str | None = None) -> dict[str, str] | None:
    """This trace, or the current one, as an exemplar's label; None for one that is not kept, as it would lead nowhere."""
    value = valid(traceparent) or _current.get()
    if value is None or (_tracer is not None and not int(value[-2:], 16) & 1):
        return None
    return {"trace_id": value[3:35]}


def to_link() -> str | None:
    """The current span for a row, so that who takes the row up later can link to it. None if it is not recorded."""
    return _current.get() if _tracer is not None else None


def configure(service: str, endpoint: str, ratio: float = 1.0) -> None:
    """Send spans in batches to `endpoint` + /v1/traces; nothing at all if it is empty.

    `service` may be followed by a space and the instance's name. `ratio` (0 to 1) is the share of traces that begin here
    which are kept; a trace that begins elsewhere is kept or not as it was there. Raises ValueError for an endpoint that is
    no URL.
    """
    global _tracer, _provider, _sender
    if not endpoint:
        return
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanLimits, TracerProvider
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    from services.kit.trace_export import BatchSender

    name, _, instance = service.partition(" ")
    attributes = {"service.name": name, "service.namespace": "backend-lab"}
    if instance:
        attributes["service.instance.id"] = instance
    _provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(ratio)),
        resource=Resource.create(attributes),
        span_limits=SpanLimits(max_links=MOST_LINKS, max_span_attribute_length=LONGEST_VALUE),
        shutdown_on_exit=False,
    )
    _sender = BatchSender(endpoint)
    _provider.add_span_processor(_sender)
    _tracer = _provider.get_tracer("services.kit.tracing")


def shutdown() -> None:
    """Send what is left, within trace_export.SHUTDOWN_SECONDS. Blocks; call it from a thread."""
    if _sender is not None:
        _sender.shutdown()


class Span:
    """One that is not recorded: it only knows its trace."""

    __slots__ = ("traceparent",)

    recorded = False

    def __init__(self, traceparent: str) -> None:
        self.traceparent = traceparent

    def rename(self, name: str) -> None:
        """A better name, once it is known. Low cardinality: no ids."""

    def set(self, name: str, value: Value) -> None:
        """One attribute."""

    def link(self, traceparent: str | None) -> None:
        """Point at a span of another trace; what is not a traceparent is not pointed at."""

    def fail(self, error: str) -> None:
        """It did not do what it was for. `error`: a class name, a status or a reason, of low cardinality; the first one counts."""

    def end(self) -> None:
        """Its time is over. A second call changes nothing."""


class RecordedSpan(Span):
    """One that will be sent."""

    __slots__ = ("_failed", "_span")

    recorded = True

    def __init__(self, span: trace.Span) -> None:
        ids = span.get_span_context()
        super().__init__(f"00-{ids.trace_id:032x}-{ids.span_id:016x}-{int(ids.trace_flags):02x}")
        self._span = span
        self._failed = False

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def set(self, name: str, value: Value) -> None:
        self._span.set_attribute(name, value)

    def link(self, traceparent: str | None) -> None:
        if (context := _context_of(traceparent)) is not None:
            self._span.add_link(context)

    def fail(self, error: str) -> None:
        from opentelemetry.trace import StatusCode

        if self._failed:
            return
        self._failed = True
        self._span.set_attribute("error.type", error)
        self._span.set_status(StatusCode.ERROR)

    def end(self) -> None:
        if self._span.is_recording():
            self._span.end()


def begin(
    name: str,
    kind: Kind = "internal",
    *,
    parent: str | None = None,
    links: Iterable[str | None] = (),
    attributes: Mapping[str, Value] | None = None,
    new_trace: bool = False,
) -> Span:
    """A span that the caller ends itself, and that is nobody's current one. See `span`."""
    above = None if new_trace else valid(parent) or _current.get()
    if _tracer is None:
        return Span(above or new_traceparent())
    from opentelemetry import trace
    from opentelemetry.context import Context

    context = Context()
    if (caller := _context_of(above)) is not None:
        context = trace.set_span_in_context(trace.NonRecordingSpan(caller), context)
    made = _tracer.start_span(
        name,
        context,
        trace.SpanKind[kind.upper()],
        attributes,
        [trace.Link(found) for each in links if (found := _context_of(each)) is not None],
        record_exception=False,
        set_status_on_exception=False,
    )
    if made.is_recording():
        return RecordedSpan(made)
    ids = made.get_span_context()
    return Span(f"00-{ids.trace_id:032x}-{ids.span_id:016x}-00")


@contextmanager
def span(
    name: str,
    kind: Kind = "internal",
    *,
    parent: str | None = None,
    links: Iterable[str | None] = (),
    attributes: Mapping[str, Value] | None = None,
    new_trace: bool = False,
) -> Iterator[Span]:
    """Run the block as a child of `parent` (a traceparent) or of the current span, or as the root of a trace of its own.

    `links` point at other traces (a consumer's batch has many causes, and a child has one parent). An exception marks it as
    failed with its class's name only: a message may quote what it was given.
    """
    made = begin(name, kind, parent=parent, links=links, attributes=attributes, new_trace=new_trace)
    token = _current.set(made.traceparent)
    try:
        yield made
    except (Exception, asyncio.CancelledError) as error:
        made.fail(type(error).__name__)
        raise
    finally:
        _current.reset(token)
        made.end()


def describe_request(span: Span, method: str, host: str, port: int | None) -> None:
    """Semantic conventions of an HTTP client span, as far as they hold no address that may be a secret."""
    span.set("http.request.method", method)
    span.set("server.address", host)
    if port is not None:
        span.set("server.port", port)


def describe_answer(span: Span, status: int) -> None:
    """A client's call failed if the answer is a 4xx or 5xx."""
    span.set("http.response.status_code", status)
    if status >= 400:
        span.fail(str(status))


def message(
    operation: Literal["send", "process", "receive"], topic: str, **attributes: Value | None
) -> dict[str, Value]:
    """Semantic conventions of a Kafka span; attributes that are None are left out. `_` stands for `.` in no name here:
    give those of the message as `id`, `key`, `count`, `partition`, `offset`, `group`.
    """
    known: dict[str, Value | None] = {
        "messaging.system": "kafka",
        "messaging.operation.type": operation,
        "messaging.operation.name": "poll" if operation == "receive" else operation,
        "messaging.destination.name": topic,
        **{_MESSAGE[name]: value for name, value in attributes.items()},
    }
    return {name: value for name, value in known.items() if value is not None}


_MESSAGE = {
    "id": "messaging.message.id",
    "key": "messaging.kafka.message.key",
    "count": "messaging.batch.message_count",
    "partition": "messaging.destination.partition.id",
    "offset": "messaging.kafka.offset",
    "group": "messaging.consumer.group.name",
}


def _context_of(traceparent: str | None) -> trace.SpanContext | None:
    if valid(traceparent) is None:
        return None
    assert traceparent is not None
    from opentelemetry.trace import SpanContext, TraceFlags

    return SpanContext(
        int(traceparent[3:35], 16), int(traceparent[36:52], 16), True, TraceFlags(int(traceparent[53:], 16))
    )
