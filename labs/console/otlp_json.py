"""Stored traces as OTLP JSON: ids in hex, 64-bit numbers as strings, enums as numbers (OTLP specification, JSON encoding)."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from labs.console.otlp_store import Batch, StoredSpan, Trace

Json = dict[str, Any]


def traces_json(traces: Iterable[Trace]) -> Json:
    """`{"resourceSpans": [...]}`, one trace after the other, the spans of each process in order of their start."""
    return {"resourceSpans": [part for trace in traces for part in _resource_spans(trace)]}


def _resource_spans(trace: Trace) -> list[Json]:
    groups: dict[tuple[bytes, tuple[str, str]], list[StoredSpan]] = {}
    for span in trace.in_order():
        groups.setdefault((span.batch.resource, span.batch.scope), []).append(span)
    return [_group(spans[0].batch, spans) for spans in groups.values()]


def _group(batch: Batch, spans: Sequence[StoredSpan]) -> Json:
    name, version = batch.scope
    scope = {"name": name, "version": version} if version else {"name": name}
    resource = Resource.FromString(batch.resource)
    return {
        "resource": {"attributes": _attributes(resource.attributes)},
        "scopeSpans": [{"scope": scope, "spans": [span_json(Span.FromString(each.span)) for each in spans]}],
    }


def span_json(span: Span) -> Json:
    """One span. What is empty is left out."""
    whole: Json = {
        "traceId": span.trace_id.hex(),
        "spanId": span.span_id.hex(),
        "traceState": span.trace_state,
        "parentSpanId": span.parent_span_id.hex(),
        "flags": span.flags,
        "name": span.name,
        "kind": span.kind,
        "startTimeUnixNano": str(span.start_time_unix_nano),
        "endTimeUnixNano": str(span.end_time_unix_nano),
        "attributes": _attributes(span.attributes),
        "events": [
            {
                "timeUnixNano": str(event.time_unix_nano),
                "name": event.name,
                "attributes": _attributes(event.attributes),
            }
            for event in span.events
        ],
        "links": [
            {
                "traceId": link.trace_id.hex(),
                "spanId": link.span_id.hex(),
                "attributes": _attributes(link.attributes),
            }
            for link in span.links
        ],
    }
    kept = {name: value for name, value in whole.items() if value}
    return {**kept, "status": _status(span.status)}


def _status(status: Status) -> Json:
    shown: Json = {"code": status.code} if status.code else {}
    if status.message:
        shown["message"] = status.message
    return shown


def _attributes(attributes: Iterable[KeyValue]) -> list[Json]:
    return [{"key": each.key, "value": _value(each.value)} for each in attributes]


def _value(value: AnyValue) -> Json:
    match value.WhichOneof("value"):
        case "string_value":
            return {"stringValue": value.string_value}
        case "bool_value":
            return {"boolValue": value.bool_value}
        case "int_value":
            return {"intValue": str(value.int_value)}
        case "double_value":
            return {"doubleValue": value.double_value}
        case "array_value":
            return {"arrayValue": {"values": [_value(each) for each in value.array_value.values]}}
        case "kvlist_value":
            return {"kvlistValue": {"values": _attributes(value.kvlist_value.values)}}
        case "bytes_value":
            return {"bytesValue": base64.b64encode(value.bytes_value).decode()}
    return {}
