"""JSON Schema of payloads, written by customers and run on our event loop: so only what cannot run away.

Refused: regular expressions (Python's backtrack), references that leave the document (they would fetch) or recur, and schemas
whose expansion is large. Payloads that are checked are bounded as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from referencing import Registry
from referencing.exceptions import Unresolvable

SCHEMA_BYTES = 16 * 1024
EXPANSION = 500
"""Subschemas, those behind references counted at each place that refers to them."""
DEPTH = 32
CHECKED_BYTES = 64 * 1024
"""Payloads of a type with a schema may be so large; checking costs some 10 µs for each value and rule."""
BACKTRACKING = frozenset({"pattern", "patternProperties"})
QUADRATIC = frozenset({"uniqueItems", "contains", "unevaluatedItems", "unevaluatedProperties"})
ELSEWHERE = frozenset({"$dynamicRef", "$recursiveRef", "$id", "$anchor", "$dynamicAnchor"})

NAMED = frozenset({"properties", "$defs", "dependentSchemas"})
"""Their members are schemas under names of the customer's choice."""
DATA = frozenset({"$ref", "enum", "const", "default", "examples", "description", "title"})


class SchemaRefused(ValueError):
    """The message is a sentence for the schema's author."""


class NotFitting(Exception):
    """`place` is a JSON pointer into the payload, `rule` the keyword that it breaks."""

    def __init__(self, place: str, rule: str) -> None:
        super().__init__(f"{place}: {rule}")
        self.place = place
        self.rule = rule


def check_schema(schema: dict[str, Any]) -> bytes:
    """The schema as it is stored. Raises SchemaRefused."""
    encoded = msgspec.json.encode(schema)
    if len(encoded) > SCHEMA_BYTES:
        raise SchemaRefused(f"A schema has at most {SCHEMA_BYTES} bytes.")
    # Before check_schema: that one follows what it finds.
    _expansion(schema, schema, (), 0)
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        place = "/".join(str(part) for part in error.absolute_path)[:100]
        raise SchemaRefused(f"It is not JSON Schema 2020-12 at /{place}.") from None
    return encoded


def _expansion(root: dict[str, Any], node: Any, following: tuple[str, ...], depth: int) -> int:
    """How many subschemas a check may visit."""
    if depth > DEPTH:
        raise SchemaRefused(f"It is nested more than {DEPTH} deep.")
    if isinstance(node, list):
        return _bounded(sum(_expansion(root, each, following, depth + 1) for each in node))
    if not isinstance(node, dict):
        return 0
    for banned, why in (
        (BACKTRACKING, "regular expressions are not run for others"),
        (QUADRATIC, "its cost grows with the square of the payload"),
        (ELSEWHERE, "references are plain $ref to #/..."),
    ):
        if found := sorted(banned & node.keys()):
            raise SchemaRefused(f"The keyword {found[0]} is not allowed: {why}.")
    total = 1
    for name, each in node.items():
        if name in NAMED and isinstance(each, dict):
            total += sum(_expansion(root, named, following, depth + 1) for named in each.values())
        elif name not in DATA:
            total += _expansion(root, each, following, depth + 1)
    if (reference := node.get("$ref")) is not None:
        total += _behind(root, reference, following, depth)
    return _bounded(total)


def _behind(root: dict[str, Any], reference: object, following: tuple[str, ...], depth: int) -> int:
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        raise SchemaRefused("A $ref must be # or #/..., within the schema itself.")
    if reference == "#" or reference in following:
        raise SchemaRefused("A $ref must not lead back to itself.")
    node: Any = root
    for part in _pointer(reference):
        if not isinstance(node, dict) or part not in node:
            raise SchemaRefused("A $ref leads nowhere.")
        node = node[part]
    return _expansion(root, node, (*following, reference), depth + 1)


def _pointer(reference: str) -> Iterator[str]:
    for part in reference[2:].split("/"):
        yield part.replace("~1", "/").replace("~0", "~")


def _bounded(total: int) -> int:
    if total > EXPANSION:
        raise SchemaRefused(f"It expands to more than {EXPANSION} subschemas.")
    return total


def compiled(schema: bytes) -> Draft202012Validator:
    """A validator that fetches nothing. `format` is not asserted."""
    return Draft202012Validator(msgspec.json.decode(schema), registry=Registry())


def check(validator: Draft202012Validator, payload: bytes) -> None:
    """Raises NotFitting with the first place that does not fit."""
    if len(payload) > CHECKED_BYTES:
        raise NotFitting("", f"at most {CHECKED_BYTES} bytes with a schema")
    try:
        error = next(iter(validator.iter_errors(msgspec.json.decode(payload))), None)
    except (RecursionError, Unresolvable):
        raise NotFitting("", "nesting") from None
    if error is not None:
        place = "".join(f"/{part}" for part in error.absolute_path)[:200]
        raise NotFitting(place, str(error.validator))
