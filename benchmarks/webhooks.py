"""Deliveries per second of one dispatcher beside a bare aiohttp loop, publish to delivered, memory, isolation.

Loop and dispatcher alternate (A B A B) in one run, with the same bytes to the same receivers, which answer without a record.
The dispatcher's figure includes a durable row for every attempt.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from statistics import median

import aiohttp
import asyncpg
import uvloop

from benchmarks import client
from benchmarks.figures.webhooks import WebhooksFigures
from benchmarks.payments import durability, url
from benchmarks.stack import LAB_PREFIX, say, stack, usage
from infra.runtime import Runtime

SERVICES = ("postgres", "sim-receivers", "webhooks-migrate", "webhooks-api", "webhooks-dispatcher")
PROCESSES = ("webhooks-api", "webhooks-dispatcher", "sim-receivers", "postgres")
DISPATCHER = "webhooks-dispatcher"
KEY = "lab_demo_application_key"
ENDPOINTS = 1000
HUNG = 100
LOOP_AT_ONCE = 100
"""In flight in the bare loop; more is slower on two cores."""
BACKLOG = 15_000
GARBAGE_THRESHOLD = 20_000
PUBLISHERS = 32
SCHEDULED = 100_000
ISOLATED = 18_000
MODERATE_RATE = 200.0
ENVIRONMENT = {"SIM_RECEIVERS_RECORD": "0"}
DATA = {"payment_id": "pay_01h455vb4pex5vsknk084sn02q", "amount": 4200, "currency": "EUR", "note": "x" * 300}

_MESSAGES = """
INSERT INTO messages (id, application_id, event_id, event_type, payload, fingerprint, created_at)
SELECT uuid7(), 'app_demo', $1 || '-' || n, 'bench.preloaded', $3, sha256(n::text::bytea), now()
FROM generate_series(1, $2) AS n
"""
_DELIVERIES = """
WITH m AS (SELECT id, row_number() OVER (ORDER BY id) - 1 AS n FROM messages WHERE event_id LIKE $1 || '-%'),
     e AS (SELECT id, row_number() OVER (ORDER BY (substring(url FROM '[0-9]+$'))::integer) - 1 AS n FROM endpoints
           WHERE (substring(url FROM '[0-9]+$'))::integer BETWEEN $2 AND $3)
INSERT INTO deliveries (id, message_id, endpoint_id, application_id, state, next_attempt_at, created_at, updated_at)
SELECT uuid7(), m.id, e.id, 'app_demo', 'scheduled', now() + $4 * interval '1 second', now(), now()
FROM m JOIN e ON e.n = m.n % $5
"""
_LEFT = """
SELECT EXISTS (SELECT FROM deliveries d JOIN messages m ON m.id = d.message_id
               WHERE m.event_id LIKE $1 || '-%' AND d.state <> 'delivered')
"""
_SPAN = """
SELECT count(*) AS n, extract(epoch FROM max(a.finished_at) - min(CASE WHEN $2 THEN m.created_at ELSE a.started_at END))::float8
       AS seconds
FROM attempts a JOIN deliveries d ON d.id = a.delivery_id JOIN messages m ON m.id = d.message_id
WHERE m.event_id LIKE $1 || '-%' AND a.outcome = 'delivered'
"""


_WAITED = """
SELECT percentile_cont(0.99) WITHIN GROUP (ORDER BY extract(epoch FROM a.started_at - m.created_at)) * 1000
FROM attempts a JOIN deliveries d ON d.id = a.delivery_id JOIN messages m ON m.id = d.message_id
WHERE m.event_id LIKE $1 || '-%' AND a.number = 1
"""


def secret_of(receiver: int, master: str) -> bytes:
    """The simulator's rule."""
    return hashlib.sha256(f"{master}/{receiver}".encode()).digest()


@dataclass(slots=True)
class Bench:
    """One database, one set of receivers, one session."""

    runtime: Runtime
    db: asyncpg.Connection[asyncpg.Record]
    http: aiohttp.ClientSession

    @property
    def hooks(self) -> str:
        """The receivers, as this process sees them."""
        return f"http://127.0.0.1:{self.runtime.variable('SIM_RECEIVERS_HOOKS_PORT')}"

    @property
    def hooks_inside(self) -> str:
        """The receivers, as the dispatcher sees them."""
        variable = self.runtime.variable
        return f"http://{variable('SIM_RECEIVERS_HOST')}:{variable('SIM_RECEIVERS_HOOKS_PORT')}"

    async def register(self) -> None:
        """An endpoint for each receiver, each for an event type of its own."""
        host, port = self.runtime.address("webhooks-api")
        master = self.runtime.variable("SIM_RECEIVERS_SECRET")
        gate = asyncio.Semaphore(32)

        async def one(receiver: int) -> None:
            endpoint = {
                "url": f"{self.hooks_inside}/r/{receiver}",
                "event_types": [f"bench.e{receiver}"],
                "secret": "whsec_" + base64.b64encode(secret_of(receiver, master)).decode(),
            }
            headers = {"Authorization": f"Bearer {KEY}"}
            async with (
                gate,
                self.http.post(f"http://{host}:{port}/v1/endpoints", json=endpoint, headers=headers) as answer,
            ):
                if answer.status != 201:
                    raise RuntimeError(f"endpoint {receiver} was not registered: HTTP {answer.status}")

        await asyncio.gather(*(one(receiver) for receiver in range(1, ENDPOINTS + 1)))

    async def preload(self, run: str, deliveries: int, first: int, last: int, *, due_in: float = 0.0) -> None:
        """So many messages, each for one of the endpoints `first` to `last` in turn."""
        await self.db.execute(_MESSAGES, run, deliveries, json.dumps(DATA, separators=(",", ":")).encode())
        await self.db.execute(_DELIVERIES, run, first, last, due_in, last - first + 1)

    async def delivered(self, run: str, *, from_publishing: bool = False, within: float = 120.0) -> float:
        """Deliveries per second, from the first attempt of a run (or its first message) to the end of the last attempt.

        Raises RuntimeError if they take longer than `within` seconds.
        """
        give_up = time.monotonic() + within
        while await self.db.fetchval(_LEFT, run):
            if time.monotonic() > give_up:
                raise RuntimeError(f"run {run} was not delivered within {within:.0f} s")
            await asyncio.sleep(0.2)
        row = await self.db.fetchrow(_SPAN, run, from_publishing)
        assert row is not None
        return float(row["n"] / row["seconds"])

    async def empty(self) -> None:
        """No messages left; fresh statistics."""
        await self.db.execute("TRUNCATE messages, deliveries, attempts")
        await self.db.execute("VACUUM ANALYZE messages, deliveries, attempts")

    async def dispatch(self, run: str, deliveries: int, first: int = 1, *, hung: int = 0) -> float:
        """Preload endpoints from `first` on with the dispatcher away, start it, and see how fast these are.

        `hung` is a number of deliveries to the endpoints that hang; they are not counted.
        """
        await asyncio.to_thread(self.runtime.stop, DISPATCHER)
        await self.empty()
        await self.preload(f"h{run}", hung, 1, HUNG)
        await self.preload(run, deliveries, first, ENDPOINTS)
        await self.db.execute("VACUUM ANALYZE messages, deliveries")
        await asyncio.to_thread(self.runtime.start, DISPATCHER)
        return await self.delivered(run)

    async def idle_cpu(self) -> float:
        """What a start costs a dispatcher that finds nothing to do, seconds of CPU."""
        await asyncio.to_thread(self.runtime.stop, DISPATCHER)
        await self.empty()
        await asyncio.to_thread(self.runtime.start, DISPATCHER)
        return self.cpu()

    async def first_attempt_p99_ms(self, run: str, seconds: int) -> float:
        """At a moderate rate, from a message's commit to the beginning of its attempt; to the healthy endpoints only."""
        host, port = self.runtime.address("webhooks-api")
        messages = publications(host, port, run, HUNG + 1)
        await client.open_loop(host, port, messages, rate=MODERATE_RATE, seconds=seconds, seed=42)
        await self.delivered(run)
        return round(float(await self.db.fetchval(_WAITED, run)), 1)

    async def switch(self, name: str, **parameters: float) -> None:
        """Switch a behaviour of the receivers on."""
        host, port = self.runtime.address("sim-receivers")
        async with self.http.put(f"http://{host}:{port}/lab/behaviours/{name}", json=parameters) as answer:
            answer.raise_for_status()

    def cpu(self) -> float:
        """Of the dispatcher, seconds since its start."""
        return usage(self.runtime, [DISPATCHER])[DISPATCHER].cpu_seconds

    def memory(self) -> float:
        """Of the dispatcher, MiB."""
        return round(usage(self.runtime, [DISPATCHER])[DISPATCHER].memory_bytes / 2**20, 1)


def body(number: int) -> bytes:
    """As the dispatcher sends it."""
    event = {"type": "bench.preloaded", "timestamp": "2026-01-01T00:00:00.000000+00:00", "id": f"a0-{number}"}
    return json.dumps(event | {"data": DATA}, separators=(",", ":")).encode()


async def bare_loop(hooks: str, master: str, seconds: float) -> float:
    """aiohttp posting signed webhooks as fast as it can, with nothing written down; per second.

    Garbage is collected as seldom as in the dispatcher: with CPython's default the loop would be slower.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD)
    done = 0
    end = time.monotonic() + seconds
    keys = [secret_of(receiver, master) for receiver in range(ENDPOINTS + 1)]
    numbers = count()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def worker() -> None:
            nonlocal done
            while time.monotonic() < end:
                number = next(numbers)
                receiver = number % ENDPOINTS + 1
                content, at = body(number), str(int(time.time()))
                signed = hmac.digest(keys[receiver], f"msg_{number}.{at}.".encode() + content, "sha256")
                headers = {
                    "webhook-id": f"msg_{number}",
                    "webhook-timestamp": at,
                    "webhook-signature": "v1," + base64.b64encode(signed).decode(),
                    "Content-Type": "application/json",
                }
                async with session.post(f"{hooks}/r/{receiver}", data=content, headers=headers) as answer:
                    await answer.read()
                    answer.raise_for_status()
                done += 1

        await asyncio.gather(*(worker() for _ in range(LOOP_AT_ONCE)))
    return done / seconds


def publications(host: str, port: int, run: str, first: int = 1) -> Iterator[bytes]:
    """Prepared POST /v1/messages, each for one of the endpoints from `first` on, in turn."""
    for number in count():
        receiver = first + number % (ENDPOINTS - first + 1)
        message = {"event_id": f"{run}-{number}", "event_type": f"bench.e{receiver}", "payload": DATA}
        content = json.dumps(message).encode()
        yield (
            f"POST /v1/messages HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {KEY}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        ).encode() + content


async def measure_dispatcher(bench: Bench, figures: WebhooksFigures, *, rounds: int, seconds: int) -> None:
    """A B A B: bare loop and dispatcher in turn."""
    master = bench.runtime.variable("SIM_RECEIVERS_SECRET")
    start = await bench.idle_cpu()
    await bench.dispatch("warm", 3000)
    for number in range(rounds):
        await asyncio.to_thread(bench.runtime.stop, DISPATCHER)
        before = time.process_time()
        loop = await bare_loop(bench.hooks, master, seconds)
        cpu = (time.process_time() - before) / (loop * seconds) * 1e6
        figures.loop_per_second.append(round(loop, 1))
        figures.loop_cpu_us.append(round(cpu, 1))
        say(f"A{number + 1}  bare aiohttp loop      {loop:8.0f} requests/s, nothing durable, {cpu:.0f} us of CPU each")
        ours = await bench.dispatch(f"b{number}", BACKLOG)
        cpu = (bench.cpu() - start) / BACKLOG * 1e6
        figures.dispatcher_per_second.append(round(ours, 1))
        figures.dispatcher_cpu_us.append(round(cpu, 1))
        say(
            f"B{number + 1}  dispatcher             {ours:8.0f} deliveries/s, a durable row each, {cpu:.0f} us of CPU each"
        )
        figures.pairs.append(round(ours / loop, 3))
    figures.ratio = round(median(figures.pairs), 3)


async def measure_end_to_end(bench: Bench, figures: WebhooksFigures, *, rounds: int, seconds: int) -> None:
    """Publish over HTTP as fast as it is taken, and wait for the last delivery: messages per second over both."""
    host, port = bench.runtime.address("webhooks-api")
    for number in range(rounds):
        await bench.empty()
        run = f"e{number}"
        result = await client.closed_loop(
            host, port, publications(host, port, run), connections=PUBLISHERS, seconds=seconds
        )
        unexpected = {status: times for status, times in result.statuses.items() if status != 202}
        if unexpected:
            raise RuntimeError(f"publishing was not answered with 202: {unexpected}")
        rate = await bench.delivered(run, from_publishing=True)
        figures.end_to_end_per_second.append(round(rate, 1))
        figures.accept_p99_ms = max(figures.accept_p99_ms, round(result.percentile_ms(99), 1))
        say(f"publish {result.per_second(202):.0f}/s, delivered end to end {rate:.0f}/s")
    figures.memory_mib = {
        name: round(one.memory_bytes / 2**20, 1) for name, one in usage(bench.runtime, PROCESSES).items()
    }


async def measure_memory(bench: Bench, figures: WebhooksFigures) -> None:
    """The dispatcher beside 100,000 deliveries that are scheduled for later."""
    await asyncio.to_thread(bench.runtime.stop, DISPATCHER)
    await bench.empty()
    await asyncio.to_thread(bench.runtime.start, DISPATCHER)
    await asyncio.sleep(2)
    figures.memory_mib_idle = bench.memory()
    await bench.preload("later", SCHEDULED, 1, ENDPOINTS, due_in=3600)
    await asyncio.sleep(5)
    figures.memory_mib_100k_scheduled = bench.memory()
    say(
        f"dispatcher: {figures.memory_mib_idle} MiB idle, {figures.memory_mib_100k_scheduled} MiB beside {SCHEDULED} retries"
    )


async def measure_isolation(bench: Bench, figures: WebhooksFigures, *, rounds: int, seconds: int) -> None:
    """A A B, again and again: 900 endpoints alone, alone, and beside 100 that hang for 15 s."""
    noise: list[float] = []
    for number in range(rounds):
        pair = [await bench.dispatch(f"i{number}{turn}", ISOLATED, HUNG + 1) for turn in "ab"]
        figures.undisturbed_per_second += [round(one, 1) for one in pair]
        noise.append(min(pair) / max(pair))
        alone, again = [await bench.first_attempt_p99_ms(f"m{number}{turn}", seconds) for turn in "ab"]
        figures.first_attempt_p99_ms_alone.append(alone)
        figures.first_attempt_p99_ms_alone_again.append(again)
        await bench.switch("hang", first=1, count=HUNG, seconds=60)
        rate = await bench.dispatch(f"i{number}c", ISOLATED, HUNG + 1, hung=HUNG * 20)
        figures.with_hung_per_second.append(round(rate, 1))
        say(f"900 endpoints: {pair[0]:.0f}/s and {pair[1]:.0f}/s alone, {rate:.0f}/s beside {HUNG} that hang")
        beside = await bench.first_attempt_p99_ms(f"n{number}", seconds)
        figures.first_attempt_p99_ms_beside_hung.append(beside)
        say(f"their wait at {MODERATE_RATE:.0f}/s, p99: {alone} ms and {again} ms alone, {beside} ms beside them")
        await bench.switch("hang", first=1, count=0)
    figures.isolation = round(median(figures.with_hung_per_second) / median(figures.undisturbed_per_second), 3)
    figures.isolation_noise = round(min(noise), 3)


@asynccontextmanager
async def opened(runtime: Runtime) -> AsyncIterator[Bench]:
    """Connected, endpoints registered."""
    db = await asyncpg.connect(url(runtime, LAB_PREFIX + "webhooks"), command_timeout=120)
    try:
        async with aiohttp.ClientSession() as http:
            bench = Bench(runtime, db, http)
            await bench.register()
            yield bench
    finally:
        await db.close()


async def run(runtime: Runtime, *, rounds: int, seconds: int) -> WebhooksFigures:
    """All measurements in one run."""
    figures = WebhooksFigures(settings=await durability(runtime))
    async with opened(runtime) as bench:
        await measure_dispatcher(bench, figures, rounds=rounds, seconds=seconds)
        await measure_end_to_end(bench, figures, rounds=rounds, seconds=seconds)
        await measure_memory(bench, figures)
        await measure_isolation(bench, figures, rounds=rounds, seconds=seconds)
    return figures


def main(*, rounds: int, seconds: int) -> WebhooksFigures:
    """Measure everything on a stack of its own."""
    with stack(SERVICES, ENVIRONMENT) as runtime:
        return uvloop.run(run(runtime, rounds=rounds, seconds=seconds))
