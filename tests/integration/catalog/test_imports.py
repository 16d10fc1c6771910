"""Imports: whole, in bounded memory, resumed after whatever cut them off, each bad line told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import aiohttp
import msgspec
import psutil
import pytest

from services.catalog import failpoints
from tests.integration.catalog.stack import KEY, LINES, Answer, Process, Stack, body, until
from tests.integration.catalog.test_products import assert_problem, variants
from tests.servers import PostgresServer
from tests.stack import client

pytestmark = pytest.mark.integration


def fresh() -> str:
    return uuid4().hex[:12]


def lines(*bodies: dict[str, Any] | bytes) -> bytes:
    return b"".join((one if isinstance(one, bytes) else msgspec.json.encode(one)) + b"\n" for one in bodies)


def many(name: str, count: int, **changes: Any) -> list[dict[str, Any]]:
    return [body(f"{name}-{number}", **changes) for number in range(count)]


async def prices(stack: Stack, name: str) -> list[int]:
    rows = await stack.sql("SELECT price FROM products WHERE sku LIKE $1 ORDER BY length(sku), sku", f"{name}-%")
    return [row["price"] for row in rows]


async def test_lines_are_made_products_and_the_same_lines_again_change_nothing(running: Stack) -> None:
    name = fresh()
    given = lines(*many(name, 35), body(f"{name}-v", variants=variants(f"{name}-v", 1, 2)))
    first = await running.send_lines(given, name)
    assert first.status == 200, first.body
    assert {key: first.json["of"][key] for key in ("next_line", "created", "updated", "rejected")} == {
        "next_line": 37,
        "created": 36,
        "updated": 0,
        "rejected": 0,
    }
    again = await running.send_lines(given, name)
    assert (again.json["skipped"], again.json["of"]["created"]) == (36, 36)
    anew = await running.send_lines(given, fresh())
    assert (anew.json["of"]["unchanged"], anew.json["of"]["updated"], anew.json["of"]["created"]) == (36, 0, 0)
    rows = await running.sql("SELECT DISTINCT version FROM products WHERE sku LIKE $1", f"{name}-%")
    assert [row["version"] for row in rows] == [1]


async def test_a_product_that_is_there_is_brought_up_to_date_and_keeps_id_and_date(running: Stack) -> None:
    name = fresh()
    before = await running.request(
        "GET", f"/v1/products/{await running.create(f'{name}-0', variants=variants(f'{name}-v', 1, 2))}"
    )
    done = await running.send_lines(lines(body(f"{name}-0", price=7, variants=variants(f"{name}-v", 5))), name)
    assert done.json["of"]["updated"] == 1
    after = await running.request("GET", f"/v1/products/{before.json['id']}")
    assert (after.json["price"], after.json["stock"], after.json["version"]) == (7, 5, 2)
    assert after.json["created_at"] == before.json["created_at"]


async def test_a_sku_that_comes_twice_ends_as_its_last_line_says(running: Stack) -> None:
    name = fresh()
    done = await running.send_lines(lines(*(body(f"{name}-0", price=n) for n in range(1, 6))), name)
    assert (done.json["of"]["created"], done.json["of"]["updated"]) == (1, 4)
    assert await prices(running, name) == [5]


async def test_each_bad_line_is_told_with_its_number_and_why_and_the_others_are_taken(running: Stack) -> None:
    name = fresh()
    given = lines(
        body(f"{name}-0"),
        b"{",
        b"",
        body(f"{name}-1", price=-1),
        b"\xff\xfe",
        body(f"{name}-2", brand_id=99),
        b"x" * 70_000,
        body(f"{name}-3", colour="red"),
        body(f"{name}-4", variants=[{"sku": "v", "price": 1}, {"sku": "v", "price": 1}]),
        b'{"sku":"a","language":"\\u0000"}',
        body(f"{name}-5"),
    )
    done = await running.send_lines(given, name)
    assert (done.json["of"]["created"], done.json["of"]["rejected"]) == (2, 8)
    told = {one["line"]: one["problem"] for one in done.json["errors"]}
    assert set(told) == {2, 4, 5, 6, 7, 8, 9, 10}
    assert "JSON" in told[2]
    assert "$.price" in told[4]
    assert "brand_id" in told[6]
    assert "longer than" in told[7]
    assert "colour" in told[8]
    first = await running.request("GET", f"/v1/imports/{name}/errors?limit=5")
    rest = await running.request("GET", f"/v1/imports/{name}/errors?cursor={first.json['next_cursor']}")
    assert {one["line"]: one["problem"] for one in first.json["data"] + rest.json["data"]} == told


async def test_a_variant_of_another_product_is_a_bad_line(running: Stack) -> None:
    name = fresh()
    await running.create(f"{name}-0", variants=variants(f"{name}-v", 1))
    given = lines(
        body(f"{name}-1", variants=variants(f"{name}-v", 1)),
        body(f"{name}-2", variants=variants(f"{name}-n", 1)),
        body(f"{name}-3", variants=variants(f"{name}-n", 1)),
    )
    done = await running.send_lines(given, name)
    assert [one["line"] for one in done.json["errors"]] == [1, 3]
    assert done.json["of"]["created"] == 1


async def test_an_import_of_garbage_is_stopped(running: Stack) -> None:
    name = fresh()
    stopped = await running.send_lines(b"garbage\n" * 500, name)
    assert_problem(stopped, 422, "too_many_bad_lines")
    assert stopped.json["next_line"] == 61
    mended = await running.send_lines(lines(*many(name, 3)), name, **{"Import-First-Line": "61"})
    assert_problem(mended, 422, "too_many_bad_lines")
    assert await prices(running, name) == [100] * 3


async def test_an_import_goes_on_where_it_stands(running: Stack) -> None:
    name = fresh()
    whole = many(name, 40)
    await running.send_lines(lines(*whole[:25]), name)
    missing = await running.send_lines(lines(*whole[30:]), name, **{"Import-First-Line": "31"})
    assert_problem(missing, 409, "lines_missing")
    assert missing.json["next_line"] == 26
    rest = await running.send_lines(lines(*whole[20:]), name, **{"Import-First-Line": "21"})
    assert (rest.json["skipped"], rest.json["of"]["next_line"], rest.json["of"]["created"]) == (5, 41, 40)
    assert len(await prices(running, name)) == 40


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Content-Type": "application/json"}, 415, "unsupported_media_type"),
        ({"Content-Type": "application/x-ndjson; charset=latin-1"}, 415, "unsupported_media_type"),
        ({"Content-Encoding": "gzip"}, 415, "unsupported_media_type"),
        ({"Import-Id": "a b"}, 400, "invalid_import"),
        ({"Import-Id": "x" * 101}, 400, "invalid_import"),
        ({"Import-First-Line": "0"}, 400, "invalid_import"),
        ({"Import-First-Line": "-1"}, 400, "invalid_import"),
        ({"Import-First-Line": "x"}, 400, "invalid_import"),
        ({"Import-First-Line": "9" * 30}, 400, "invalid_import"),
    ],
)
async def test_an_import_that_cannot_be_begun_so_is_refused(
    running: Stack, headers: dict[str, str], status: int, code: str
) -> None:
    name = fresh()
    answer = await running.request(
        "POST", "/v1/imports", data=lines(body(name)), headers={**LINES, "Import-Id": name, **headers}
    )
    assert_problem(answer, status, code)
    assert await prices(running, name) == []


async def test_a_place_needs_the_import_that_it_is_a_place_of(running: Stack) -> None:
    answer = await running.request("POST", "/v1/imports", data=b"", headers={**LINES, "Import-First-Line": "5"})
    assert_problem(answer, 400, "invalid_import")
    nameless = await running.request("POST", "/v1/imports", data=lines(body(fresh())), headers=LINES)
    assert nameless.status == 200
    assert (await running.request("GET", f"/v1/imports/{nameless.json['of']['id']}")).json["created"] == 1


async def test_of_two_that_carry_one_import_on_the_second_is_told_so(running: Stack) -> None:
    name = fresh()
    given = lines(*many(name, 200))
    answers = await asyncio.gather(running.send_lines(given, name), running.send_lines(given, name))
    assert {answer.status for answer in answers} <= {200, 409}
    while (state := (await running.request("GET", f"/v1/imports/{name}")).json)["next_line"] != 201:
        await running.send_lines(given, name)
    assert (state["created"], state["rejected"]) == (200, 0)
    assert len(await prices(running, name)) == 200


async def test_more_imports_at_once_than_allowed_are_refused(running: Stack) -> None:
    going = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield lines(body(fresh()))
        await going.wait()

    async with client() as session:
        url = f"http://127.0.0.1:{running.ports['api']}/v1/imports"
        held = [asyncio.create_task(_post(session, url, slowly())) for _ in range(2)]
        process = next(one for one in running.processes if one.role == "api")
        await until(lambda: _both(running, process), what="both imports running")
        refused = await running.send_lines(lines(body(fresh())), fresh())
        assert_problem(refused, 503, "overloaded")
        going.set()
        assert [await one for one in held] == [200, 200]


async def _post(session: aiohttp.ClientSession, url: str, data: AsyncIterator[bytes]) -> int:
    async with session.post(url, data=data, headers={**KEY, **LINES}) as answer:
        return answer.status


async def test_who_hangs_up_in_the_middle_loses_nothing_that_was_committed(running: Stack) -> None:
    name = fresh()
    reader, writer = await asyncio.open_connection("127.0.0.1", running.ports["api"])
    head = f"POST /v1/imports HTTP/1.1\r\nHost: x\r\nAuthorization: {KEY['Authorization']}\r\nImport-Id: {name}\r\n"
    writer.write(f"{head}Content-Type: application/x-ndjson\r\nContent-Length: 999999\r\n\r\n".encode())
    writer.write(lines(*many(name, 20)) + b'{"sku": "half')
    await writer.drain()
    await until(lambda: _there(running, name, 20), what="20 products")
    writer.close()
    await writer.wait_closed()
    del reader
    assert (await running.request("GET", f"/v1/imports/{name}")).json["next_line"] == 21
    done = await running.send_lines(lines(*many(name, 25)), name)
    assert (done.json["skipped"], done.json["of"]["created"]) == (20, 25)


@pytest.mark.slow
async def test_a_large_import_takes_no_more_memory_than_a_small_one(running: Stack) -> None:
    name = fresh()
    api = psutil.Process(next(one for one in running.processes if one.role == "api").popen.pid)
    await running.send_lines(lines(*many(name, 50, description="d" * 9_000)), name)
    before = api.memory_info().rss

    async def stream() -> AsyncIterator[bytes]:
        for start in range(0, 3_000, 10):
            yield lines(*(body(f"{name}-big", price=n + 1, description="d" * 9_000) for n in range(start, start + 10)))

    async with client() as session:
        assert await _post(session, f"http://127.0.0.1:{running.ports['api']}/v1/imports", stream()) == 200
    assert api.memory_info().rss - before < 25 << 20, "27 MB went through"


@pytest.mark.parametrize("point", [failpoints.IMPORT_BEFORE_COMMIT, failpoints.IMPORT_AFTER_COMMIT])
async def test_an_import_killed_at_any_point_is_whole_after_it_was_sent_again(
    postgres_server: PostgresServer, point: str
) -> None:
    stack = Stack(postgres_server, extra={"CATALOG_IMPORT_PORTION": "10"})
    try:
        await stack.migrate()
        await stack.tree()
        whole = lines(*many("k", 55))
        first = await stack.start("api", failpoints=f"{point}=kill@3")
        with pytest.raises(aiohttp.ClientError):
            await stack.send_lines(whole, "k")
        assert first.popen.wait(10) != 0
        await stack.start("api")
        stands = (await stack.request("GET", "/v1/imports/k")).json["next_line"]
        assert stands == (21 if point == failpoints.IMPORT_BEFORE_COMMIT else 31)
        done = await stack.send_lines(whole, "k")
        assert (done.json["skipped"], done.json["of"]["created"], done.json["of"]["updated"]) == (stands - 1, 55, 0)
        assert len(await prices(stack, "k")) == 55
    finally:
        stack.stop()


async def test_a_product_whose_maker_was_killed_is_made_once_under_its_key(postgres_server: PostgresServer) -> None:
    stack = Stack(postgres_server)
    try:
        await stack.migrate()
        await stack.tree()
        await stack.start("api", failpoints=f"{failpoints.API_AFTER_COMMIT}=kill@1")
        key = {"Idempotency-Key": "k"}
        with pytest.raises(aiohttp.ClientError):
            await stack.request("POST", "/v1/products", json=body("k"), headers=key)
        await stack.start("api")
        again = await stack.request("POST", "/v1/products", json=body("k"), headers=key)
        assert (again.status, again.headers["Idempotent-Replayed"]) == (201, "true")
        assert len(await stack.sql("SELECT 1 FROM products")) == 1
    finally:
        stack.stop()


def test_every_failpoint_is_walked() -> None:
    assert set(failpoints.ALL) == {
        failpoints.IMPORT_BEFORE_COMMIT,
        failpoints.IMPORT_AFTER_COMMIT,
        failpoints.API_AFTER_COMMIT,
    }


async def test_a_database_that_is_away_is_told_and_the_import_goes_on(running: Stack) -> None:
    """The connections are cut, as a failover does."""
    name = fresh()

    async def cut() -> AsyncIterator[bytes]:
        yield lines(*many(name, 20))
        await until(lambda: _there(running, name, 20), what="20 products")
        await running.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'catalog-api'"
        )
        yield lines(*many(name, 40)[20:])

    async with client() as session:
        url = f"http://127.0.0.1:{running.ports['api']}/v1/imports"
        async with session.post(url, data=cut(), headers={**KEY, **LINES, "Import-Id": name}) as answer:
            assert answer.status in (200, 503)
    done = await _sent_until_taken(running, lines(*many(name, 40)), name)
    assert done.json["of"]["next_line"] == 41
    assert len(await prices(running, name)) == 40


async def _sent_until_taken(stack: Stack, given: bytes, name: str) -> Answer:
    while True:
        answer = await stack.send_lines(given, name)
        if answer.status == 200:
            return answer
        assert answer.status == 503, answer.body


async def _there(stack: Stack, name: str, count: int) -> bool:
    return len(await prices(stack, name)) >= count


async def _both(stack: Stack, process: Process) -> bool:
    return await stack.metric(process, "catalog_imports_running") == 2
