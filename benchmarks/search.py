"""Search: queries a second beside the raw engine with the same queries, the popular mix, suggestions, indexing, freshness.

Open model: arrivals are drawn from a seed and latency counts from the intended send time. Thousands of different queries
(loadtests/queries.txt), since one query asked again and again looks 10 to 47 times better than it is. The raw engine gets, for
each query, the body with which the service got its answer.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from urllib.parse import quote_plus

import aiohttp
import uvloop

from benchmarks import client
from benchmarks.client import Result
from benchmarks.figures.search import (
    CHANGES,
    P99_MS,
    POPULAR_RATE,
    REMEMBERED_SECONDS,
    SLOPE_FROM,
    SUGGEST_RATE,
    SearchFigures,
)
from benchmarks.stack import LAB_PREFIX, say, stack, usage
from infra.runtime import Runtime, RuntimeProblem
from loadtests.search_client import Mix, read_queries
from services.search.query import synonyms
from services.search.query.body import hits_body
from services.search.query.build import Matching
from services.search.query.request import read_search
from services.search.ranking.boosts import Context
from services.search.ranking.personal import NOBODY
from services.search.ranking.ranking import BOOSTED
from services.search.settings import ApiSettings

ROOT = Path(__file__).resolve().parents[1]
QUERIES = ROOT / "loadtests" / "queries.txt"
SYNONYMS = ROOT / "services" / "search" / "query" / "synonyms.txt"
READERS = ("postgres", "search-engine", "catalog-migrate", "catalog-fill", "search-migrate", "search-api")
WRITERS = ("kafka", "kafka-topics", "connect", "catalog-connector", "search-indexer", "search-canary", "catalog-api")
FRESHNESS = "search_freshness_seconds"
CANARY_SECONDS = 0.2
"""Between two of its changes: a hundred in the twenty seconds of a rate, so that a p99 is more than the worst of twenty."""
SEEN_FIRST = 20
"""Of its changes, before the first that counts."""
START_SECONDS = 60
ALIAS = f"{LAB_PREFIX}products"
KEY = "lab_demo_catalog_key"
SLOWEST_PER_SECOND = 250
"""Documents generated, written, read and indexed."""
FIRST_RATE, FACTOR, MOST_STEPS = 25.0, 1.35, 14
OK_SHARE = 0.99
PATIENCE_MS = 5000
"""Callers of uncached searches wait so long, so that what is slow is measured and not cut off."""
RAW_BODIES = 1200
_REMEMBERED = ApiSettings.model_fields
LONGEST_REMEMBERED_SECONDS = _REMEMBERED["cache_seconds"].default * (1 + _REMEMBERED["cache_jitter"].default)
GENERATIONS = 3
"""Of answers made before the popular mix is measured: those that were made together at the start end together, too."""


def get(host: str, port: int, path: str, headers: str = "") -> bytes:
    """A prepared request."""
    return f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n{headers}\r\n".encode()


def post(host: str, port: int, path: str, body: object, method: str = "POST", headers: str = "") -> bytes:
    """A prepared request with JSON."""
    content = json.dumps(body).encode()
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: {host}:{port}\r\n{headers}"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def uncached(host: str, port: int, texts: Iterable[str]) -> Iterator[bytes]:
    """Searches that nobody remembers; without facets, as the raw engine's."""
    headers = f"Cache-Control: no-cache\r\nRequest-Timeout-Ms: {PATIENCE_MS}\r\n"
    for text in texts:
        yield get(host, port, f"/v1/search?facets=none&q={quote_plus(text)}", headers)


def bodies(texts: Sequence[str], widened: frozenset[str]) -> list[dict[str, object]]:
    """What the service asks the engine for, in the form that gave the answer."""
    context, known = Context(datetime.now(UTC), NOBODY), synonyms.read(SYNONYMS.read_text("utf-8"))
    found: list[dict[str, object]] = []
    for text in texts:
        matching = Matching.LOOSELY if text in widened else Matching.EXACTLY
        request = read_search([("q", text), ("facets", "none")])
        found.append(hits_body(request, BOOSTED, context, known, matching))
    return found


Measure = Callable[[float, int], Awaitable[Result]]
"""One step of a ladder: a rate, and a number to draw from."""


def first_rate(docs: int) -> float:
    """Where the ladder begins, in queries/s: FIRST_RATE, and less in proportion where a query costs in proportion, from SLOPE_FROM on."""
    return FIRST_RATE * min(1.0, SLOPE_FROM / docs)


async def safe_rate(measure: Measure, first: float = FIRST_RATE) -> float:
    """The highest rate of the ladder from `first` at which p99 stays below P99_MS and nearly all is answered; 0 if none."""
    safe, rate = 0.0, first
    for step in range(MOST_STEPS):
        result = await measure(rate, step)
        answered, total = result.statuses[200], sum(result.statuses.values())
        if total == 0 or answered < OK_SHARE * total or result.percentile_ms(99) > P99_MS:
            break
        safe, rate = answered / result.seconds, rate * FACTOR
    return safe


def sample(text: str, name: str, *labels: str) -> float:
    """The sum of a metric's samples whose labels contain all of `labels`."""
    found = 0.0
    for line in text.splitlines():
        if line.startswith((f"{name} ", f"{name}{{")) and all(label in line for label in labels):
            found += float(line.rpartition(" ")[2])
    return found


def buckets(text: str, name: str) -> dict[float, float]:
    """A histogram's cumulative buckets by their bound, over all labels."""
    found: dict[float, float] = {}
    for bound, value in re.findall(rf'^{name}_bucket{{.*?le="([^"]+)".*?}} (\S+)', text, re.MULTILINE):
        found[float(bound)] = found.get(float(bound), 0.0) + float(value)
    return found


def quantile(before: dict[float, float], after: dict[float, float], share: float) -> float | None:
    """The bound of the bucket in which the quantile of what came between lies; None of nothing."""
    grown = {bound: after[bound] - before.get(bound, 0.0) for bound in sorted(after)}
    total = max(grown.values(), default=0.0)
    return next((bound for bound, count in grown.items() if total and count >= share * total), None)


@dataclass(slots=True)
class Bench:
    """One filled index, one session."""

    runtime: Runtime
    http: aiohttp.ClientSession
    texts: tuple[str, ...]

    @property
    def api(self) -> tuple[str, int]:
        """Of the service."""
        return self.runtime.address("search-api")

    @property
    def engine(self) -> tuple[str, int]:
        """Of the one node."""
        return self.runtime.address("search-engine")

    async def json(self, address: tuple[str, int], path: str) -> dict[str, object]:
        """Raises aiohttp.ClientError."""
        patient = {"Request-Timeout-Ms": str(PATIENCE_MS)}
        async with self.http.get(f"http://{address[0]}:{address[1]}{path}", headers=patient) as answer:
            answer.raise_for_status()
            found: dict[str, object] = await answer.json()
            return found

    async def metrics(self, service: str) -> str:
        """What a process tells Prometheus."""
        host, port = self.runtime.address(service)
        async with self.http.get(f"http://{host}:{port}/metrics") as answer:
            return await answer.text()

    async def widened(self) -> frozenset[str]:
        """Queries for which the service had to allow typos and missing words; warms everything up on the way."""
        found = set()
        for text in self.texts[:RAW_BODIES]:
            answer = await self.json(self.api, f"/v1/search?facets=none&q={quote_plus(text)}")
            if answer["matching"] != Matching.EXACTLY.value:
                found.add(text)
        return frozenset(found)

    async def searches(self) -> int:
        """What the engine has searched so far, by its own count for each shard."""
        statistics = await self.json(self.engine, f"/{ALIAS}/_stats/search")
        found: int = statistics["_all"]["primaries"]["search"]["query_total"]  # type: ignore[index]  # the engine's own form
        return found

    def cpu(self, service: str) -> float:
        """Seconds since its start."""
        return usage(self.runtime, [service])[service].cpu_seconds


async def measure_index(bench: Bench, figures: SearchFigures) -> None:
    """Documents a second in bulk, from the database through our reading to the engine's answer; bytes of each."""
    started = time.monotonic()
    variables = {"LAB_PREFIX": LAB_PREFIX, "CATALOG_PRODUCTS": str(figures.docs)}
    await asyncio.to_thread(
        bench.runtime.up, ["search-fill"], env=variables, timeout=60 + figures.docs / SLOWEST_PER_SECOND
    )
    figures.bulk_per_second = round(figures.docs / (time.monotonic() - started), 1)
    statistics = await bench.json(bench.engine, f"/{ALIAS}/_stats/docs,store")
    primaries = statistics["_all"]["primaries"]  # type: ignore[index]  # the engine's own form
    figures.bytes_per_document = round(primaries["store"]["size_in_bytes"] / max(primaries["docs"]["count"], 1), 1)
    say(f"indexed {figures.bulk_per_second:.0f} documents/s, {figures.bytes_per_document:.0f} bytes each")


async def measure_uncached(bench: Bench, figures: SearchFigures, *, rounds: int, seconds: int) -> None:
    """A B A B: the raw engine and the service, the same queries in the same order, none remembered."""
    before = await bench.searches()
    raw = bodies(bench.texts[:RAW_BODIES], await bench.widened())
    figures.searches_per_query = round((await bench.searches() - before) / len(raw), 3)
    (engine_host, engine_port), (host, port) = bench.engine, bench.api

    async def ask_engine(rate: float, step: int) -> Result:
        requests = (
            post(engine_host, engine_port, f"/{ALIAS}/_search?request_cache=false", body) for body in cycle(raw)
        )
        return await client.open_loop(engine_host, engine_port, requests, rate=rate, seconds=seconds, seed=step)

    async def ask_api(rate: float, step: int) -> Result:
        requests = uncached(host, port, cycle(bench.texts[:RAW_BODIES]))
        return await client.open_loop(host, port, requests, rate=rate, seconds=seconds, seed=step)

    first = first_rate(figures.docs)
    for number in range(rounds):
        used = bench.cpu("search-engine")
        alone = await safe_rate(ask_engine, first)
        figures.raw_per_second.append(round(alone, 1))
        say(f"A{number + 1}  raw engine   {alone:8.0f} queries/s with p99 < {P99_MS:.0f} ms")
        ours = await safe_rate(ask_api, first)
        figures.api_per_second.append(round(ours, 1))
        say(f"B{number + 1}  search-api   {ours:8.0f} queries/s with p99 < {P99_MS:.0f} ms, nothing cached")
        say(f"    the engine used {bench.cpu('search-engine') - used:.0f} s of CPU")
    raw_cpu = await cpu_of(bench, ("search-engine",), ask_engine, first)
    figures.engine_cpu_ms_per_query = raw_cpu["search-engine"]
    figures.service_cpu_ms_per_query = await cpu_of(bench, ("search-engine", "search-api"), ask_api, first)


async def cpu_of(bench: Bench, services: Sequence[str], ask: Measure, rate: float) -> dict[str, float]:
    """Milliseconds of CPU of each service for one answer, at a rate that leaves the cores idle most of the time."""
    before = {name: bench.cpu(name) for name in services}
    answered = max((await ask(rate, 99)).statuses[200], 1)
    return {name: round((bench.cpu(name) - before[name]) * 1000 / answered, 2) for name in services}


async def measure_popular(bench: Bench, figures: SearchFigures, *, seconds: int) -> None:
    """The mix by Zipf's law at POPULAR_RATE, with facets; the share of answers from memory beside it.

    Measured in a cache in use: after GENERATIONS of answers, at half the rate, and for as long as one answer lives.
    """
    host, port = bench.api
    mix = Mix.of(bench.texts, random.Random(7))
    requests = (get(host, port, f"/v1/search?q={quote_plus(mix.next())}") for _ in cycle((0,)))
    await client.open_loop(
        host,
        port,
        requests,
        rate=POPULAR_RATE / 2,
        seconds=GENERATIONS * LONGEST_REMEMBERED_SECONDS,
        seed=1,
        connections=256,
    )
    before, used = await bench.metrics("search-api"), bench.cpu("search-engine")
    result = await client.open_loop(
        host, port, requests, rate=POPULAR_RATE, seconds=max(2 * seconds, REMEMBERED_SECONDS), seed=2, connections=256
    )
    figures.popular_engine_cores = round((bench.cpu("search-engine") - used) / result.seconds, 3)
    after = await bench.metrics("search-api")
    looks = "search_cache_lookups_total"
    asked = sample(after, looks, 'kind="results"') - sample(before, looks, 'kind="results"')
    hit = ('kind="results"', 'result="hit"')
    figures.popular_hits_share = round((sample(after, looks, *hit) - sample(before, looks, *hit)) / max(asked, 1), 3)
    less = sample(after, "search_degraded_total") - sample(before, "search_degraded_total")
    figures.popular_left_out = round(less / max(asked, 1), 4)
    figures.popular_offered = round(sum(result.statuses.values()) / result.seconds, 1)
    figures.popular_ok_per_second = round(result.per_second(200), 1)
    figures.popular_p99_ms = round(result.percentile_ms(99), 1)
    say(
        f"popular mix: {figures.popular_ok_per_second:.0f} of {figures.popular_offered:.0f}/s, p99 {figures.popular_p99_ms} ms,"
        f" {figures.popular_hits_share:.0%} from the cache, {figures.popular_left_out:.2f} parts left out per answer,"
        f" {figures.popular_engine_cores:.2f} cores of engine"
    )


async def measure_suggest(bench: Bench, figures: SearchFigures, *, seconds: int) -> None:
    """Beginnings of queries, letter by letter."""
    host, port = bench.api
    beginnings = [text[:length] for text in bench.texts[:RAW_BODIES] for length in (2, 4, 6) if len(text) >= length]
    requests = (get(host, port, f"/v1/suggest?q={quote_plus(text)}") for text in cycle(beginnings))
    result = await client.open_loop(host, port, requests, rate=SUGGEST_RATE, seconds=seconds, seed=3)
    figures.suggest_p99_ms = round(result.percentile_ms(99), 1)
    say(f"suggest at {SUGGEST_RATE:.0f}/s: p99 {figures.suggest_p99_ms} ms")


async def measure_freshness(bench: Bench, figures: SearchFigures, *, seconds: int) -> None:
    """Price changes through the catalogue's API and the whole pipeline, and the canary's own histogram meanwhile."""
    variables = {
        "LAB_PREFIX": LAB_PREFIX,
        "CATALOG_CDC_SNAPSHOT": "no_data",
        "SEARCH_CANARY_INTERVAL_SECONDS": str(CANARY_SECONDS),
    }
    await asyncio.to_thread(bench.runtime.up, WRITERS, env=variables, timeout=170)
    host, port = bench.runtime.address("catalog-api")
    headers = {"Authorization": f"Bearer {KEY}"}
    async with bench.http.get(f"http://{host}:{port}/v1/products?limit=100", headers=headers) as answer:
        products = [one["id"] for one in (await answer.json())["data"]]
    await canary_is_seen(bench)
    draw = random.Random(5)
    bearer = f"Authorization: Bearer {KEY}\r\n"
    for rate in CHANGES:
        requests = (
            post(host, port, f"/v1/products/{one}/price", {"price": draw.randrange(100, 50_000)}, "PUT", bearer)
            for one in cycle(products)
        )
        await asyncio.sleep(3)
        before = buckets(await bench.metrics("search-canary"), FRESHNESS)
        result = await client.open_loop(host, port, requests, rate=rate, seconds=2 * seconds, seed=4)
        after = buckets(await bench.metrics("search-canary"), FRESHNESS)
        figures.changes_per_second[f"{rate:.0f}"] = round(result.per_second(200), 1)
        p99 = quantile(before, after, 0.99)
        if p99 is not None:
            figures.freshness_p99_seconds[f"{rate:.0f}"] = p99
        say(f"{result.per_second(200):.0f} of {rate:.0f} changes/s: freshness p99 at most {p99} s")


async def canary_is_seen(bench: Bench) -> None:
    """The pipeline runs: what waits for a JVM that has just started is no change of a system at work."""
    until = time.monotonic() + START_SECONDS
    while max(buckets(await bench.metrics("search-canary"), FRESHNESS).values(), default=0.0) < SEEN_FIRST:
        if time.monotonic() > until:
            raise RuntimeProblem(f"Fewer than {SEEN_FIRST} changes of the canary were found within {START_SECONDS} s.")
        await asyncio.sleep(0.5)


async def run(runtime: Runtime, docs: int, *, rounds: int, seconds: int) -> SearchFigures:
    """All measurements in one run."""
    figures = SearchFigures(docs=docs)
    async with aiohttp.ClientSession() as http:
        bench = Bench(runtime, http, read_queries(QUERIES))
        await measure_index(bench, figures)
        await measure_uncached(bench, figures, rounds=rounds, seconds=seconds)
        await measure_popular(bench, figures, seconds=seconds)
        await measure_suggest(bench, figures, seconds=seconds)
        await measure_freshness(bench, figures, seconds=seconds)
    figures.memory_mib = {
        name: round(one.memory_bytes / 2**20, 1)
        for name, one in usage(runtime, ["search-engine", "search-api", "search-indexer", "connect"]).items()
    }
    return figures


def main(*, rounds: int, seconds: int, docs: int) -> SearchFigures:
    """Measure everything on a stack of its own. With 10,000,000 documents it takes about an hour and 20 GiB of disk."""
    environment = {"CATALOG_PRODUCTS": str(docs), "SEARCH_CLIENT_RATE": "1000000"}
    with stack(READERS, environment, timeout=120 + docs / SLOWEST_PER_SECOND) as runtime:
        return uvloop.run(run(runtime, docs, rounds=rounds, seconds=seconds))
