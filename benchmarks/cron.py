"""Ten thousand jobs due at one minute: with jitter to HTTP, without to Kafka; a day of outage, per policy; changes of leader.

Lateness is measured where the effect arrives, against the jittered instant in the audit. The HTTP target is a bare server in
this process, so that the scheduler is what is measured; Kafka is the real broker.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import asyncpg
import httptools
import uvloop

from benchmarks.figures.cron import JITTER_SECONDS, LEASE_SECONDS, OUTAGE_JOBS, CatchUp, CronFigures
from benchmarks.payments import url
from benchmarks.stack import LAB_PREFIX, Usage, say, stack, usage
from infra.runtime import Runtime

SCHEDULERS = ("cron-scheduler-1", "cron-scheduler-2", "cron-scheduler-3")
SERVICES = ("postgres", "kafka", "kafka-topics", "cron-migrate", "cron-api", *SCHEDULERS)
PROCESSES = ("cron-api", *SCHEDULERS, "postgres", "kafka")
TOPIC = "cron.run.v1"
JOBS = 10_000
CHANGES = 3

POLICIES: Mapping[str, tuple[str, int]] = {"skip": ("skip", 1), "once": ("once", 1), "all, cap 100": ("all", 100)}


class Receiver(asyncio.Protocol):
    """Answers 200 to every POST and notes when which run came."""

    ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}"

    def __init__(self, arrivals: dict[str, float]) -> None:
        self._arrivals = arrivals
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"cron-scheduled-for":
            self._instant = value
        elif name.lower() == b"cron-job-id":
            self._job = value

    def on_message_complete(self) -> None:
        self._arrivals.setdefault((self._job + b" " + self._instant).decode(), time.time())
        if self._transport is not None:
            self._transport.write(self.ANSWER)


_INSERT = """
INSERT INTO jobs (id, tenant_id, name, cron, zone, target_url, target_topic, target_body, misfire_policy, misfire_cap,
                  concurrency, jitter_seconds, retries, timeout_seconds, enabled, next_at, created_at, updated_at)
SELECT gen_random_uuid(), 'ten_demo', 'bench-' || n, $2, 'UTC', $3, $4, '{"hello": "world"}', $5, $6, 'allow', $7, 0, 15, true,
       $8, now(), now()
FROM generate_series(1, $1) AS n
"""
_OPEN = """
SELECT (SELECT count(*) FROM jobs WHERE next_at <= now()) + (SELECT count(*) FROM runs WHERE state IN ('waiting', 'firing'))
"""


@dataclass(slots=True)
class Bench:
    """One database, one receiver."""

    runtime: Runtime
    db: asyncpg.Connection[asyncpg.Record]
    receiver_url: str
    arrivals: dict[str, float]

    async def clear(self) -> None:
        """No jobs, no runs."""
        await self.db.execute("TRUNCATE runs, jobs")
        await self.db.execute("VACUUM ANALYZE runs, jobs")
        self.arrivals.clear()

    async def insert(
        self, jobs: int, cron: str, due: datetime, *, kafka: bool = False, policy: tuple[str, int] = ("once", 1),
        jitter: int = 0,
    ) -> None:  # fmt: skip
        """Jobs that are due at `due` and then as `cron` says."""
        target = (None, TOPIC) if kafka else (self.receiver_url, None)
        await self.db.execute(_INSERT, jobs, cron, *target, *policy, jitter, due)

    async def settled(self, within: float) -> None:
        """Until nothing is due, waits or is fired. Raises RuntimeError after `within` seconds."""
        give_up = time.monotonic() + within
        while open_ := await self.db.fetchval(_OPEN):
            if time.monotonic() > give_up:
                raise RuntimeError(f"{open_} jobs or runs are still open after {within:.0f} s")
            await asyncio.sleep(0.05)

    async def next_minute(self) -> datetime:
        """A whole minute, at least 10 s away, by the database's clock."""
        found: datetime = await self.db.fetchval("SELECT date_trunc('minute', now() + interval '70 seconds')")
        return found

    async def states(self) -> dict[str, int]:
        """Instants by state."""
        rows = await self.db.fetch("SELECT state, sum(covers)::int AS n FROM runs GROUP BY state ORDER BY state")
        return {row["state"]: row["n"] for row in rows}


def hourly(instant: datetime) -> str:
    """A cron expression for this minute of each hour: due once while this runs."""
    return f"{instant.minute} * * * *"


async def measure_jitter(bench: Bench, figures: CronFigures) -> None:
    """10,000 HTTP jobs at one minute, spread by their jitter."""
    due = await bench.next_minute()
    await bench.insert(JOBS, hourly(due), due, jitter=JITTER_SECONDS)
    say(f"{JOBS} jobs are due at {due:%H:%M:%S} UTC, jitter {JITTER_SECONDS} s, target HTTP")
    await asyncio.sleep(max(0.0, due.timestamp() - time.time() - 0.5))
    before = usage(bench.runtime, PROCESSES)
    await asyncio.sleep(1)
    await bench.settled(JITTER_SECONDS + 60)
    spent = cpu_since(bench.runtime, before)
    late = await lateness(bench)
    figures.jitter_fired = len(late)
    figures.jitter_p50_seconds, figures.jitter_p99_seconds = percentile(late, 50), percentile(late, 99)
    figures.jitter_max_seconds = round(late[-1], 3)
    figures.jitter_cpu_ms_per_run = {name: round(1000 * seconds / JOBS, 2) for name, seconds in spent.items()}
    figures.bytes_per_run = await bench.db.fetchval("SELECT pg_total_relation_size('runs')") // JOBS
    say(f"fired {len(late)}; lateness p50 {figures.jitter_p50_seconds} s, p99 {figures.jitter_p99_seconds} s")


async def lateness(bench: Bench) -> list[float]:
    """From the jittered instant to the arrival at the target, sorted, in seconds; negative would be early."""
    found = []
    for row in await bench.db.fetch("SELECT job_id, scheduled_for, due_at FROM runs WHERE state IN ('fired', 'late')"):
        key = f"{job_text(row['job_id'].int)} {row['scheduled_for']:%Y-%m-%dT%H:%M:%SZ}"
        found.append(bench.arrivals[key] - row["due_at"].timestamp())
    if found and min(found) < 0:
        raise RuntimeError("a job was fired early")
    return sorted(found)


def job_text(number: int) -> str:
    """A TypeID, written here anew: a benchmark measures from outside."""
    alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
    return "job_" + "".join(alphabet[number >> shift & 31] for shift in range(125, -1, -5))


def percentile(ordered: list[float], share: int) -> float:
    return round(ordered[min(len(ordered) - 1, len(ordered) * share // 100)], 3)


def cpu_since(runtime: Runtime, before: Mapping[str, Usage]) -> dict[str, float]:
    """CPU seconds per process."""
    after = usage(runtime, PROCESSES)
    return {name: one.cpu_seconds - before[name].cpu_seconds for name, one in after.items() if name in before}


async def measure_kafka(bench: Bench, figures: CronFigures) -> None:
    """10,000 Kafka jobs at one minute, all at once."""
    due = await bench.next_minute()
    await bench.insert(JOBS, hourly(due), due, kafka=True)
    say(f"{JOBS} jobs are due at {due:%H:%M:%S} UTC, no jitter, target Kafka")
    await asyncio.sleep(max(0.0, due.timestamp() - time.time() + 0.2))
    await bench.settled(120)
    row = await bench.db.fetchrow(
        "SELECT count(*) AS n, max(finished_at) AS last FROM runs WHERE state IN ('fired', 'late')"
    )
    assert row is not None
    figures.kafka_fired = row["n"]
    figures.kafka_drain_seconds = round((row["last"] - due).total_seconds(), 2)
    figures.kafka_per_second = round(row["n"] / figures.kafka_drain_seconds)
    say(f"drained {row['n']} in {figures.kafka_drain_seconds} s = {figures.kafka_per_second}/s")


async def measure_outage(bench: Bench, figures: CronFigures, name: str) -> None:
    """Jobs of each minute that nobody looked at for a day."""
    now: datetime = await bench.db.fetchval("SELECT date_trunc('minute', now())")
    started = time.monotonic()
    await bench.insert(
        OUTAGE_JOBS, "* * * * *", now.fromtimestamp(now.timestamp() - 86_400, UTC), policy=POLICIES[name]
    )
    await bench.settled(120)
    seconds = round(time.monotonic() - started, 1)
    states = await bench.states()
    figures.catch_up[name] = CatchUp(accounted=sum(states.values()), states=states, seconds=seconds)
    say(f"outage of 24 h, {OUTAGE_JOBS} jobs a minute, {name}: {seconds} s, {states}")


async def change_of_leader(bench: Bench, *, kill: bool) -> float:
    """Stop the leader, in order or by SIGKILL; seconds from the signal until the next one has the lease."""
    before = await bench.db.fetchrow(
        "SELECT node, epoch, clock_timestamp() AS now FROM leases WHERE expires_at > now()"
    )
    if before is None:
        raise RuntimeError("no scheduler leads")
    change = bench.runtime.kill if kill else bench.runtime.stop
    stopping = asyncio.create_task(asyncio.to_thread(change, before["node"]))
    give_up = time.monotonic() + 30
    while not (after := await bench.db.fetchval("SELECT acquired_at FROM leases WHERE epoch > $1", before["epoch"])):
        if time.monotonic() > give_up:
            raise RuntimeError("nobody followed the leader within 30 s")
        await asyncio.sleep(0.01)
    await stopping
    await asyncio.to_thread(bench.runtime.start, before["node"])
    seconds: float = (after - before["now"]).total_seconds()
    return round(seconds, 2)


async def measure_changes(bench: Bench, figures: CronFigures) -> None:
    """SIGTERM and SIGKILL to the leader, in turns."""
    for _ in range(CHANGES):
        figures.handover_seconds.append(await change_of_leader(bench, kill=False))
        figures.failover_seconds.append(await change_of_leader(bench, kill=True))
    say(
        f"handover {figures.handover_seconds} s, failover {figures.failover_seconds} s with a lease of {LEASE_SECONDS} s"
    )


async def run(runtime: Runtime) -> CronFigures:
    """All measurements in one run."""
    figures = CronFigures(jobs=JOBS)
    arrivals: dict[str, float] = {}
    server = await asyncio.get_running_loop().create_server(lambda: Receiver(arrivals), "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/effects"
    db = await asyncpg.connect(url(runtime, LAB_PREFIX + "cron"))
    bench = Bench(runtime, db, address, arrivals)
    try:
        await measure_jitter(bench, figures)
        figures.memory_mib = {
            name: round(one.memory_bytes / 2**20, 1) for name, one in usage(runtime, PROCESSES).items()
        }
        await bench.clear()
        await measure_kafka(bench, figures)
        for name in POLICIES:
            await bench.clear()
            await measure_outage(bench, figures, name)
        await measure_changes(bench, figures)
    finally:
        await db.close()
        server.close()
    return figures


def main(*, rounds: int, seconds: int) -> CronFigures:
    """Measure everything on a stack of its own. Its lengths are those of minutes and leases, whatever is asked for."""
    del rounds, seconds
    with stack(SERVICES, {"CRON_LEASE_SECONDS": str(LEASE_SECONDS)}) as runtime:
        return uvloop.run(run(runtime))
