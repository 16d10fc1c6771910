"""Rules, clicks and taste through the API's process, on real Postgres, Kafka and engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import msgspec
import pytest

from labs.week07.generated import writes
from services.kit import ids
from services.search.ranking.rules import MOST_PRODUCTS
from tests.integration.search.stack import SEED, Stack, client, some, until
from tests.stack import Process

pytestmark = pytest.mark.integration

KEY = "a-rules-key-for-tests"
PRODUCTS = 300
AUTHORISED = {"Authorization": f"Bearer {KEY}"}


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: Any


async def call(
    process: Process, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
) -> Answer:
    data = body if isinstance(body, bytes) or body is None else msgspec.json.encode(body)
    sent = None if data is None else BytesIO(data)
    kind = {} if data is None else {"Content-Type": "application/json"}
    async with (
        client() as session,
        session.request(method, f"{process.url}{path}", data=sent, headers={**kind, **(headers or {})}) as answer,
    ):
        text = await answer.read()
        return Answer(answer.status, answer.headers, msgspec.json.decode(text) if text else None)


async def started(stack: Stack) -> Process:
    name = await stack.reading()
    async with stack.engine() as engine:
        await engine.bulk(writes(name, SEED, 0, PRODUCTS), refresh=True)
    return await stack.start("api", environment=api_environment(stack))


def api_environment(stack: Stack) -> dict[str, str]:
    return {
        "SEARCH_CURSOR_KEY": "a-key-for-tests-only",
        "SEARCH_RULES_KEY": KEY,
        "SEARCH_RULES_SECONDS": "0.1",
        "SEARCH_KAFKA_BOOTSTRAP": stack.bootstrap,
        "SEARCH_CACHE_SECONDS": "0.05",
        "SEARCH_DEADLINE_SECONDS": "30",
        "SEARCH_DEADLINE_LIMIT_SECONDS": "30",
    }


async def hits(process: Process, query: str) -> list[dict[str, Any]]:
    answer = await call(process, "GET", f"/v1/search?{query}", headers={"Cache-Control": "no-cache"})
    assert answer.status == 200, answer.body
    found: list[dict[str, Any]] = answer.body["hits"]
    return found


def product(number: int) -> str:
    return ids.encode("prd", some(number).id)


async def test_a_rule_counts_from_its_put_to_its_delete(stack: Stack) -> None:
    process = await started(stack)
    before = [each["id"] for each in await hits(process, "q=lamp&limit=5")]
    wanted = product(0)
    assert wanted not in before
    body = {"action": "pin", "products": [wanted], "query": "Lamp", "note": "sale"}
    made = await call(process, "PUT", "/v1/rules/sale", body, AUTHORISED)
    assert (made.status, made.headers["ETag"], made.body["query"]) == (201, '"1"', "lamp")
    assert (await hits(process, "q=lamp&limit=5"))[0]["id"] == wanted
    excluded = {"action": "exclude", "products": before[:1]}
    assert (await call(process, "PUT", "/v1/rules/out", excluded, AUTHORISED)).status == 201
    shown = [each["id"] for each in await hits(process, "q=lamp&limit=5")]
    assert before[0] not in shown
    listed = await call(process, "GET", "/v1/rules?limit=1", headers=AUTHORISED)
    assert ([each["id"] for each in listed.body["data"]], listed.body["next_cursor"]) == (["out"], "out")
    again = await call(process, "PUT", "/v1/rules/sale", body, {**AUTHORISED, "If-Match": '"1"'})
    assert (again.status, again.headers["ETag"]) == (200, '"2"')
    for rule in ("sale", "out", "out"):
        assert (await call(process, "DELETE", f"/v1/rules/{rule}", headers=AUTHORISED)).status == 204
    assert (await call(process, "GET", "/v1/rules/sale", headers=AUTHORISED)).status == 404
    assert [each["id"] for each in await hits(process, "q=lamp&limit=5")] == before


async def test_what_is_wrong_with_a_rule_is_said_in_a_sentence(stack: Stack) -> None:
    process = await started(stack)
    good = {"action": "exclude", "products": [product(0)]}
    assert (await call(process, "PUT", "/v1/rules/r", good, AUTHORISED)).status == 201
    cases: list[tuple[str, str, Any, Mapping[str, str], int, str]] = [
        ("PUT", "/v1/rules/r", good, {}, 401, "unauthorised"),
        ("PUT", "/v1/rules/r", good, {"Authorization": "Bearer wrong"}, 401, "unauthorised"),
        ("PUT", "/v1/rules/r", good, {**AUTHORISED, "If-Match": '"7"'}, 412, "version_mismatch"),
        ("PUT", "/v1/rules/r", good, {**AUTHORISED, "If-None-Match": "*"}, 412, "version_mismatch"),
        ("PUT", "/v1/rules/r", good, {**AUTHORISED, "If-Match": "x"}, 422, "invalid_request"),
        ("PUT", "/v1/rules/R!", good, AUTHORISED, 422, "invalid_rule"),
        ("PUT", "/v1/rules/r", {"action": "pin", "products": [product(0)]}, AUTHORISED, 422, "invalid_rule"),
        ("PUT", "/v1/rules/r", {"action": "exclude", "products": ["x"]}, AUTHORISED, 422, "invalid_rule"),
        ("PUT", "/v1/rules/r", {"action": "praise"}, AUTHORISED, 422, ""),
        ("PUT", "/v1/rules/r", {**good, "colour": "red"}, AUTHORISED, 422, ""),
        ("PUT", "/v1/rules/r", {**good, "products": [product(0)] * (MOST_PRODUCTS + 1)}, AUTHORISED, 422, ""),
        ("PUT", "/v1/rules/r", b"\xff", AUTHORISED, 400, ""),
        ("PUT", "/v1/rules/r", b"x" * 2_000_000, AUTHORISED, 413, "body_too_large"),
        ("GET", "/v1/rules?limit=0", None, AUTHORISED, 422, "invalid_request"),
        ("GET", "/v1/rules?colour=red", None, AUTHORISED, 422, "invalid_request"),
        ("GET", "/v1/rules/none", None, AUTHORISED, 404, "no_such_rule"),
        ("POST", "/v1/clicks", {"clicks": []}, {}, 422, ""),
        ("POST", "/v1/clicks", {"clicks": [{"user": "ann", "kind": "click", "product": "x"}]}, {}, 422, ""),
        ("POST", "/v1/clicks", {"clicks": [{"user": "a b", "kind": "click", "product": product(0)}]}, {}, 422, ""),
        ("POST", "/v1/clicks", {"clicks": [{"user": "ann", "kind": "steal", "product": product(0)}]}, {}, 422, ""),
        ("POST", "/v1/clicks", b"nonsense", {}, 400, ""),
    ]
    for method, path, body, headers, status, kind in cases:
        answer = await call(process, method, path, body, headers)
        assert answer.status == status, (method, path, body, answer.body)
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert kind in answer.body["type"]


async def test_who_buys_a_makers_things_is_shown_them_sooner_also_after_a_restart(stack: Stack) -> None:
    process = await started(stack)
    loved = (await hits(process, "q=running%20shoes&limit=30"))[-1]["id"]

    async def taste(user: str) -> float:
        query = f"q=running%20shoes&ranking=personalised&user={user}&explain=1&id={loved}"
        answer = await call(process, "GET", f"/v1/search?{query}")
        assert answer.status == 200, answer.body
        boosts = {each["name"]: each["factor"] for each in answer.body["explanation"]["boosts"]}
        return float(boosts["taste"])

    assert await taste("ann") == 1.0
    clicks = {"clicks": [{"user": "ann", "kind": "purchase", "product": loved}] * 3}
    told = await call(process, "POST", "/v1/clicks", clicks)
    assert (told.status, told.body) == (202, {"taken": 3, "dropped": 0})

    async def liked() -> bool:
        return await taste("ann") > 1.1

    await until(liked, within=60, what="ann's taste counts")
    assert await taste("bob") == 1.0
    assert await stack.metric(process, 'search_clicks_total{outcome="sent"}') == 3
    process.terminate()
    process = await stack.start("api", environment=api_environment(stack))
    await until(liked, within=60, what="ann's taste is read again")
