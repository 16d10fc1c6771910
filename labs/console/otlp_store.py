"""The last hour's spans in memory. Whole traces are dropped, the oldest first, by age, number of spans and bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from time import monotonic

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

UNKNOWN_SERVICE = "unknown_service"


@dataclass(frozen=True, slots=True)
class Bounds:
    """`spans_of_trace` and `bytes_of_span` reject what is more; the others drop old traces. A span has some 600 bytes."""

    seconds: float = 3600.0
    spans: int = 60_000
    bytes: int = 64 * 1024 * 1024
    spans_of_trace: int = 2_000
    bytes_of_span: int = 64 * 1024


@dataclass(frozen=True, slots=True)
class Batch:
    """What the spans of one export share: `resource` serialised, and the scope's name and version."""

    service: str
    resource: bytes
    scope: tuple[str, str]


@dataclass(frozen=True, slots=True)
class StoredSpan:
    """`span` is serialised; what is searched by stands beside it. Times in Unix nanoseconds."""

    batch: Batch
    name: str
    kind: int
    start: int
    end: int
    span: bytes


@dataclass(slots=True)
class Trace:
    """Its spans by their ids; one that is sent twice is kept once. `since` is when the first one came, on our clock."""

    id: bytes
    since: float
    spans: dict[bytes, StoredSpan] = field(default_factory=dict)
    bytes: int = 0

    @property
    def start(self) -> int:
        """Of its earliest span."""
        return min(each.start for each in self.spans.values())

    def in_order(self) -> list[StoredSpan]:
        """By start; of those that start together the longer first, which is the parent."""
        return sorted(self.spans.values(), key=lambda each: (each.start, -each.end))


@dataclass(frozen=True, slots=True)
class Query:
    """Traces with a span that fits all of it. Times in Unix nanoseconds, durations in nanoseconds; `service` "": any."""

    earliest: int
    latest: int
    service: str = ""
    operation: str = ""
    shortest: int = 0
    longest: int | None = None
    limit: int = 20

    def fits(self, span: StoredSpan) -> bool:
        """Whether a trace is wanted for this span."""
        took = span.end - span.start
        return (
            self.earliest <= span.start <= self.latest
            and self.service in ("", span.batch.service)
            and self.operation in ("", span.name)
            and took >= self.shortest
            and (self.longest is None or took <= self.longest)
        )


class TraceStore:
    """For one event loop."""

    def __init__(self, bounds: Bounds = Bounds(), clock: Callable[[], float] = monotonic) -> None:  # frozen
        self._bounds = bounds
        self._clock = clock
        self._traces: OrderedDict[bytes, Trace] = OrderedDict()
        self.spans = 0
        self.bytes = 0
        self.dropped = 0

    def add(self, request: ExportTraceServiceRequest) -> int:
        """Keep what can be kept; return how many spans were refused (no valid ids, too large, too many of one trace)."""
        refused = 0
        for part in request.resource_spans:
            service, resource = _service_of(part.resource), part.resource.SerializeToString()
            for scoped in part.scope_spans:
                batch = Batch(service, resource, (scoped.scope.name, scoped.scope.version))
                refused += sum(not self._keep(batch, span) for span in scoped.spans)
        self.expire()
        return refused

    def _keep(self, batch: Batch, span: Span) -> bool:
        raw = span.SerializeToString()
        if not (_valid(span.trace_id, 16) and _valid(span.span_id, 8)) or len(raw) > self._bounds.bytes_of_span:
            return False
        trace = self._traces.get(span.trace_id)
        if trace is None:
            trace = self._traces[span.trace_id] = Trace(span.trace_id, self._clock())
        if span.span_id in trace.spans:
            return True
        if len(trace.spans) >= self._bounds.spans_of_trace:
            return False
        trace.spans[span.span_id] = StoredSpan(
            batch, span.name, span.kind, span.start_time_unix_nano, span.end_time_unix_nano, raw
        )
        trace.bytes += len(raw)
        self.bytes += len(raw)
        self.spans += 1
        return True

    def expire(self) -> None:
        """Drop the oldest traces until all bounds hold."""
        oldest = self._clock() - self._bounds.seconds
        while self._traces:
            first = next(iter(self._traces.values()))
            if first.since >= oldest and self.spans <= self._bounds.spans and self.bytes <= self._bounds.bytes:
                return
            del self._traces[first.id]
            self.spans -= len(first.spans)
            self.bytes -= first.bytes
            self.dropped += 1

    def trace(self, trace_id: bytes) -> Trace | None:
        """One trace, as far as it has come in."""
        self.expire()
        return self._traces.get(trace_id)

    def find(self, query: Query) -> list[Trace]:
        """The newest `query.limit` traces that fit, the newest first."""
        self.expire()
        found = [each for each in self._traces.values() if any(map(query.fits, each.spans.values()))]
        found.sort(key=lambda each: each.start, reverse=True)
        return found[: query.limit]

    def services(self) -> list[str]:
        """Names of all that sent a span which is still here."""
        return sorted({span.batch.service for span in self._all()})

    def operations(self, service: str) -> list[tuple[str, int]]:
        """Names and kinds of this service's spans."""
        return sorted({(span.name, span.kind) for span in self._all() if span.batch.service == service})

    def _all(self) -> Iterator[StoredSpan]:
        self.expire()
        for trace in self._traces.values():
            yield from trace.spans.values()


def _valid(identity: bytes, length: int) -> bool:
    return len(identity) == length and any(identity)


def _service_of(resource: Resource) -> str:
    named: Iterable[str] = (each.value.string_value for each in resource.attributes if each.key == "service.name")
    return next(iter(named), "") or UNKNOWN_SERVICE
