"""The page of an endpoint, for its owner: attempts, what comes next, resend, a check of signatures. No scripts.

Behind the application's key: typed once, then a signed cookie for an hour that only this page is sent.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse, RedirectResponse, Response

from services.kit import ids
from services.kit.access import Unauthorised
from services.kit.errors import Problem
from services.webhooks import handlers, problems
from services.webhooks.api import endpoint_id
from services.webhooks.edge import Edge
from services.webhooks.schemas import ENDPOINT, MESSAGE
from services.webhooks.signing import (
    ID_HEADER,
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    PrivateKey,
    Verification,
    parse_signing_key,
    verify,
)
from services.webhooks.store import Endpoint

COOKIE = "webhooks_session"
SESSION_SECONDS = 3600
ROWS = 50
FIELDS = 8
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.25rem .5rem;border-bottom:1px solid #ddd}"
    "tr.delivered td:nth-child(5){color:#176b2c}tr:not(.delivered) td:nth-child(5){color:#a02020}"
    "label{display:block;margin:.4rem 0}input:not([type=hidden]),textarea{width:100%;font:13px monospace}"
    "td form{margin:0}.note{background:#fff5d6;padding:.5rem}code{overflow-wrap:anywhere}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
EXPLAINED = {
    Verification.VERIFIED: "The signature is genuine.",
    Verification.MISSING_HEADER: "One of the three headers is missing.",
    Verification.MALFORMED_ID: "webhook-id is not an id.",
    Verification.MALFORMED_TIMESTAMP: "webhook-timestamp is not a number of seconds.",
    Verification.MALFORMED_SIGNATURE: "webhook-signature holds no signature in the form v1,<base64>.",
    Verification.TOO_OLD: "The signature fits, but its time is too long ago: a receiver refuses it.",
    Verification.TOO_NEW: "The time of the signature is in the future.",
    Verification.NO_MATCHING_SIGNATURE: "No signature is of this endpoint's keys over these bytes.",
}


def _time(moment: datetime | None) -> str:
    return "" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, undefined=StrictUndefined
)
_TEMPLATE = _ENVIRONMENT.get_template("endpoint.html.j2")


@dataclass(frozen=True, slots=True)
class Sessions:
    """Cookies that say which application's key was typed, until when. Nothing is stored."""

    key: bytes

    @classmethod
    def of(cls, secret: str) -> Sessions:
        """Under a key of their own."""
        return cls(hashlib.sha256(b"webhooks page sessions\x00" + secret.encode()).digest())

    def issue(self, application: str, now: float) -> str:
        """The cookie's value."""
        text = f"{application}.{int(now) + SESSION_SECONDS}"
        return f"{text}.{self._mark(text)}"

    def application(self, cookie: str, now: float) -> str | None:
        """Whose session this is, None for anything that we did not issue or that is over."""
        text, _, mark = cookie.rpartition(".")
        application, _, until = text.rpartition(".")
        if not application or not hmac.compare_digest(self._mark(text).encode(), mark.encode("utf-8", "replace")):
            return None
        return application if until.isascii() and until.isdigit() and int(until) > now else None

    def token(self, cookie: str) -> str:
        """What a form must carry beside the cookie, which a foreign page cannot know."""
        return self._mark("form " + cookie)

    def _mark(self, text: str) -> str:
        return hmac.new(self.key, text.encode("utf-8", "replace"), "sha256").hexdigest()


class FormExpired(Problem):
    def __init__(self) -> None:
        super().__init__(403, "form_expired", "Open the page again and send its form")


def page_routes(edge_of: Callable[[], Edge], sessions: Sessions) -> APIRouter:
    """The router of the page and its three forms."""
    router = APIRouter(prefix="/endpoints", include_in_schema=False)

    def session(edge: Edge, request: Request) -> tuple[str, str] | None:
        cookie = request.cookies.get(COOKIE, "")
        application = sessions.application(cookie, edge.context.clock.now().timestamp())
        return None if application is None else (application, cookie)

    async def submitted(edge: Edge, request: Request) -> tuple[str, str, dict[str, str]]:
        form = await read_form(request)
        known = session(edge, request)
        if known is None or not hmac.compare_digest(
            sessions.token(known[1]).encode(), form.get("token", "").encode("utf-8", "replace")
        ):
            raise FormExpired
        return *known, form

    @router.get("/{endpoint}/page")
    async def show(endpoint: str, request: Request) -> Response:
        edge = edge_of()
        async with edge.admitted():
            identity = endpoint_id(endpoint)
            known = session(edge, request)
            if known is None:
                return login_form(endpoint, "", 401)
            found = await handlers.existing(edge.context, known[0], identity)
            note = "It is scheduled and goes out at once." if request.query_params.get("resent") == "1" else ""
            return await whole_page(edge, found, sessions.token(known[1]), note)

    @router.post("/{endpoint}/page/login")
    async def login(endpoint: str, request: Request) -> Response:
        edge = edge_of()
        form = await read_form(request)
        async with edge.admitted():
            identity = endpoint_id(endpoint)
            try:
                application = await edge.keys.owner(form.get("key", ""))
                await handlers.existing(edge.context, application, identity)
            except (Unauthorised, problems.NoSuchEndpoint):
                return login_form(endpoint, "This key does not open this endpoint.", 401)
            answer = RedirectResponse(f"/endpoints/{endpoint}/page", 303, HEADERS)
            answer.set_cookie(
                COOKIE,
                sessions.issue(application, edge.context.clock.now().timestamp()),
                max_age=SESSION_SECONDS,
                path="/endpoints",
                httponly=True,
                samesite="strict",
                secure=request.url.scheme == "https",
            )
            return answer

    @router.post("/{endpoint}/page/resend")
    async def resend(endpoint: str, request: Request) -> Response:
        edge = edge_of()
        await request.body()
        async with edge.admitted():
            endpoint_id(endpoint)
            application, _, form = await submitted(edge, request)
            message = ids.decode(MESSAGE, form.get("message", ""))
            if message is None:
                raise problems.NoSuchMessage
            await handlers.resend(edge.context, application, message, endpoint)
            return RedirectResponse(f"/endpoints/{endpoint}/page?resent=1", 303, HEADERS)

    @router.post("/{endpoint}/page/verify")
    async def check(endpoint: str, request: Request) -> Response:
        edge = edge_of()
        await request.body()
        async with edge.admitted():
            application, cookie, form = await submitted(edge, request)
            found = await handlers.existing(edge.context, application, endpoint_id(endpoint))
            verdict = signature_verdict(edge, found, form)
            return await whole_page(edge, found, sessions.token(cookie), EXPLAINED[verdict], form)

    return router


def signature_verdict(edge: Edge, endpoint: Endpoint, form: Mapping[str, str]) -> Verification:
    """As a receiver with this endpoint's keys would judge. Browsers send line ends as CRLF; JSON has none inside strings."""
    headers = {
        ID_HEADER: form.get("id", "").strip(),
        TIMESTAMP_HEADER: form.get("timestamp", "").strip(),
        SIGNATURE_HEADER: form.get("signature", "").strip(),
    }
    keys = [parse_signing_key(key.text) for key in handlers.readable_keys(edge.context, endpoint)]
    verifying = [key.public() if isinstance(key, PrivateKey) else key for key in keys]
    body = form.get("body", "").replace("\r\n", "\n").encode()
    now = edge.context.clock.now().timestamp()
    verdict = verify(headers, body, verifying, now=now)
    if verdict is Verification.TOO_OLD:
        # Tell an old genuine one from a forged one: judge it at its own time first.
        then = verify(headers, body, verifying, now=float(headers[TIMESTAMP_HEADER]))
        return verdict if then else then
    return verdict


async def read_form(request: Request) -> dict[str, str]:
    """The first value of each field. Raises 415 and 400."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise Problem(415, "unsupported_media_type", "Send a form")
    try:
        fields = parse_qs(
            (await request.body()).decode(), keep_blank_values=True, errors="strict", max_num_fields=FIELDS
        )
    except ValueError:
        raise Problem(400, "invalid_form", "The form cannot be read") from None
    return {name: values[0] for name, values in fields.items()}


def login_form(endpoint: str, message: str, status: int) -> Response:
    """What everybody sees who has no session."""
    text = _TEMPLATE.render(
        style=STYLE, endpoint=None, endpoint_id=endpoint, message=message, attempts=[], waiting=[], token="", form={}
    )
    return HTMLResponse(text, status, HEADERS)


async def whole_page(
    edge: Edge, endpoint: Endpoint, token: str, message: str, form: Mapping[str, str] | None = None
) -> Response:
    """For its owner."""
    attempts, waiting = await edge.context.endpoints.page(endpoint.id, ROWS)
    filled = {name: (form or {}).get(name, "") for name in ("id", "timestamp", "signature", "body")}
    text = _TEMPLATE.render(
        style=STYLE,
        endpoint=endpoint,
        endpoint_id=ids.encode(ENDPOINT, endpoint.id),
        message=message,
        attempts=attempts,
        waiting=waiting,
        token=token,
        form=filled,
        time=_time,
        message_id=lambda value: ids.encode(MESSAGE, value),
    )
    return HTMLResponse(text, 200, HEADERS)
