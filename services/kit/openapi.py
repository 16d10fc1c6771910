"""What OpenAPI says of routes that read and write their bodies themselves, from the msgspec types of these bodies.

`@router.post("/jobs", openapi_extra=documented(NewJob, 201, answer=JobView))`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from services.kit.query import PAGE, PAGE_LIMIT

_SCHEMAS = "#/components/schemas/"
_BEARER = "bearer"

PROBLEM: dict[str, Any] = {
    "description": "RFC 9457 problem",
    "content": {
        "application/problem+json": {
            "schema": {
                "type": "object",
                "required": ["type", "title", "status"],
                "properties": {
                    "type": {"type": "string", "pattern": "^urn:lab:[a-z0-9_]+$"},
                    "title": {"type": "string", "minLength": 1},
                    "status": {"type": "integer", "minimum": 400, "maximum": 599},
                    "detail": {"type": "string"},
                },
            }
        }
    },
}


def header(name: str, pattern: str, description: str, *, required: bool = False) -> dict[str, Any]:
    """A header of a request."""
    schema = {"type": "string", "pattern": pattern}
    return {"name": name, "in": "header", "required": required, "schema": schema, "description": description}


def query(name: str, schema: dict[str, Any], description: str = "") -> dict[str, Any]:
    """A parameter of a query."""
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


PAGING = (
    query("limit", {"type": "integer", "minimum": 1, "maximum": PAGE_LIMIT, "default": PAGE}),
    query("cursor", {"type": "string"}, "next_cursor of the page before"),
)
"""What `kit.query.Query` reads of a list."""
IF_MATCH = header("If-Match", r'^(\*|"[1-9][0-9]{0,17}")$', "The ETag that was read: only this version is changed")


def idempotency_key(description: str, *, required: bool = False) -> dict[str, Any]:
    """The header that `kit.http.idempotency_key` reads."""
    return header("Idempotency-Key", "^[!-~]{1,255}$", description, required=required)


def problem(description: str) -> dict[str, Any]:
    """A refusal, and when it is given."""
    return PROBLEM | {"description": description}


def content(kind: type, media_type: str = "application/json") -> dict[str, Any]:
    """A body of the struct `kind`, without references: FastAPI's document has no place for components of ours."""
    (schema,), components = msgspec.json.schema_components([kind], ref_template=_SCHEMAS + "{name}")
    return {media_type: {"schema": _inline(schema, components)}}


def documented(
    body: type | None,
    status: int,
    *,
    answer: type | None = None,
    parameters: Iterable[dict[str, Any]] = (),
    body_required: bool = True,
    public: bool = False,
) -> dict[str, Any]:
    """A route that takes `body` and answers `status` with `answer`, or with a problem. Needs a key unless `public`."""
    done: dict[str, Any] = {"description": "Done"}
    if answer is not None:
        done["content"] = content(answer)
    document: dict[str, Any] = {"responses": {"4XX": PROBLEM, "503": PROBLEM, str(status): done}}
    if listed := list(parameters):
        document["parameters"] = listed
    if body is not None:
        document["requestBody"] = {"required": body_required, "content": content(body)}
    if not public:
        document["security"] = [{_BEARER: []}]
    return document


def made_true(document: dict[str, Any], *, deadlines: bool) -> dict[str, Any]:
    """The document as our processes behave, changed in place; a second time changes nothing.

    FastAPI says of every route that it may answer 200, and 422 in a shape of its own: ours say themselves what they answer,
    and refuse with problems. What kit.http answers before any route is said of all of them.
    """
    refusals = ("4XX", "503", "504") if deadlines else ("4XX", "503")
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    for operation in operations:
        told: dict[str, Any] = operation["responses"]
        if "HTTPValidationError" in str(told.get("422")):
            del told["422"]
        others = [code for code in told if code.startswith("2") and code != "200"]
        if others and told.get("200", {}).get("description") == "Successful Response":
            del told["200"]
        for code in refusals:
            told.setdefault(code, PROBLEM)
    components = document.setdefault("components", {})
    for name in ("HTTPValidationError", "ValidationError"):
        components.get("schemas", {}).pop(name, None)
    if any("security" in operation for operation in operations):
        components["securitySchemes"] = {_BEARER: {"type": "http", "scheme": "bearer"}}
    return document


def _inline(schema: Any, components: dict[str, Any]) -> Any:
    if isinstance(schema, dict):
        if "$ref" in schema:
            return _inline(components[schema["$ref"].removeprefix(_SCHEMAS)], components)
        return {name: _pattern(name, value) or _inline(value, components) for name, value in schema.items()}
    return [_inline(value, components) for value in schema] if isinstance(schema, list) else schema


def _pattern(name: str, value: Any) -> str | None:
    """A pattern as JSON Schema has it: ECMA 262 knows no \\Z, and its $ is only at the very end."""
    return re.sub(r"\\Z$", "$", value) if name == "pattern" and isinstance(value, str) else None
