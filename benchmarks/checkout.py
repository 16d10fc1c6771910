"""What the hop costs: checkouts per second beside payments taken directly, in turn (A B A B) in one run on the same servers.

Then: latency at half of saturation from the intended send time, reads per second and how many of them were hedged, CPU per
checkout and memory of each process.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from itertools import count
from statistics import median
from urllib.request import ProxyHandler, build_opener

import uvloop

from benchmarks import client
from benchmarks.figures.checkout import CheckoutFigures
from benchmarks.payments import CLIENTS, KEY, durability, requests
from benchmarks.stack import say, stack, usage
from infra.runtime import Runtime

SERVICES = ("postgres", "sim-bank", "payments-api", "payments-relay", "payments-resolver", "kafka", "checkout-api")
PROCESSES = ("checkout-api", "payments-api", "sim-bank", "postgres")


def checkouts(host: str, port: int, run: str) -> Iterator[bytes]:
    """Prepared POST /v1/checkouts, each with a key, a reference and a token of its own."""
    for payment in requests(host, port, run):
        yield payment.replace(b"POST /v1/payments ", b"POST /v1/checkouts ", 1)


def reads(host: str, port: int, identity: str) -> Iterator[bytes]:
    """GET of one checkout, again and again."""
    request = f"GET /v1/checkouts/{identity} HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {KEY}\r\n\r\n"
    for _ in count():
        yield request.encode()


async def one_checkout(host: str, port: int) -> str:
    """Pay one, and return its id."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(next(checkouts(host, port, "one")))
    answer = await reader.readuntil(b"}")
    writer.close()
    found = re.search(rb'"id":"(chk_[a-z0-9]+)"', answer)
    if found is None:
        raise RuntimeError(f"no checkout was made: {answer[:200]!r}")
    return found[1].decode()


def samples(runtime: Runtime, name: str) -> float:
    """Sum of a metric of checkout over its labels."""
    host, port = runtime.address("checkout-api")
    with build_opener(ProxyHandler({})).open(f"http://{host}:{port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if re.match(rf"{name}[{{ ]", line))


async def measure_saturation(runtime: Runtime, figures: CheckoutFigures, *, rounds: int, seconds: int) -> None:
    """A B A B: payments directly, then through checkout."""
    direct, till = runtime.address("payments-api"), runtime.address("checkout-api")
    await client.closed_loop(*till, checkouts(*till, "warm"), connections=CLIENTS, seconds=4)
    spent = dict.fromkeys(PROCESSES, 0.0)
    done = 0
    for number in range(rounds):
        result = await client.closed_loop(
            *direct, requests(*direct, f"a{number}"), connections=CLIENTS, seconds=seconds
        )
        figures.direct_per_second.append(round(result.per_second(201), 1))
        say(f"A{number + 1}  payments directly      {result.per_second(201):8.0f}/s   {dict(result.statuses)}")
        before = usage(runtime, PROCESSES)
        result = await client.closed_loop(*till, checkouts(*till, f"b{number}"), connections=CLIENTS, seconds=seconds)
        after = usage(runtime, PROCESSES)
        for name in before:
            spent[name] += after[name].cpu_seconds - before[name].cpu_seconds
        done += result.statuses[201]
        figures.checkouts_per_second.append(round(result.per_second(201), 1))
        say(f"B{number + 1}  through checkout       {result.per_second(201):8.0f}/s   {dict(result.statuses)}")
    figures.ratio = round(median(figures.checkouts_per_second) / median(figures.direct_per_second), 3)
    figures.cpu_ms_per_checkout = {name: round(1000 * spent[name] / max(done, 1), 2) for name in PROCESSES}


async def measure_half(runtime: Runtime, figures: CheckoutFigures, *, seconds: int) -> None:
    """Latency from the intended send time at half of saturation."""
    till = runtime.address("checkout-api")
    rate = median(figures.checkouts_per_second) / 2
    result = await client.open_loop(*till, checkouts(*till, "half"), rate=rate, seconds=seconds, seed=42)
    figures.rate_at_half = round(rate, 1)
    figures.p50_ms_at_half = round(result.percentile_ms(50), 1)
    figures.p99_ms_at_half = round(result.percentile_ms(99), 1)
    say(f"at half of saturation ({rate:.0f}/s): p50 {figures.p50_ms_at_half} ms, p99 {figures.p99_ms_at_half} ms")


async def measure_reads(runtime: Runtime, figures: CheckoutFigures, *, seconds: int) -> None:
    """Reads in a closed loop: a saturated server makes all of them slow, and hedges must not add to it."""
    till = runtime.address("checkout-api")
    identity = await one_checkout(*till)
    result = await client.closed_loop(*till, reads(*till, identity), connections=CLIENTS, seconds=seconds)
    figures.reads_per_second = round(result.per_second(200), 1)
    figures.hedged_share = round(samples(runtime, "checkout_hedges_total") / max(sum(result.statuses.values()), 1), 4)
    say(f"reads: {figures.reads_per_second:.0f}/s, {figures.hedged_share:.1%} hedged  {dict(result.statuses)}")


async def run(runtime: Runtime, *, rounds: int, seconds: int) -> CheckoutFigures:
    """All measurements in one run."""
    figures = CheckoutFigures(settings=await durability(runtime))
    await measure_saturation(runtime, figures, rounds=rounds, seconds=seconds)
    await measure_half(runtime, figures, seconds=2 * seconds)
    await measure_reads(runtime, figures, seconds=seconds)
    attempts = samples(runtime, "http_client_request_duration_seconds_count")
    figures.retried_share = round(samples(runtime, "http_client_retries_total") / max(attempts, 1), 4)
    figures.memory_mib = {name: round(one.memory_bytes / 2**20, 1) for name, one in usage(runtime, PROCESSES).items()}
    return figures


def main(*, rounds: int, seconds: int) -> CheckoutFigures:
    """Measure everything on a stack of its own."""
    with stack(SERVICES) as runtime:
        return uvloop.run(run(runtime, rounds=rounds, seconds=seconds))
