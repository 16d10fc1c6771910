"""Routes' bodies in OpenAPI: nested structs stand where they are used, and every route can be refused."""

from __future__ import annotations

from typing import Annotated

import msgspec
import pytest
from fastapi import APIRouter, FastAPI, Request
from starlette.responses import Response

from services.kit import openapi
from services.kit.http import json_response, read_json, service_app
from services.kit.openapi import content, documented, idempotency_key
from services.kit.settings import ProcessSettings


class Item(msgspec.Struct):
    sku: str
    extra: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"{}"))


class Order(msgspec.Struct):
    items: list[Item]


def test_a_nested_struct_is_written_out() -> None:
    schema = content(Order)["application/json"]["schema"]
    assert schema["properties"]["items"]["items"]["properties"]["sku"] == {"type": "string"}
    assert "$ref" not in str(schema)


class Named(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(pattern=r"^[a-z]+\Z")]
    pattern: str


def test_a_pattern_ends_as_json_schema_has_it() -> None:
    schema = content(Named)["application/json"]["schema"]
    assert schema["properties"]["name"]["pattern"] == "^[a-z]+$"
    assert schema["properties"]["pattern"] == {"type": "string"}


def test_a_route_without_bodies_can_still_be_refused() -> None:
    document = documented(None, 204)
    assert set(document) == {"responses", "security"}
    assert set(document["responses"]) == {"204", "4XX", "503"}
    assert "content" not in document["responses"]["204"]


def test_a_route_with_bodies_and_a_key() -> None:
    document = documented(Item, 201, answer=Order, parameters=[idempotency_key("Once only", required=True)])
    assert document["requestBody"]["required"]
    assert document["responses"]["201"]["content"] == content(Order)
    (parameter,) = document["parameters"]
    assert (parameter["name"], parameter["required"]) == ("Idempotency-Key", True)


def test_a_body_may_be_left_out_and_a_route_may_be_public() -> None:
    assert documented(Item, 200, body_required=False)["requestBody"]["required"] is False
    assert "security" not in documented(Item, 200, public=True)


@pytest.fixture
def app() -> FastAPI:
    router = APIRouter(prefix="/v1")

    @router.post("/orders/{order}", openapi_extra=documented(Item, 201, answer=Order))
    async def create(order: str, request: Request) -> Response:
        await read_json(request, Item)
        return json_response(201, Order([]))

    @router.get("/news")
    async def news() -> Response:
        return json_response(200, [])

    made = service_app("test", ProcessSettings(http_port=1))
    made.include_router(router)
    return made


def test_a_document_says_only_what_the_service_answers(app: FastAPI) -> None:
    paths = app.openapi()["paths"]
    assert set(paths["/v1/orders/{order}"]["post"]["responses"]) == {"201", "4XX", "503"}
    assert set(paths["/v1/news"]["get"]["responses"]) == {"200", "4XX", "503"}
    assert "HTTPValidationError" not in str(app.openapi())


def test_a_document_says_which_routes_need_a_key(app: FastAPI) -> None:
    document = app.openapi()
    (needed,) = document["paths"]["/v1/orders/{order}"]["post"]["security"]
    assert set(needed) == set(document["components"]["securitySchemes"])
    assert "security" not in document["paths"]["/v1/news"]["get"]


def test_making_a_document_true_twice_changes_nothing(app: FastAPI) -> None:
    once = msgspec.json.encode(app.openapi())
    assert msgspec.json.encode(openapi.made_true(app.openapi(), deadlines=False)) == once


def test_a_service_with_deadlines_may_answer_504(app: FastAPI) -> None:
    document = openapi.made_true(app.openapi(), deadlines=True)
    assert "504" in document["paths"]["/v1/news"]["get"]["responses"]
