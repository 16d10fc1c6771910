"""Traces through Jaeger's query API (/api/v3, OTLP in JSON), which both runtimes offer; drawn as a waterfall."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import aiohttp
import msgspec

from services.kit.errors import Problem

MOST_TRACES = 50
MOST_SPANS = 2000
TIMEOUT = aiohttp.ClientTimeout(total=6.0)
T = TypeVar("T")
TRACE_ID = re.compile(r"[0-9a-f]{32}")
SERVICE = re.compile(r"[A-Za-z0-9_.:/-]{1,100}")
KINDS = ("", "internal", "server", "client", "producer", "consumer")
ERROR = 2
"""Status code of a failed span (OTLP)."""


class AnyValue(msgspec.Struct, frozen=True):
    """One of OTLP's kinds of value; a 64-bit integer comes as text."""

    stringValue: str | None = None  # noqa: N815  OTLP's spelling
    boolValue: bool | None = None  # noqa: N815
    intValue: str | int | None = None  # noqa: N815
    doubleValue: float | None = None  # noqa: N815
    arrayValue: Any = None  # noqa: N815


class Attribute(msgspec.Struct, frozen=True):
    key: str
    value: AnyValue = AnyValue()


class Link(msgspec.Struct, frozen=True, rename="camel"):
    trace_id: str = ""
    span_id: str = ""


class SpanStatus(msgspec.Struct, frozen=True):
    code: int | str = 0
    message: str = ""


class SpanEvent(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    time_unix_nano: str | int = 0
    attributes: list[Attribute] = []


class WireSpan(msgspec.Struct, frozen=True, rename="camel"):
    trace_id: str
    span_id: str
    name: str
    start_time_unix_nano: str | int
    end_time_unix_nano: str | int
    parent_span_id: str = ""
    kind: int | str = 0
    attributes: list[Attribute] = []
    links: list[Link] = []
    events: list[SpanEvent] = []
    status: SpanStatus = SpanStatus()


class ScopeSpans(msgspec.Struct, frozen=True):
    spans: list[WireSpan] = []


class Resource(msgspec.Struct, frozen=True):
    attributes: list[Attribute] = []


class ResourceSpans(msgspec.Struct, frozen=True, rename="camel"):
    resource: Resource = Resource()
    scope_spans: list[ScopeSpans] = []


class Traces(msgspec.Struct, frozen=True, rename="camel"):
    resource_spans: list[ResourceSpans] = []


class Found(msgspec.Struct, frozen=True):
    """The gateway's envelope."""

    result: Traces = Traces()


class Services(msgspec.Struct, frozen=True):
    services: list[str] = []


class TracesAway(Problem):
    def __init__(self) -> None:
        detail = "Start the stack with make up; traces are kept for an hour."
        super().__init__(503, "traces_away", "Nobody keeps traces now", detail=detail, headers={"Retry-After": "5"})


class NoSuchTrace(Problem):
    def __init__(self) -> None:
        super().__init__(
            404, "no_such_trace", "There is no such trace (any more)", detail="Traces are kept for an hour."
        )


class BadSearch(Problem):
    def __init__(self) -> None:
        super().__init__(422, "invalid_search", "This is not the name of a service")


@dataclass(frozen=True, slots=True)
class Span:
    """`offset` and `duration` in milliseconds, offset from the trace's first span; `depth` below its root."""

    id: str
    parent: str
    depth: int
    service: str
    name: str
    kind: str
    offset: float
    duration: float
    failed: bool
    message: str
    attributes: Mapping[str, str]
    links: tuple[str, ...]
    events: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Trace:
    """`duration` in milliseconds from the first start to the last end; spans in order, children below their parent."""

    id: str
    name: str
    service: str
    services: tuple[str, ...]
    started_at: str
    duration: float
    failed: bool
    spans: tuple[Span, ...]

    def summary(self) -> dict[str, object]:
        """For a list."""
        return {
            "id": self.id,
            "name": self.name,
            "service": self.service,
            "services": self.services,
            "started_at": self.started_at,
            "duration": self.duration,
            "failed": self.failed,
            "spans": len(self.spans),
        }


class TraceStore:
    """Asks whoever keeps them."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http

    async def services(self, base: str) -> list[str]:
        """Names of all services that have sent spans. Raises TracesAway."""
        return sorted((await self._get(base, "/api/v3/services", {}, Services)).services)

    async def search(self, base: str, service: str, minutes: int, *, now: datetime | None = None) -> list[Trace]:
        """The newest first. Raises TracesAway, BadSearch."""
        if not SERVICE.fullmatch(service):
            raise BadSearch
        until = now or datetime.now(UTC)
        since = until - timedelta(minutes=minutes)
        asked = {
            "query.service_name": service,
            "query.start_time_min": _rfc3339(since),
            "query.start_time_max": _rfc3339(until),
            "query.search_depth": str(MOST_TRACES),
            "query.num_traces": str(MOST_TRACES),  # its name in older versions
        }
        try:
            found = await self._get(base, "/api/v3/traces", asked, Found)
        except NoSuchTrace:
            return []
        return traces_of(found.result)[:MOST_TRACES]

    async def get(self, base: str, trace_id: str) -> Trace:
        """Raises TracesAway, NoSuchTrace."""
        if not TRACE_ID.fullmatch(trace_id):
            raise NoSuchTrace
        found = traces_of((await self._get(base, f"/api/v3/traces/{trace_id}", {}, Found)).result)
        if not found:
            raise NoSuchTrace
        return found[0]

    async def _get(self, base: str, path: str, asked: Mapping[str, str], kind: type[T]) -> T:
        try:
            async with self._http.get(f"{base}{path}", params=asked, timeout=TIMEOUT) as response:
                if response.status == 404:
                    raise NoSuchTrace
                if response.status != 200:
                    raise TracesAway
                return msgspec.json.decode(await response.read(), type=kind)
        except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError) as error:
            raise TracesAway from error


def traces_of(found: Traces) -> list[Trace]:
    """Spans by trace, the newest trace first."""
    by_trace: dict[str, list[tuple[str, WireSpan]]] = {}
    for part in found.resource_spans:
        service = _attributes(part.resource.attributes).get("service.name", "unknown")
        for scope in part.scope_spans:
            for span in scope.spans:
                by_trace.setdefault(span.trace_id, []).append((service, span))
    traces = [_trace(trace_id, spans[:MOST_SPANS]) for trace_id, spans in by_trace.items()]
    return sorted(traces, key=lambda trace: trace.started_at, reverse=True)


def _trace(trace_id: str, spans: Sequence[tuple[str, WireSpan]]) -> Trace:
    ordered = sorted(spans, key=lambda one: int(one[1].start_time_unix_nano))
    first = int(ordered[0][1].start_time_unix_nano)
    last = max(int(span.end_time_unix_nano) for _, span in ordered)
    shown = tuple(_span(service, span, depth, first) for service, span, depth in _walk(ordered))
    root = shown[0]
    return Trace(
        id=trace_id,
        name=root.name,
        service=root.service,
        services=tuple(dict.fromkeys(service for service, _ in ordered)),
        started_at=datetime.fromtimestamp(first / 1e9, UTC).isoformat(timespec="milliseconds"),
        duration=(last - first) / 1e6,
        failed=any(span.failed for span in shown),
        spans=shown,
    )


def _walk(ordered: Sequence[tuple[str, WireSpan]]) -> Iterable[tuple[str, WireSpan, int]]:
    """Children below their parent, each in order of start. A span whose parent is not here is a root of its own."""
    known = {span.span_id for _, span in ordered}
    children: dict[str, list[tuple[str, WireSpan]]] = {}
    for service, span in ordered:
        parent = span.parent_span_id if span.parent_span_id in known and span.parent_span_id != span.span_id else ""
        children.setdefault(parent, []).append((service, span))
    waiting = [(service, span, 0) for service, span in reversed(children.get("", []))]
    seen: set[str] = set()
    while waiting:
        service, span, depth = waiting.pop()
        if span.span_id in seen:
            continue
        seen.add(span.span_id)
        yield service, span, depth
        waiting += [(name, child, depth + 1) for name, child in reversed(children.get(span.span_id, []))]
    # Spans that name each other as parents hang on no root.
    yield from ((service, span, 0) for service, span in ordered if span.span_id not in seen)


def _span(service: str, span: WireSpan, depth: int, first: int) -> Span:
    start, end = int(span.start_time_unix_nano), int(span.end_time_unix_nano)
    return Span(
        id=span.span_id,
        parent=span.parent_span_id,
        depth=depth,
        service=service,
        name=span.name,
        kind=_kind(span.kind),
        offset=(start - first) / 1e6,
        duration=max(0, end - start) / 1e6,
        failed=span.status.code in {ERROR, "STATUS_CODE_ERROR"},
        message=span.status.message,
        attributes=_attributes(span.attributes),
        links=tuple(link.trace_id for link in span.links),
        events=tuple(f"+{(int(event.time_unix_nano) - start) / 1e6:.1f} ms {event.name}" for event in span.events[:20]),
    )


def _kind(kind: int | str) -> str:
    if isinstance(kind, str):
        return kind.removeprefix("SPAN_KIND_").lower()
    return KINDS[kind] if 0 <= kind < len(KINDS) else ""


def _attributes(attributes: Iterable[Attribute]) -> dict[str, str]:
    return {one.key: _text(one.value)[:300] for one in attributes}


def _text(value: AnyValue) -> str:
    for given in (value.stringValue, value.intValue, value.doubleValue, value.boolValue, value.arrayValue):
        if given is not None:
            return str(given)
    return ""


def _rfc3339(at: datetime) -> str:
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")
