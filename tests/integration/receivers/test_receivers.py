from __future__ import annotations

import asyncio
import base64
import signal
import time
from collections.abc import Callable

import aiohttp
import asyncpg
import pytest

from tests.integration.receivers.conftest import ReceiversProcess, Sender, signed

pytestmark = pytest.mark.integration

BODY = b'{"type":"a.b","event_id":"evt-1"}'


async def rows(record: asyncpg.Connection) -> list[asyncpg.Record]:
    return await record.fetch(
        "SELECT receiver, webhook_id, event_id, status, verified, behaviour FROM requests ORDER BY id"
    )


async def test_a_webhook_is_recorded_before_it_is_answered(sender: Sender, record: asyncpg.Connection) -> None:
    status, _ = await sender.post(17, BODY)
    assert status == 200
    assert [tuple(row) for row in await rows(record)] == [(17, "msg_1", "evt-1", 200, True, None)]


async def test_the_event_id_is_found_wherever_a_sender_puts_it(sender: Sender, record: asyncpg.Connection) -> None:
    for body in (
        b'{"id":"evt-3","data":{}}',
        b'{"data":{"event_id":"evt-2"}}',
        b'{"data":{}}',
        b"not json",
        b"\xff\xfe",
        b"[" * 5000,
        b"",
    ):
        await sender.post(1, body)
    assert [row["event_id"] for row in await rows(record)] == ["evt-3", "evt-2", None, None, None, None, None]


@pytest.mark.parametrize(
    "made",
    [
        lambda: {"webhook-id": "msg_1"},
        lambda: signed(1, b"another body"),
        lambda: signed(2, b"{}"),
        lambda: signed(1, b"{}", at=int(time.time()) - 400),
        lambda: signed(1, b"{}", at=int(time.time()) + 400),
        lambda: signed(1, b"{}") | {"webhook-timestamp": "soon"},
        lambda: signed(1, b"{}") | {"webhook-timestamp": "9" * 400},
        lambda: signed(1, b"{}") | {"webhook-signature": "v1,!!!"},
        lambda: signed(1, b"{}") | {"webhook-signature": "v1"},
        lambda: signed(1, b"{}") | {"webhook-signature": "v1," + base64.b64encode(b"x" * 32).decode()},
    ],
)
async def test_a_signature_that_is_not_genuine_is_recorded_as_unverified(
    sender: Sender, record: asyncpg.Connection, made: Callable[[], dict[str, str]]
) -> None:
    status, _ = await sender.post(1, b"{}", **made())
    assert status == 200
    assert [row["verified"] for row in await rows(record)] == [False]


async def test_one_of_several_signatures_suffices(sender: Sender, record: asyncpg.Connection) -> None:
    headers = signed(1, b"{}")
    headers["webhook-signature"] = "v1,AAAA v1a,BBBB " + headers["webhook-signature"]
    await sender.post(1, b"{}", **headers)
    assert [row["verified"] for row in await rows(record)] == [True]


@pytest.mark.parametrize(
    ("behaviour", "status", "header"),
    [
        ("gone", 410, None),
        ("failing", 500, None),
        ("rate_limited", 429, ("Retry-After", "7")),
        ("redirect", 307, ("Location", "/r/3/elsewhere")),
    ],
)
async def test_a_receiver_answers_as_it_is_told(
    sender: Sender, record: asyncpg.Connection, behaviour: str, status: int, header: tuple[str, str] | None
) -> None:
    more = {"retry_after": 7} if behaviour == "rate_limited" else {}
    assert await sender.switch(behaviour, first=3, count=1, **more) == 204
    answered, headers = await sender.post(3, BODY)
    assert answered == status
    if header is not None:
        assert headers[header[0]] == header[1]
    assert (await sender.post(4, BODY))[0] == 200
    found = [(row["receiver"], row["status"], row["behaviour"]) for row in await rows(record)]
    assert found == [(3, status, behaviour), (4, 200, None)]


async def test_a_dead_receiver_resets_the_connection(sender: Sender, record: asyncpg.Connection) -> None:
    await sender.switch("dead", first=3, count=1)
    with pytest.raises(aiohttp.ClientConnectionError):
        await sender.post(3, BODY)
    assert [(row["status"], row["behaviour"]) for row in await rows(record)] == [(None, "dead")]


async def test_a_hanging_receiver_never_answers(sender: Sender, record: asyncpg.Connection) -> None:
    await sender.switch("hang", first=3, count=1, seconds=0.2)
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await sender.post(3, BODY)
    assert [(row["status"], row["behaviour"]) for row in await rows(record)] == [(None, "hang")]


async def test_a_slow_receiver_answers_in_the_end(sender: Sender, record: asyncpg.Connection) -> None:
    await sender.switch("slow", first=3, count=1, seconds=0.1)
    assert (await sender.post(3, BODY))[0] == 200
    assert [(row["status"], row["behaviour"]) for row in await rows(record)] == [(200, "slow")]


async def test_a_lying_receiver_says_200_and_breaks_off_in_the_body(
    sender: Sender, receivers: ReceiversProcess, record: asyncpg.Connection
) -> None:
    await sender.switch("lying", first=3, count=1)
    answer = await sender.session.post(f"{receivers.hooks}/r/3", data=BODY, headers=signed(3, BODY))
    assert answer.status == 200
    with pytest.raises(aiohttp.ClientError):
        await answer.read()
    assert [(row["status"], row["behaviour"]) for row in await rows(record)] == [(200, "lying")]


async def test_an_endless_body_does_not_end(
    sender: Sender, receivers: ReceiversProcess, record: asyncpg.Connection
) -> None:
    await sender.switch("endless", first=3, count=1, seconds=60)
    answer = await sender.session.post(f"{receivers.hooks}/r/3", data=BODY, headers=signed(3, BODY))
    assert answer.status == 200
    assert len(await answer.content.readexactly(4096)) == 4096
    answer.close()


async def test_a_flapping_receiver_is_sometimes_down(sender: Sender, record: asyncpg.Connection) -> None:
    await sender.switch("flapping", first=3, count=1, period_seconds=0.2, down_share=0.5)
    seen: set[int] = set()
    async with asyncio.timeout(20):
        while seen != {200, 503}:
            seen.add((await sender.post(3, BODY))[0])


async def test_a_redirect_that_is_followed_is_seen(
    sender: Sender, receivers: ReceiversProcess, record: asyncpg.Connection
) -> None:
    await sender.switch("redirect", first=3, count=1)
    async with sender.session.post(f"{receivers.hooks}/r/3", data=BODY, headers=signed(3, BODY)) as answer:
        assert answer.status == 200
    assert [row["behaviour"] for row in await rows(record)] == ["redirect", "followed_redirect"]


async def test_receipts_count_the_requests_that_were_struck(sender: Sender, record: asyncpg.Connection) -> None:
    await sender.switch("failing", first=3, count=2)
    for receiver in (2, 3, 4, 5):
        await sender.post(receiver, BODY)
    await sender.off("failing")
    assert (await sender.post(3, BODY))[0] == 200
    receipt = (await sender.receipts())["failing"]
    assert (receipt["hits"], receipt["active"], receipt["references"]) == (2, False, ["msg_1", "msg_1"])


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/r/0", "POST", 404),
        ("/r/1001", "POST", 404),
        ("/r/x", "POST", 404),
        ("/r/1/there", "POST", 404),
        ("/", "POST", 404),
        ("/r/1", "GET", 405),
    ],
)
async def test_what_is_no_receiver_is_refused_and_not_recorded(
    sender: Sender, receivers: ReceiversProcess, record: asyncpg.Connection, path: str, method: str, status: int
) -> None:
    async with sender.session.request(method, receivers.hooks + path) as answer:
        assert answer.status == status
    assert await rows(record) == []


async def test_a_body_that_is_too_large_is_refused(
    sender: Sender, receivers: ReceiversProcess, record: asyncpg.Connection
) -> None:
    try:
        async with sender.session.post(f"{receivers.hooks}/r/1", data=b"x" * (600 * 1024)) as answer:
            assert answer.status == 413
    except aiohttp.ClientConnectionError:
        pass  # it was told while it still sent
    assert await rows(record) == []


async def raw(receivers: ReceiversProcess, text: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", receivers.ports[1])
    writer.write(text)
    async with asyncio.timeout(10):
        try:
            answer = await reader.read()
        except ConnectionError:
            answer = b""
    writer.close()
    return answer


async def test_garbage_is_answered_with_400(receivers: ReceiversProcess) -> None:
    assert (await raw(receivers, b"hello there\r\n\r\n")).startswith(b"HTTP/1.1 400")


async def test_too_many_headers_are_refused(receivers: ReceiversProcess) -> None:
    many = b"".join(b"x-%d: y\r\n" % number for number in range(200))
    assert (await raw(receivers, b"POST /r/1 HTTP/1.1\r\n" + many + b"\r\n")).startswith(b"HTTP/1.1 431")


async def test_a_pipelined_request_ends_the_connection(receivers: ReceiversProcess) -> None:
    one = b"POST /r/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    assert (await raw(receivers, one + one)).count(b"200 OK") == 0


async def test_an_old_client_is_answered_and_the_connection_closed(receivers: ReceiversProcess) -> None:
    assert (await raw(receivers, b"POST /r/1 HTTP/1.0\r\nContent-Length: 0\r\n\r\n")).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [
        ("melting", b"{}", 404),
        ("dead", b'{"share": 2}', 422),
        ("dead", b'{"share": "half"}', 422),
        ("dead", b'{"first": 1}', 422),
        ("dead", b'{"first": 1, "count": 2, "share": 0.5}', 422),
        ("dead", b'{"wings": 2}', 422),
        ("dead", b"[]", 422),
        ("dead", b"not json", 400),
        ("dead", b"\xff", 400),
        ("hang", b'{"seconds": 1e9}', 422),
        ("flapping", b'{"period_seconds": 0}', 422),
        ("rate_limited", b'{"retry_after": -1}', 422),
    ],
)
async def test_a_wrong_switch_is_a_clear_problem(
    sender: Sender, receivers: ReceiversProcess, name: str, body: bytes, status: int
) -> None:
    async with sender.session.put(f"{receivers.url}/lab/behaviours/{name}", data=body) as answer:
        assert answer.status == status
        assert answer.content_type == "application/problem+json"


async def test_a_killed_process_has_recorded_all_that_it_answered(receivers_database: str) -> None:
    process = ReceiversProcess(receivers_database)
    process.start()
    answered: list[str] = []
    enough = asyncio.Event()

    async def post(session: aiohttp.ClientSession, number: int) -> None:
        for turn in range(10_000):
            webhook = f"msg_{number}_{turn}"
            try:
                async with session.post(f"{process.hooks}/r/{number}", headers={"webhook-id": webhook}) as answer:
                    answered.append(webhook)
                    assert answer.status == 200
            except aiohttp.ClientError:
                return
            if len(answered) > 200:
                enough.set()

    async with aiohttp.ClientSession() as session:
        senders = [asyncio.create_task(post(session, number)) for number in range(1, 21)]
        async with asyncio.timeout(30):
            await enough.wait()
        assert process.process is not None
        process.process.send_signal(signal.SIGKILL)
        await asyncio.gather(*senders)
        process.process.wait()
    connection = await asyncpg.connect(receivers_database)
    recorded = {row["webhook_id"] for row in await connection.fetch("SELECT webhook_id FROM requests")}
    await connection.close()
    assert set(answered) - recorded == set()


def test_outside_the_lab_there_are_no_switches(receivers_database: str) -> None:
    process = ReceiversProcess(receivers_database, lab=False)
    process.start()

    async def ask() -> int:
        async with aiohttp.ClientSession() as session, session.get(f"{process.url}/lab/behaviours") as answer:
            return answer.status

    assert asyncio.run(ask()) == 404
    assert process.stop() == 0
