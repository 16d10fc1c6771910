"""A lean HTTP/1.1 client for benchmarks, so that on two cores the generator is not what is measured.

Keep-alive connections, no pipelining, prepared request bytes, answers parsed by httptools. Closed loop finds saturation;
open loop measures latency from the *intended* send time (coordinated omission: Gil Tene, "How NOT to Measure Latency").
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import monotonic
from typing import cast

import httptools
from hdrh.histogram import HdrHistogram

MICROSECONDS = 1_000_000
LONGEST_SECONDS = 60


@dataclass(slots=True)
class Result:
    """What came back: `statuses` by HTTP status (0: the connection was lost), latencies in microseconds."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: HdrHistogram = field(default_factory=lambda: HdrHistogram(1, LONGEST_SECONDS * MICROSECONDS, 3))

    def add(self, status: int, seconds: float) -> None:
        """Count one answer."""
        self.statuses[status] += 1
        self.latencies.record_value(min(max(int(seconds * MICROSECONDS), 1), LONGEST_SECONDS * MICROSECONDS))

    def per_second(self, status: int) -> float:
        """Answers of this status per second of the run."""
        return self.statuses[status] / self.seconds if self.seconds else 0.0

    def percentile_ms(self, percentile: float) -> float:
        """Latency percentile in milliseconds."""
        return float(self.latencies.get_value_at_percentile(percentile)) / 1000


class Connection(asyncio.Protocol):
    """One request at a time; `done(status)` is called when its answer is complete."""

    def __init__(self) -> None:
        self.done: Callable[[int], None] = lambda _: None
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._parser is not None:
            self._parser = None
            self.done(0)

    def data_received(self, data: bytes) -> None:
        if self._parser is not None:
            self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        assert self._parser is not None
        status = self._parser.get_status_code()
        self._parser = None
        self.done(status)

    def send(self, request: bytes) -> None:
        """Begin a request."""
        self._parser = httptools.HttpResponseParser(self)
        if self._transport is None:
            self._parser = None
            self.done(0)
        else:
            self._transport.write(request)

    def close(self) -> None:
        """Hang up."""
        self._parser = None
        if self._transport is not None:
            self._transport.close()


async def _connect(host: str, port: int, count: int) -> list[Connection]:
    loop = asyncio.get_running_loop()
    pairs = [await loop.create_connection(Connection, host, port) for _ in range(count)]
    return [protocol for _, protocol in pairs]


async def closed_loop(host: str, port: int, requests: Iterator[bytes], *, connections: int, seconds: float) -> Result:
    """Each connection sends its next request when the last was answered; answers after `seconds` do not count."""
    result = Result()
    pool = await _connect(host, port, connections)
    start = monotonic()
    end = start + seconds

    def begin(connection: Connection) -> None:
        sent = monotonic()
        if sent >= end:
            return

        def answered(status: int) -> None:
            now = monotonic()
            if now <= end:
                result.add(status, now - sent)
            if status != 0:
                begin(connection)

        connection.done = answered
        connection.send(next(requests))

    for connection in pool:
        begin(connection)
    await asyncio.sleep(seconds + 0.5)
    for connection in pool:
        connection.close()
    result.seconds = seconds
    return result


async def open_loop(
    host: str, port: int, requests: Iterator[bytes], *, rate: float, seconds: float, seed: int, connections: int = 128
) -> Result:
    """Poisson arrivals of `rate` per second; an arrival that finds no idle connection waits, and the wait counts."""
    result = Result()
    draw = random.Random(seed)
    idle = deque(await _connect(host, port, connections))
    everyone = list(idle)
    waiting: deque[float] = deque()
    in_flight = 0

    def begin(connection: Connection, intended: float) -> None:
        nonlocal in_flight
        in_flight += 1

        def answered(status: int) -> None:
            nonlocal in_flight
            in_flight -= 1
            result.add(status, monotonic() - intended)
            if waiting:
                begin(connection, waiting.popleft())
            else:
                idle.append(connection)

        connection.done = answered
        connection.send(next(requests))

    start = monotonic()
    arrival = start
    while True:
        arrival += draw.expovariate(rate)
        if arrival > start + seconds:
            break
        if (pause := arrival - monotonic()) > 0:
            await asyncio.sleep(pause)
        if idle:
            begin(idle.popleft(), arrival)
        else:
            waiting.append(arrival)
    result.seconds = seconds
    give_up = monotonic() + 10
    while (in_flight or waiting) and monotonic() < give_up:
        await asyncio.sleep(0.05)
    result.statuses[0] += in_flight + len(waiting)
    for connection in everyone:
        connection.close()
    return result
