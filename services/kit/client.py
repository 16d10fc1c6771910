"""The one outgoing HTTP client: every call ends by its deadline, tells it to the next hop, and is retried only within bounds.

An answer of any status is an `Answer`; no answer is a `CallFailed`, which says whether the server may have seen the call.
Redirects are not followed, proxies of the environment are not used, bodies are bounded.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from time import monotonic
from typing import Self
from urllib.parse import urlsplit

import aiohttp
from prometheus_client import Counter, Histogram

from services.kit import deadline as deadlines
from services.kit import tracing
from services.kit.clock import SystemClock
from services.patterns.adaptive_timeout import AdaptiveTimeout
from services.patterns.backoff import Backoff
from services.patterns.breaker import Breaker, Permit
from services.patterns.deadline import HEADER, WIRE_MARGIN_SECONDS, Deadline, DeadlineExceeded
from services.patterns.retry import RetryBudget, RetryPolicy, Safety, Stop, next_try, retry_after_seconds

CALLS = Histogram(
    "http_client_request_duration_seconds",
    "Time of one attempt; outcome is the status or why there is none",
    ["client", "call", "outcome"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
RETRIES = Counter("http_client_retries_total", "Second and later attempts", ["client", "call"])
RETRIES_STOPPED = Counter(
    "http_client_retries_stopped_total", "Failures that were not tried again", ["client", "reason"]
)

RETRIED = frozenset({429, 502, 503, 504})
"""Answers that another attempt may better. 500 is a bug, and will be one again."""
NO_RETRIES = RetryPolicy(attempts=1, backoff=Backoff(base=0.05, cap=1.0))
CONNECT_SECONDS = 1.0
ENDS_EARLIER_SECONDS = 0.005
"""A call ends so long before the deadline that its request is ended at, so that the breaker learns who did not answer."""
TO_THE_MILLISECOND = float("inf")
"""aiohttp rounds timeouts above this many seconds up to whole ones."""
FAIR_SECONDS = 0.25
"""A call that its caller's deadline cut sooner than this tells the breaker nothing about the server."""


class Reason(StrEnum):
    """Why there is no answer."""

    TIMEOUT = "timeout"
    CONNECTION_LOST = "connection_lost"
    ANSWER_TOO_LARGE = "answer_too_large"
    NOT_CONNECTED = "not_connected"
    BREAKER_OPEN = "breaker_open"
    NO_TIME_LEFT = "no_time_left"


CANCELLED = "cancelled"
_CUT = frozenset({CANCELLED, Reason.TIMEOUT.value, "408", "504"})
"""The work would have taken longer: a server that keeps the deadline we told it gives up just before we do."""
_TELLS_NO_LATENCY = frozenset({Reason.NOT_CONNECTED.value, Reason.CONNECTION_LOST.value, "429", "500", "502", "503"})


class CallFailed(Exception):
    """No answer. `sent` is True if any attempt may have reached the server: then the outcome is unknown.

    `retry_after`: seconds after which the breaker lets calls through again.
    """

    def __init__(self, reason: Reason, *, sent: bool, attempts: int = 1, retry_after: float | None = None) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.sent = sent
        self.attempts = attempts
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Call:
    """`name` is its metric label. `timeout` bounds one attempt, in seconds; None: the client's.

    `template` is the path with names for ids, as in `/v1/charges/{charge_id}`, for spans; None: the path has no id.
    `adaptive` shortens it by what attempts have taken, and is told how each ends.
    """

    name: str
    method: str
    path: str
    safety: Safety
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = None
    adaptive: AdaptiveTimeout | None = None
    template: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """`seconds` is the last attempt's time, `attempts` how many there were, `sent_before`: an earlier one may have arrived."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float
    attempts: int = 1
    sent_before: bool = False

    @property
    def retry_after(self) -> str | None:
        """The header, as it came."""
        return self.headers.get("Retry-After")


def healthy(answer: Answer) -> bool | None:
    """What an answer says of the server, for its breaker. A declared 503 (with Retry-After) is an answer, as a 4xx is.

    A 504 is none: it says for us that our time is over, a moment before our own timeout would, and counts as that does.
    """
    if answer.status < 400:
        return True
    if answer.status < 500 or (answer.status == 503 and answer.retry_after is not None):
        return None
    return False


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """`timeout` bounds one attempt in seconds, connecting included; `connections` those open at once.

    `headers` go with every call. `retried` are the statuses after which a safe call is sent again, as after a connection
    that broke. `max_body_bytes` bounds an answer.
    """

    timeout: float
    connections: int = 256
    headers: Mapping[str, str] = field(default_factory=dict)
    retries: RetryPolicy = NO_RETRIES
    retried: frozenset[int] = RETRIED
    max_body_bytes: int = 1024 * 1024


class Client:
    """One server behind one base URL, with keep-alive connections. Use as an async context manager.

    `budget` is shared by all its calls (and by whoever else is given it); `breaker` is asked before each attempt.
    """

    def __init__(
        self,
        name: str,
        url: str,
        options: ClientOptions,
        *,
        budget: RetryBudget | None = None,
        breaker: Breaker | None = None,
        judge: Callable[[Answer], bool | None] = healthy,
        clock: Callable[[], float] = monotonic,
        chance: random.Random | None = None,
    ) -> None:
        self._name = name
        self._url = url.rstrip("/")
        self._origin = urlsplit(self._url)
        self._options = options
        self._budget = budget or RetryBudget(clock)
        self._breaker = breaker
        self._judge = judge
        self._clock = clock
        self._chance = chance or random.SystemRandom()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._options.connections, ttl_dns_cache=30),
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=dict(self._options.headers),
        )
        # aiohttp sends a GET or PUT whose connection breaks again by itself, unseen by budget, breaker and metrics.
        self._session._retry_connection = False  # noqa: SLF001  # there is no public switch; a test watches it
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    @property
    def breaker(self) -> Breaker | None:
        """Before each attempt."""
        return self._breaker

    async def call(self, call: Call, *, deadline: Deadline | None = None, permit: Permit | None = None) -> Answer:
        """The answer of the last attempt. `deadline` bounds all attempts; without it, that of the request being answered.

        `permit` is one of this client's breaker that the caller took before: the first attempt uses it or gives it back.
        Raises CallFailed.
        """
        until = deadline or deadlines.current() or self._own_deadline(call)
        self._budget.deposit()
        sent = False
        attempt = 0
        while True:
            failure: CallFailed | None = None
            answer: Answer | None = None
            try:
                answer = await self._attempt(call, until, attempt, permit if attempt == 0 else None, sent_before=sent)
                if answer.status not in self._options.retried:
                    return answer
            except CallFailed as failed:
                failure = CallFailed(
                    failed.reason, sent=sent or failed.sent, attempts=attempt + 1, retry_after=failed.retry_after
                )
            sent = True if failure is None else failure.sent
            delay = self._delay(call, until, attempt, failure, answer)
            if isinstance(delay, Stop):
                RETRIES_STOPPED.labels(self._name, delay.value).inc()
                if answer is not None:
                    return answer
                assert failure is not None
                raise failure
            await asyncio.sleep(delay)
            RETRIES.labels(self._name, call.name).inc()
            attempt += 1

    def _own_deadline(self, call: Call) -> Deadline:
        attempts = self._options.retries.attempts
        return Deadline.after(attempts * (call.timeout or self._options.timeout), self._clock)

    def _delay(
        self, call: Call, until: Deadline, attempt: int, failure: CallFailed | None, answer: Answer | None
    ) -> float | Stop:
        if answer is not None:
            retry_after = retry_after_seconds(answer.retry_after, SystemClock().now())
        else:
            assert failure is not None
            if failure.reason is Reason.BREAKER_OPEN:
                return Stop.BREAKER
            retry_after = None
        return next_try(
            self._options.retries,
            call.safety,
            attempt,
            budget=self._budget,
            deadline=until,
            chance=self._chance,
            retry_after=retry_after,
            worth_seconds=WIRE_MARGIN_SECONDS,
        )

    async def _attempt(
        self, call: Call, until: Deadline, attempt: int, taken: Permit | None, *, sent_before: bool
    ) -> Answer:
        wanted = call.timeout or self._options.timeout
        if call.adaptive is not None:
            wanted = min(wanted, max(call.adaptive.seconds(), 2 * WIRE_MARGIN_SECONDS))
        ends = min(until, Deadline.after(wanted, until.clock))
        try:
            headers = {**call.headers, HEADER: ends.header()}
        except DeadlineExceeded:
            if self._breaker is not None and taken is not None:
                self._breaker.release(taken, None)
            raise CallFailed(Reason.NO_TIME_LEFT, sent=False) from None
        until = min(ends, until.earlier(ENDS_EARLIER_SECONDS))
        permit = None
        if self._breaker is not None:
            permit = self._breaker.acquire() if taken is None else self._breaker.redeem(taken)
            if permit is None:
                raise CallFailed(Reason.BREAKER_OPEN, sent=False, retry_after=self._breaker.retry_after)
        said: bool | None = None
        outcome = CANCELLED
        started = self._clock()

        def cut_short() -> bool:
            return self._clock() - started < min(wanted, FAIR_SECONDS)

        try:
            with tracing.span(f"{call.method} {call.template or call.path}", "client") as span:
                self._describe(span, call, attempt)
                try:
                    answer = await self._exchange(call, headers, until.remaining(), attempt, sent_before=sent_before)
                except CallFailed as failed:
                    span.fail(failed.reason.value)
                    raise
                tracing.describe_answer(span, answer.status)
            said, outcome = self._judge(answer), str(answer.status)
            if answer.status == HTTPStatus.GATEWAY_TIMEOUT and cut_short():
                said = None
        except CallFailed as failed:
            outcome = failed.reason.value
            said = None if failed.reason is Reason.TIMEOUT and cut_short() else False
            raise
        except asyncio.CancelledError:
            if until.over and not cut_short():  # this process stood still: the request's end came first
                said, outcome = False, Reason.TIMEOUT.value
            raise
        finally:
            took = self._clock() - started
            if self._breaker is not None and permit is not None:
                self._breaker.release(permit, said)
            if call.adaptive is not None and outcome not in _TELLS_NO_LATENCY:
                call.adaptive.record(took, censored=outcome in _CUT)
            CALLS.labels(self._name, call.name, outcome).observe(took, tracing.exemplar())
        return answer

    def _describe(self, span: tracing.Span, call: Call, attempt: int) -> None:
        tracing.describe_request(span, call.method, self._origin.hostname or "", self._origin.port)
        span.set("url.full", f"{self._origin.scheme}://{self._origin.netloc.rpartition('@')[2]}{call.path}")
        span.set("url.template", call.template or call.path)
        if attempt:
            span.set("http.request.resend_count", attempt)

    async def _exchange(
        self, call: Call, headers: dict[str, str], seconds: float, attempt: int, *, sent_before: bool
    ) -> Answer:
        assert self._session is not None
        if traceparent := tracing.current_traceparent():
            headers["traceparent"] = traceparent
        if call.body is not None:
            headers.setdefault("Content-Type", "application/json")
        started = self._clock()
        timeout = aiohttp.ClientTimeout(
            total=seconds, sock_connect=min(seconds, CONNECT_SECONDS), ceil_threshold=TO_THE_MILLISECOND
        )
        try:
            async with self._session.request(
                call.method,
                self._url + call.path,
                data=call.body,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                body = await self._read(response)
                return Answer(
                    response.status, response.headers, body, self._clock() - started, attempt + 1, sent_before
                )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            raise CallFailed(Reason.NOT_CONNECTED, sent=False) from None
        except TimeoutError:
            raise CallFailed(Reason.TIMEOUT, sent=True) from None
        except (aiohttp.ClientError, OSError):
            raise CallFailed(Reason.CONNECTION_LOST, sent=True) from None

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        limit = self._options.max_body_bytes
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > limit:
                response.close()
                raise CallFailed(Reason.ANSWER_TOO_LARGE, sent=True)
        return bytes(body)
