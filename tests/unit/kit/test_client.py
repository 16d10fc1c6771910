"""Against real servers on loopback that misbehave on request."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from time import monotonic

import pytest
from aiohttp import web

from services.kit import tracing
from services.kit.client import Answer, Call, CallFailed, Client, ClientOptions, Reason, healthy
from services.kit.deadline import bound
from services.patterns.adaptive_timeout import AdaptiveTimeout, TimeoutRule
from services.patterns.backoff import Backoff
from services.patterns.breaker import Breaker, Rule, State
from services.patterns.deadline import Deadline
from services.patterns.retry import RetryBudget, RetryPolicy, Safety

READ = Call("read", "GET", "/", Safety.IDEMPOTENT)
WRITE = Call("write", "POST", "/", Safety.UNKNOWN_SAFE, b'{"a":1}')
ONCE = replace(WRITE, safety=Safety.ONCE)
QUICK = RetryPolicy(attempts=3, backoff=Backoff(base=0.001, cap=0.001))
OPTIONS = ClientOptions(timeout=5.0, retries=QUICK)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """The nth request is answered by the nth handler, further ones by the last."""

    def __init__(self, *handlers: Handler) -> None:
        self.handlers = handlers
        self.requests: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.url = ""
        self.site: web.TCPSite | None = None

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        self.bodies.append(await request.read())
        return await self.handlers[min(len(self.requests), len(self.handlers)) - 1](request)


@asynccontextmanager
async def serving(*handlers: Handler) -> AsyncIterator[Server]:
    server = Server(*handlers)
    runner = web.ServerRunner(web.Server(server.answer), shutdown_timeout=0.1)  # type: ignore[arg-type]  # any handler will do
    await runner.setup()
    server.site = web.TCPSite(runner, "127.0.0.1", 0)
    await server.site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


async def ok(_: web.Request) -> web.StreamResponse:
    return web.Response(body=b"fine")


def says(status: int, **headers: str) -> Handler:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers={name.replace("_", "-"): value for name, value in headers.items()})

    return answer


async def hangs_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def hangs(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


def client(server: Server, options: ClientOptions = OPTIONS, *, breaker: Breaker | None = None) -> Client:
    budget = RetryBudget(monotonic, initial=10.0)
    return Client("test", server.url, options, budget=budget, breaker=breaker, chance=random.Random(1))


async def test_the_next_hop_is_told_what_is_left() -> None:
    async with serving(ok) as server, client(server) as http:
        await http.call(READ, deadline=Deadline.after(2.0))
        with bound(Deadline.after(1.0)):
            await http.call(READ)
        await http.call(READ)
        await http.call(replace(READ, timeout=0.5))
    told = [int(request.headers["Request-Timeout-Ms"]) for request in server.requests]
    assert [1500 < told[0] <= 1980, 500 < told[1] <= 980, 4500 < told[2] <= 4980, told[3] <= 480] == [True] * 4


@pytest.mark.slow
async def test_a_call_ends_at_the_deadline_and_its_outcome_is_unknown() -> None:
    async with serving(hangs) as server, client(server) as http:
        with pytest.raises(CallFailed) as failed:
            await http.call(WRITE, deadline=Deadline.after(0.5))
    assert (failed.value.reason, failed.value.sent) == (Reason.TIMEOUT, True)


async def ends_with_its_request(http: Client, seconds: float) -> Reason | None:
    """Why the call failed; None if the end of the request came first."""
    until = Deadline.after(seconds)
    try:
        with bound(until):
            async with asyncio.timeout(until.remaining()):
                await http.call(ONCE)
    except CallFailed as failed:
        return failed.reason
    except TimeoutError:
        return None
    raise AssertionError


@pytest.mark.slow
async def test_a_call_fails_before_the_request_that_it_is_made_for_is_ended() -> None:
    """Else it would be cancelled, and the caller would not learn that the server does not answer.

    aiohttp rounds a timeout of 5 s or more up to whole seconds unless told not to.
    """
    async with serving(hangs) as server, client(server, replace(OPTIONS, timeout=60.0)) as http:
        # A process that stands still at the very end is too late; not each time.
        reasons = [await ends_with_its_request(http, 5.2)]
        while reasons[-1] is None and len(reasons) < 5:
            reasons.append(await ends_with_its_request(http, 5.2))
    assert reasons[-1] is Reason.TIMEOUT


@pytest.mark.slow
async def test_the_breaker_counts_a_failure_also_when_the_end_of_the_request_came_first() -> None:
    breaker = Breaker(Rule(minimum_calls=1000), monotonic)
    patient = replace(OPTIONS, timeout=60.0)
    async with serving(hangs) as server, client(server, patient, breaker=breaker) as http:
        calls = [asyncio.create_task(ends_with_its_request(http, 0.4)) for _ in range(10)]
        await asyncio.sleep(0)
        time.sleep(0.5)  # noqa: ASYNC251  # the process stands still; all ends are due when it goes on
        ended = await asyncio.gather(*calls)
    assert ended.count(None) > 0
    assert breaker.counts.failed == 10


@pytest.mark.slow
async def test_an_answer_that_stops_in_the_middle_ends_at_the_deadline() -> None:
    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "10"})
        await response.prepare(request)
        await response.write(b"12345")
        return await hangs(request)

    async with serving(half) as server, client(server) as http:
        with pytest.raises(CallFailed) as failed:
            await http.call(READ, deadline=Deadline.after(0.5))
    assert failed.value.reason is Reason.TIMEOUT


async def test_without_time_nothing_is_sent() -> None:
    async with serving(ok) as server, client(server) as http:
        with pytest.raises(CallFailed) as failed:
            await http.call(WRITE, deadline=Deadline.after(0.01))
    assert (failed.value.reason, failed.value.sent, server.requests) == (Reason.NO_TIME_LEFT, False, [])


async def test_nobody_there_means_surely_not_sent() -> None:
    async with serving(ok) as server:
        pass
    async with client(server) as http:
        with pytest.raises(CallFailed) as failed:
            await http.call(WRITE)
    assert (failed.value.reason, failed.value.sent, failed.value.attempts) == (Reason.NOT_CONNECTED, False, 3)


@pytest.mark.parametrize("first", [hangs_up, says(503), says(502), says(504), says(429, Retry_After="0")])
@pytest.mark.parametrize("call", [READ, WRITE])
async def test_what_is_safe_is_tried_again(first: Handler, call: Call) -> None:
    async with serving(first, ok) as server, client(server) as http:
        answer = await http.call(call)
    assert (answer.status, answer.attempts, answer.sent_before) == (200, 2, True)
    assert server.bodies == [call.body or b""] * 2


async def test_what_is_not_safe_is_sent_once() -> None:
    async with serving(hangs_up, ok) as server, client(server) as http:
        with pytest.raises(CallFailed) as failed:
            await http.call(ONCE)
    assert (failed.value.reason, failed.value.sent, len(server.requests)) == (Reason.CONNECTION_LOST, True, 1)


@pytest.mark.parametrize("status", [400, 404, 409, 500, 501])
async def test_what_another_attempt_would_not_better_is_the_answer(status: int) -> None:
    async with serving(says(status), ok) as server, client(server) as http:
        assert (await http.call(READ)).status == status
    assert len(server.requests) == 1


async def test_a_retry_after_that_does_not_fit_the_deadline_is_the_answer_at_once() -> None:
    async with serving(says(503, Retry_After="30"), ok) as server, client(server) as http:
        answer = await http.call(READ, deadline=Deadline.after(2.0))
    assert (answer.status, answer.retry_after, len(server.requests)) == (503, "30", 1)


async def test_the_last_failure_is_told_when_attempts_are_used_up() -> None:
    async with serving(says(503), hangs_up) as server, client(server) as http:
        with pytest.raises(CallFailed) as failed:
            await http.call(READ)
    assert (failed.value.reason, failed.value.attempts, len(server.requests)) == (Reason.CONNECTION_LOST, 3, 3)


async def test_an_earlier_attempt_that_may_have_arrived_is_not_forgotten() -> None:
    """The second finds nobody there, which says nothing about the first."""

    async def closes_and_hangs_up(request: web.Request) -> web.StreamResponse:
        assert server.site is not None
        await server.site.stop()
        return await hangs_up(request)

    async with serving(closes_and_hangs_up) as server, client(server) as http:
        with pytest.raises(CallFailed) as failed:
            await http.call(WRITE)
    assert (failed.value.reason, failed.value.sent) == (Reason.NOT_CONNECTED, True)


async def test_one_budget_bounds_the_retries_of_all_calls() -> None:
    async with serving(says(503)) as server:
        budget = RetryBudget(monotonic, ratio=0.1, reserve_per_second=0.0, initial=0.0)
        async with Client("test", server.url, OPTIONS, budget=budget) as http:
            await asyncio.gather(*(http.call(READ) for _ in range(100)))
    assert 100 < len(server.requests) <= 110


async def test_an_open_breaker_answers_for_the_server() -> None:
    breaker = Breaker(Rule(minimum_calls=5, open_seconds=60), monotonic)
    once = replace(OPTIONS, retries=RetryPolicy(1, QUICK.backoff))
    async with serving(hangs_up) as server, client(server, once, breaker=breaker) as http:
        for _ in range(5):
            with pytest.raises(CallFailed):
                await http.call(READ)
        assert breaker.state is State.OPEN
        with pytest.raises(CallFailed) as failed:
            await http.call(READ)
    assert (failed.value.reason, failed.value.sent, len(server.requests)) == (Reason.BREAKER_OPEN, False, 5)
    assert failed.value.retry_after is not None
    assert 50 < failed.value.retry_after <= 60


async def test_the_refusal_of_its_own_breaker_is_not_waited_out() -> None:
    """The breaker is there so that the caller is told at once."""
    breaker = Breaker(Rule(minimum_calls=1, open_seconds=1.0), monotonic)
    async with serving(hangs_up, ok) as server, client(server, breaker=breaker) as http:
        for sent in (True, False):
            with pytest.raises(CallFailed) as failed:
                await http.call(READ)
            assert (failed.value.reason, failed.value.sent) == (Reason.BREAKER_OPEN, sent)
        assert len(server.requests) == 1


async def test_which_answers_are_retried_is_the_caller_s_choice() -> None:
    async with serving(says(503), ok) as server, client(server, replace(OPTIONS, retried=frozenset())) as http:
        assert (await http.call(READ)).status == 503
    async with serving(hangs_up, ok) as server, client(server, replace(OPTIONS, retried=frozenset())) as http:
        assert (await http.call(READ)).status == 200


async def test_a_call_that_its_caller_cut_short_says_nothing_about_the_server() -> None:
    breaker = Breaker(Rule(minimum_calls=1), monotonic)
    async with serving(ok, hangs) as server, client(server, breaker=breaker) as http:
        await http.call(READ)  # connects; 50 ms may be too short for that, and it would count
        with pytest.raises(CallFailed):
            await http.call(ONCE, deadline=Deadline.after(0.05))
        assert (breaker.counts.calls, breaker.counts.failed) == (1, 0)
        with pytest.raises(CallFailed):
            await http.call(replace(ONCE, timeout=0.3))
        assert breaker.state is State.OPEN


async def test_a_server_that_keeps_the_deadline_but_does_no_work_opens_the_breaker() -> None:
    """It hangs on its database and says 504 just before our own timeout would end the call."""

    async def gives_up(request: web.Request) -> web.StreamResponse:
        # A second earlier here: a process that stands still must not make it our own timeout.
        await asyncio.sleep(int(request.headers["Request-Timeout-Ms"]) / 1000 - 1.0)
        return web.Response(status=504, headers={"Retry-After": "1"})

    breaker = Breaker(Rule(minimum_calls=4, open_seconds=60), monotonic)
    async with serving(gives_up) as server, client(server, breaker=breaker) as http:
        answers = await asyncio.gather(*(http.call(ONCE, deadline=Deadline.after(1.5)) for _ in range(4)))
        assert [answer.status for answer in answers] == [504] * 4
        assert breaker.state is State.OPEN


async def test_a_504_that_the_caller_left_no_time_to_avoid_says_nothing_about_the_server() -> None:
    breaker = Breaker(Rule(minimum_calls=1), monotonic)
    async with serving(says(504, Retry_After="1")) as server, client(server, breaker=breaker) as http:
        assert (await http.call(ONCE, deadline=Deadline.after(0.2))).status == 504
        assert (breaker.state, breaker.counts.calls) == (State.CLOSED, 0)


async def test_a_permit_that_was_taken_before_is_the_first_attempt_s() -> None:
    now = [100.0]
    rule = Rule(minimum_calls=1, open_seconds=1.0, probes=1)
    breaker = Breaker(rule, lambda: now[0])
    async with serving(hangs_up, ok) as server, client(server, breaker=breaker) as http:
        with pytest.raises(CallFailed):
            await http.call(ONCE)
        now[0] += 1
        permit = breaker.acquire()
        with pytest.raises(CallFailed) as refused:
            await http.call(ONCE)
        assert refused.value.reason is Reason.BREAKER_OPEN
        assert (await http.call(ONCE, permit=permit)).status == 200
    assert breaker.state is State.CLOSED


async def test_a_permit_that_was_taken_before_goes_back_when_no_time_is_left() -> None:
    now = [100.0]
    breaker = Breaker(Rule(minimum_calls=1, open_seconds=1.0, probes=1), lambda: now[0])
    async with serving(hangs_up, ok) as server, client(server, breaker=breaker) as http:
        with pytest.raises(CallFailed):
            await http.call(ONCE)
        now[0] += 1
        permit = breaker.acquire()
        with pytest.raises(CallFailed) as late:
            await http.call(ONCE, deadline=Deadline.after(0.0), permit=permit)
        assert late.value.reason is Reason.NO_TIME_LEFT
        assert breaker.would_permit


async def test_a_cancelled_call_gives_its_permit_back() -> None:
    now = [100.0]
    breaker = Breaker(Rule(minimum_calls=1, open_seconds=1.0, probes=1), lambda: now[0])
    arrived = asyncio.Event()

    async def arrives_and_hangs(request: web.Request) -> web.StreamResponse:
        arrived.set()
        return await hangs(request)

    async with serving(hangs_up, arrives_and_hangs, ok) as server, client(server, breaker=breaker) as http:
        with pytest.raises(CallFailed):
            await http.call(ONCE)
        now[0] += 1
        probe = asyncio.create_task(http.call(READ))
        await arrived.wait()
        probe.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probe
        assert (await http.call(READ)).status == 200


@pytest.mark.parametrize(
    ("status", "retry_after", "verdict"),
    [
        (200, None, True), (302, None, True), (400, None, None), (429, "1", None), (503, "1", None), (504, "1", False),
        (503, None, False), (504, None, False), (500, None, False), (500, "1", False), (502, None, False),
    ],
)  # fmt: skip
def test_what_an_answer_says_of_the_server(status: int, retry_after: str | None, verdict: bool | None) -> None:
    headers = {"Retry-After": retry_after} if retry_after else {}
    assert healthy(Answer(status, headers, b"", 0.1)) is verdict


@pytest.mark.slow
async def test_the_adaptive_timeout_is_kept_and_told() -> None:
    adaptive = AdaptiveTimeout(TimeoutRule(floor=0.01, ceiling=5.0, initial=0.3, minimum_calls=1), monotonic)
    async with serving(hangs, hangs, hangs_up, ok) as server, client(server) as http:
        once = replace(ONCE, adaptive=adaptive)
        for _ in range(2):
            with pytest.raises(CallFailed) as failed:
                await http.call(once)
            assert failed.value.reason is Reason.TIMEOUT
        grown = adaptive.seconds()
        assert grown > 0.5
        with pytest.raises(CallFailed):
            await http.call(once)
        assert adaptive.seconds() == pytest.approx(grown, rel=0.01)
        await http.call(once)


@pytest.mark.slow
async def test_a_server_that_keeps_the_deadline_it_was_told_does_not_hold_the_adaptive_timeout_down() -> None:
    """Its 504 comes shortly before our own timeout, and means the same: it would have taken longer."""

    async def keeps_to_it(request: web.Request) -> web.StreamResponse:
        told = int(request.headers["Request-Timeout-Ms"]) / 1000
        await asyncio.sleep(min(told, 0.2))
        return web.Response(status=504 if told < 0.2 else 200)

    adaptive = AdaptiveTimeout(TimeoutRule(floor=0.05, ceiling=5.0, initial=0.05, minimum_calls=1), monotonic)
    once = replace(ONCE, adaptive=adaptive)
    async with serving(keeps_to_it) as server, client(server) as http:
        answers = []
        for _ in range(10):
            try:
                answers.append((await http.call(once)).status)
            except CallFailed:
                answers.append(0)
    assert answers[-1] == 200


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_quick_refusal_says_nothing_about_latency(status: int) -> None:
    adaptive = AdaptiveTimeout(TimeoutRule(floor=0.01, ceiling=5.0, initial=0.5, minimum_calls=1), monotonic)
    async with serving(says(status)) as server, client(server) as http:
        for _ in range(5):
            await http.call(replace(ONCE, adaptive=adaptive))
    assert adaptive.seconds() == 0.5


async def test_a_server_that_is_always_quick_does_not_leave_its_next_call_without_time() -> None:
    """An adaptive timeout below what is taken off for the wire would end every call before it begins, and learn nothing."""
    adaptive = AdaptiveTimeout(TimeoutRule(floor=0.001, ceiling=5.0, initial=0.5, minimum_calls=1), monotonic)
    ended: list[int | Reason] = []
    async with serving(ok) as server, client(server) as http:
        for _ in range(5):
            try:
                ended.append((await http.call(replace(ONCE, adaptive=adaptive))).status)
            except CallFailed as failed:
                ended.append(failed.reason)
    assert set(ended) <= {200, Reason.TIMEOUT}  # each has 40 ms, in which this process may stand still
    assert ended.count(200) >= 2


async def test_the_trace_goes_on() -> None:
    async with serving(ok) as server, client(server) as http:
        with tracing.span("request", "server"):
            mine = tracing.current_trace_id()
            await http.call(READ)
    assert mine is not None
    assert mine in server.requests[0].headers["traceparent"]


async def test_redirects_are_not_followed() -> None:
    async with serving(says(302, Location="http://127.0.0.1:1/"), ok) as server, client(server) as http:
        assert (await http.call(READ)).status == 302
    assert len(server.requests) == 1


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with serving(ok) as server, client(server) as http:
        assert (await http.call(READ)).body == b"fine"


async def test_an_answer_that_is_too_large_is_none() -> None:
    async def large(_: web.Request) -> web.StreamResponse:
        return web.Response(body=b"x" * 2000)

    small = replace(OPTIONS, max_body_bytes=1000, retries=RetryPolicy(1, QUICK.backoff))
    async with serving(large) as server, client(server, small) as http:
        with pytest.raises(CallFailed) as failed:
            await http.call(READ)
    assert (failed.value.reason, failed.value.sent) == (Reason.ANSWER_TOO_LARGE, True)


async def test_garbage_instead_of_http_is_a_lost_connection() -> None:
    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"not http at all\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(garbage, "127.0.0.1", 0)
    try:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        once = replace(OPTIONS, retries=RetryPolicy(1, QUICK.backoff))
        async with Client("test", url, once) as http:
            with pytest.raises(CallFailed) as failed:
                await http.call(READ)
    finally:
        server.close()
        await server.wait_closed()
    assert (failed.value.reason, failed.value.sent) == (Reason.CONNECTION_LOST, True)
