"""Customers' schemas: what fits, where it does not, and which schemas are not run at all."""

from __future__ import annotations

import socket
from typing import Any

import msgspec
import pytest

from services.webhooks.payload_schema import NotFitting, SchemaRefused, check, check_schema, compiled

ORDER = {
    "type": "object",
    "required": ["amount"],
    "properties": {"amount": {"$ref": "#/$defs/amount"}, "lines": {"type": "array", "items": {"type": "string"}}},
    "$defs": {"amount": {"type": "integer", "minimum": 1}},
}


def place(schema: dict[str, Any], payload: object) -> tuple[str, str] | None:
    try:
        check(compiled(check_schema(schema)), msgspec.json.encode(payload))
    except NotFitting as error:
        return error.place, error.rule
    return None


@pytest.mark.parametrize(
    ("payload", "found"),
    [
        ({"amount": 5}, None),
        ({"amount": 5, "lines": ["a"]}, None),
        ({"amount": 0}, ("/amount", "minimum")),
        ({"amount": "5"}, ("/amount", "type")),
        ({}, ("", "required")),
        ({"amount": 5, "lines": ["a", 1]}, ("/lines/1", "type")),
    ],
)
def test_the_place_that_does_not_fit_is_named(payload: object, found: tuple[str, str] | None) -> None:
    assert place(ORDER, payload) == found


def bomb() -> dict[str, Any]:
    """Three times as much at each of eight levels."""
    levels = {f"l{n}": {"allOf": [{"$ref": f"#/$defs/l{n + 1}"}] * 3} for n in range(8)}
    return {"$ref": "#/$defs/l0", "$defs": {**levels, "l8": {"type": "object"}}}


def deep(levels: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(levels):
        found = {"not": found}
    return found


@pytest.mark.parametrize(
    ("schema", "sentence"),
    [
        ({"pattern": "(a+)+$"}, "regular expressions"),
        ({"properties": {"a": {"patternProperties": {"x": {}}}}}, "regular expressions"),
        ({"uniqueItems": True}, "square"),
        ({"contains": {"type": "integer"}}, "square"),
        ({"$ref": "http://127.0.0.1:1/schema"}, "within the schema"),
        ({"$ref": "other.json"}, "within the schema"),
        ({"$ref": 5}, "within the schema"),
        ({"$id": "http://example.com/x"}, "plain"),
        ({"$dynamicRef": "#x"}, "plain"),
        ({"$ref": "#"}, "back to itself"),
        ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}, "back to itself"),
        ({"$ref": "#/$defs/nowhere"}, "nowhere"),
        ({"type": "nonsense"}, "2020-12"),
        ({"minimum": "five"}, "2020-12"),
        ({"enum": ["x" * 20_000]}, "bytes"),
        (bomb(), "expands"),
        (deep(100), "deep"),
    ],
)
def test_a_schema_that_could_run_away_or_is_none_is_refused(schema: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SchemaRefused, match=sentence):
        check_schema(schema)


def test_a_field_may_be_called_like_a_keyword() -> None:
    schema = {"properties": {"pattern": {"type": "string"}, "$ref": {"type": "string"}}, "enum": [{"pattern": "x"}]}
    assert check_schema(schema)


def test_nothing_is_fetched_whatever_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    def connects(*_: object) -> None:
        raise AssertionError("a schema opened a socket")

    monkeypatch.setattr(socket.socket, "connect", connects)
    with pytest.raises(NotFitting):
        check(compiled(b'{"$ref": "http://127.0.0.1:1/schema"}'), b"{}")


def test_a_payload_too_large_to_check_is_refused() -> None:
    with pytest.raises(NotFitting, match="bytes"):
        check(compiled(b"{}"), b'{"a":"' + b"x" * 70_000 + b'"}')
