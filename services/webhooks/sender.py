"""One attempt over HTTP: signed, bounded in time, redirects not followed, at most 4 KiB of the answer read."""

from __future__ import annotations

import asyncio
import ssl

import aiohttp
from yarl import URL

from services.kit import ids, ssrf, tracing
from services.webhooks.answer import install
from services.webhooks.domain import AttemptOutcome, Result, outcome_of
from services.webhooks.keys import Keyring, SealBroken
from services.webhooks.signing import sign
from services.webhooks.store import Claim

BODY_BYTES = 4096
BODY_SECONDS = 0.5
"""How long the answer's body may take once the status is known. The status alone decides."""
MAX_ERROR = 200
URLS = 10_000


def body_of(event_id: str, event_type: str, created_at: str, payload: bytes) -> bytes:
    """What is signed and sent: type, timestamp and data as Standard Webhooks recommends, and the event's id.

    Made of stored values only, so that each attempt sends the same bytes. Id and type need no escaping: their forms are
    checked when they come in.
    """
    head = f'{{"type":"{event_type}","timestamp":"{created_at}","id":"{event_id}","data":'
    return b"%b%b}" % (head.encode(), payload)


class Sender:
    """The one HTTP session of a dispatcher. Use as an async context manager."""

    def __init__(self, policy: ssrf.Policy, keyring: Keyring, *, timeout: float) -> None:
        self._policy = policy
        self._keyring = keyring
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None
        self._urls: dict[str, URL] = {}

    async def __aenter__(self) -> Sender:
        connector = ssrf.guarded_connector(self._policy, limit=0)
        install(connector)
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            headers={
                "User-Agent": "lab-webhooks/1.0",
                "Content-Type": "application/json",
                "Accept-Encoding": "identity",
            },
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def attempt(self, claim: Claim, now: float) -> Result:
        """Never raises for anything the receiver or the network does. `now` is Unix time, of which the signature speaks."""
        try:
            url = self._checked(claim.url)
            keys = self._keyring.signing(claim.endpoint_id, claim.secrets, now)
        except ssrf.ForbiddenAddressError as error:
            return Result(AttemptOutcome.BLOCKED, error=str(error))
        except SealBroken:
            return Result(AttemptOutcome.BLOCKED, error="The endpoint's secret cannot be read; rotate it.")
        body = body_of(claim.event_id, claim.event_type, claim.created_at.isoformat(), claim.payload)
        headers = sign(ids.encode("msg", claim.message_id), int(now), body, keys)
        with tracing.span("POST", "client", parent=claim.traceparent) as span:
            headers["traceparent"] = span.traceparent
            result = await self._post(url, body, headers)
            if span.recorded:
                _describe(span, url, claim, result)
            return result

    def _checked(self, text: str) -> URL:
        url = self._urls.get(text)
        if url is None:
            if len(self._urls) >= URLS:
                self._urls.clear()
            url = self._urls[text] = ssrf.check_url(text, self._policy)
        return url

    async def _post(self, url: URL, body: bytes, headers: dict[str, str]) -> Result:
        assert self._session is not None
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._session.post(url, data=body, headers=headers, allow_redirects=False)
        except TimeoutError:
            return Result(AttemptOutcome.TIMED_OUT, error=f"no status line within {self._timeout:g} s")
        except ssrf.ForbiddenAddressError as error:
            return Result(AttemptOutcome.BLOCKED, error=str(error))
        except (aiohttp.ClientError, OSError, ssl.SSLError, ValueError) as error:
            return Result(AttemptOutcome.UNREACHABLE, error=_reason(error))
        status = response.status
        outcome = outcome_of(status)
        answer = await _beginning(response)
        said = None if outcome is AttemptOutcome.DELIVERED else f"answered {status}"
        return Result(outcome, status, said, answer, response.headers.get("Retry-After"))


def _describe(span: tracing.Span, url: URL, claim: Claim, result: Result) -> None:
    """Not the address: its path and query may be a secret of the endpoint's owner."""
    tracing.describe_request(span, "POST", url.host or "", url.port)
    if claim.attempts:
        span.set("http.request.resend_count", claim.attempts)
    span.set("webhooks.endpoint.id", ids.encode("ep", claim.endpoint_id))
    span.set("webhooks.message.id", ids.encode("msg", claim.message_id))
    if result.status is not None:
        span.set("http.response.status_code", result.status)
    if result.outcome is not AttemptOutcome.DELIVERED:
        span.fail(result.outcome.value)


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    """The first 4 KiB, if they come soon. The connection is used again only if that was all of the body."""
    parts: list[bytes] = []
    length = 0
    try:
        if response.content.is_eof():
            # Nearly every answer to a webhook: the body, or its absence, came with the head.
            return response.content.read_nowait(BODY_BYTES)
        async with asyncio.timeout(BODY_SECONDS):
            while length < BODY_BYTES and (part := await response.content.read(BODY_BYTES - length)):
                parts.append(part)
                length += len(part)
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        pass
    # close() drops the connection unless the whole body has arrived, when aiohttp has given it back already.
    response.close()
    return b"".join(parts)


def _reason(error: Exception) -> str:
    """One line for the endpoint's owner; the address it was made with is theirs."""
    cause = error.__cause__ or error
    known = {
        "ConnectionRefusedError": "connection refused",
        "ConnectionResetError": "connection reset",
        "ServerDisconnectedError": "the connection was closed without an answer",
        "ClientConnectorDNSError": "the host name has no address",
        "ClientConnectorCertificateError": "the certificate is not valid",
    }
    for each in (error, cause):
        if (name := type(each).__name__) in known:
            return known[name]
    return f"{type(error).__name__}"[:MAX_ERROR]
