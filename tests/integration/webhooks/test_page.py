"""The owner's page: closed to others, safe against what receivers and publishers write, and useful."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from urllib.parse import urlencode

import pytest

from tests.integration.webhooks.stack import Answer, Receivers, Stack, until

pytestmark = pytest.mark.integration

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
KEY = "lab_demo_application_key"


async def form(stack: Stack, path: str, fields: Mapping[str, str], cookie: str = "") -> Answer:
    headers = {**FORM, **({"Cookie": cookie} if cookie else {})}
    return await stack.request("POST", path, data=urlencode(fields).encode(), headers=headers, application={})


async def logged_in(stack: Stack, endpoint: str) -> str:
    """The cookie."""
    answer = await form(stack, f"/endpoints/{endpoint}/page/login", {"key": KEY})
    assert answer.status == 303
    cookie = answer.headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/endpoints"} <= set(cookie.split("; "))
    return cookie.split(";")[0]


async def page(stack: Stack, endpoint: str, cookie: str) -> str:
    answer = await stack.request("GET", f"/endpoints/{endpoint}/page", headers={"Cookie": cookie}, application={})
    assert answer.status == 200
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Cache-Control"] == "no-store"
    return answer.body.decode()


def token(text: str) -> str:
    match = re.search(r'name="token" value="([0-9a-f]{64})"', text)
    assert match is not None
    return match[1]


async def test_the_page_shows_attempts_resends_and_checks_signatures(stack: Stack, receivers: Receivers) -> None:
    receivers.answers("/a", 500)
    await asyncio.gather(stack.start("api"), stack.start("dispatcher"))
    made = await stack.endpoint(receivers.url("/a?q=<script>alert(1)</script>"))
    await stack.publish("evt-1")
    await until(stack.settled, what="the end of the schedule")
    cookie = await logged_in(stack, made["id"])
    shown = await page(stack, made["id"], cookie)
    assert "evt-1" in shown
    assert "exhausted" in shown
    assert "answered 500" in shown
    assert "<script>" not in shown
    assert made["secret"] not in shown

    receivers.answers("/a", 204)
    receivers.received.clear()
    message = re.search(r'name="message" value="(msg_[0-9a-z]+)"', shown)
    assert message is not None
    fields = {"message": message[1], "token": token(shown)}
    assert (await form(stack, f"/endpoints/{made['id']}/page/resend", fields, cookie)).status == 303
    await until(stack.settled, what="the resent one")

    (request,) = receivers.received
    check = {
        "token": token(shown),
        "id": request.headers["webhook-id"],
        "timestamp": request.headers["webhook-timestamp"],
        "signature": request.headers["webhook-signature"],
        "body": request.body.decode(),
    }
    path = f"/endpoints/{made['id']}/page/verify"
    assert b"The signature is genuine." in (await form(stack, path, check, cookie)).body
    forged = await form(stack, path, check | {"body": request.body.decode() + " "}, cookie)
    assert b"No signature is of this endpoint" in forged.body
    assert b"form v1" in (await form(stack, path, check | {"signature": '"><script>'}, cookie)).body
    old = await form(stack, path, check | {"timestamp": "1000000000"}, cookie)
    assert b"No signature is of this endpoint" in old.body


async def test_without_a_session_there_is_only_the_form_for_the_key(running: Stack) -> None:
    made = await running.endpoint("http://127.0.0.1:9000/hook-of-mine")
    path = f"/endpoints/{made['id']}/page"
    for cookie in ("", "webhooks_session=app_demo.9999999999.00", "webhooks_session=x", "webhooks_session=é"):
        answer = await running.request("GET", path, headers={"Cookie": cookie}, application={})
        assert answer.status == 401
        assert b"hook-of-mine" not in answer.body
    for key in ("", "wrong", "lab_other_application_key"):
        refused = await form(running, f"{path}/login", {"key": key})
        assert refused.status == 401
        assert "Set-Cookie" not in refused.headers
    assert (await running.request("GET", "/endpoints/ep_nothing/page", application={})).status == 404


async def test_a_form_without_its_token_or_session_does_nothing(running: Stack) -> None:
    made = await running.endpoint("http://127.0.0.1:9000/hook")
    message = (await running.publish("evt-page")).json["id"]
    cookie = await logged_in(running, made["id"])
    good = token(await page(running, made["id"], cookie))
    for path in ("resend", "verify"):
        url = f"/endpoints/{made['id']}/page/{path}"
        for fields, sent in (
            ({"message": message}, cookie),
            ({"message": message, "token": "0" * 64}, cookie),
            ({"message": message, "token": "é"}, cookie),
            ({"message": message, "token": good}, ""),
        ):
            assert (await form(running, url, fields, sent)).status == 403
        wrong = await running.request("POST", url, json={}, headers={"Cookie": cookie}, application={})
        assert wrong.status == 415
        garbage = await running.request(
            "POST", url, data=b"a=%ff&" * 20, headers={"Cookie": cookie, **FORM}, application={}
        )
        assert garbage.status == 400
