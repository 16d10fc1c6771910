"""Payments per second from HTTP to durable *and* charged, beside pgbench running the whole flow's statements and commits.

Both alternate (A B A B) in one run on the same server. Then: latency at half of saturation, CPU per payment and memory of
each process, the relay's drain after an outage, the reconciler on 100,000 rows.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from statistics import median

import asyncpg
import uvloop
from pydantic import SecretStr

from benchmarks import client, pgbench, reconciliation
from benchmarks.figures.payments import PaymentsFigures
from benchmarks.stack import LAB_PREFIX, Usage, say, stack, usage
from infra.runtime import Runtime
from services.payments import migrate
from services.payments import store as payments_store
from services.payments.settings import MigrateSettings
from services.simulators.bank import store as bank_store

SERVICES = (
    "postgres",
    "kafka",
    "sim-bank",
    "payments-api",
    "payments-relay",
    "payments-resolver",
    "payments-reconciler",
)
PROCESSES = ("payments-api", "payments-relay", "payments-resolver", "payments-reconciler", "sim-bank", "postgres")
KEY = "lab_demo_merchant_key"
LIMIT_DATABASE = "limit_payments"
RECONCILED_DATABASE = "reconciled_payments"
CLIENTS = 16
"""Connections of pgbench and of the closed loop: both saturate two cores; more only queue."""


def requests(host: str, port: int, run: str) -> Iterator[bytes]:
    """Prepared POST /v1/payments, each with a key, a reference and a token of its own."""
    for number in count():
        body = json.dumps(
            {
                "amount": 1000 + number % 9000,
                "currency": "EUR",
                "source": f"tok_{run}-{number}",
                "reference": f"{run}-{number}",
            }
        ).encode()
        yield (
            f"POST /v1/payments HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {KEY}\r\n"
            f"Idempotency-Key: {run}-{number}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body


def flow() -> Sequence[pgbench.Statement]:
    """What one automatic-capture payment writes: two statements here and one at the bank, three commits."""
    payment, operation = "lpad(to_hex(:n), 32, '0')::uuid", "lpad(to_hex(:n), 32, 'a')::uuid"
    event, charge, key = "lpad(to_hex(:n), 32, 'b')::uuid", "'ch_' || :n", "'key-' || :n"
    merchant, body = "'merchant_demo'", "decode(repeat('61', 400), 'hex')"
    begin = pgbench.Statement(
        payments_store.BEGIN_PAYMENT,
        [merchant, key, "decode(repeat('61', 32), 'hex')", payment, operation, "now()", "now() + interval '1 day'",
         "'ref-' || :n", "'tok_' || :n", "1000", "'EUR'", "true", "NULL", "'op_' || :n", "5", "NULL",
         "'{}'"],
    )  # fmt: skip
    one = "ARRAY[{}]::{}[]".format
    bank = pgbench.Statement(
        bank_store.WRITE_CHARGES,
        [one(charge, "text"), one("'op_' || :n", "text"), one("repeat('f', 64)", "text"), one("'tok_' || :n", "text"),
         one("1000", "bigint"), one("'EUR'", "text"), one("'captured'", "text"), one("1000", "bigint"),
         one("now()", "timestamptz"), one("repeat('a', 200)", "text"), one("NULL", "text"), one("NULL", "smallint"),
         one("", "timestamptz"), *[one("", "text")] * 5, one("", "smallint")],
    )  # fmt: skip
    finish = pgbench.Statement(
        payments_store.FINISH,
        [operation, "'succeeded'", charge, "NULL", "now()", payment, "'captured'", "1000", "0", charge, "NULL", "NULL",
         "1", "now()", "0", "'capture'", "'EUR'", f"ARRAY['bank', 'merchant:' || {merchant}]",
         "ARRAY[1000, -1000]::bigint[]", "'payments.payment.captured'", event, body, "NULL", merchant, key,
         "201::smallint", body],
    )  # fmt: skip
    return begin, bank, finish


def url(runtime: Runtime, database: str) -> str:
    """A superuser's URL of a database of this project."""
    host, port = runtime.address("postgres")
    return f"postgresql://postgres:{runtime.variable('POSTGRES_PASSWORD')}@{host}:{port}/{database}"


async def migrated(runtime: Runtime, database: str) -> str:
    """A fresh payments database beside the service's own; its superuser's URL."""
    admin = url(runtime, database)
    settings = MigrateSettings(
        admin_database_url=SecretStr(admin),
        database_url=SecretStr(admin.replace("//postgres:", f"//{migrate.APP}:")),
    )
    await migrate.migrate(settings, demo_merchants=False)
    return admin


async def measure_reconciler(runtime: Runtime, figures: PaymentsFigures, *, rows: int) -> None:
    """On a database of its own, filled with `rows` captured payments."""
    found = await reconciliation.measure(await migrated(runtime, RECONCILED_DATABASE), rows=rows)
    figures.reconciliation = found
    say(
        f"reconciler: {found.lines} lines in {found.seconds} s; {found.planted} mistakes planted, recall {found.recall:.0%}, {found.false_alarms} false alarms"
    )


async def durability(runtime: Runtime) -> dict[str, str]:
    """The settings without which a commit means nothing. Raises RuntimeError if one is off."""
    connection = await asyncpg.connect(url(runtime, "postgres"))
    try:
        found = {
            name: str(await connection.fetchval(f"SHOW {name}"))
            for name in ("fsync", "synchronous_commit", "full_page_writes", "server_version")
        }
    finally:
        await connection.close()
    if any(found[name] != "on" for name in ("fsync", "synchronous_commit", "full_page_writes")):
        raise RuntimeError(f"durability is switched off, so the figures would mean nothing: {found}")
    return found


async def charged_once(runtime: Runtime) -> int:
    """Captured payments whose source the bank charged exactly once. Raises RuntimeError if the sides disagree."""
    ours = await asyncpg.connect(url(runtime, LAB_PREFIX + "payments"))
    bank = await asyncpg.connect(url(runtime, LAB_PREFIX + "bank"))
    try:
        captured = {row["source"] for row in await ours.fetch("SELECT source FROM payments WHERE status = 'captured'")}
        rows = await bank.fetch(
            "SELECT c.source, count(*) AS times FROM effects e JOIN charges c ON c.id = e.charge_id"
            " WHERE e.kind = 'capture' GROUP BY c.source"
        )
    finally:
        await ours.close()
        await bank.close()
    charged = {row["source"]: row["times"] for row in rows}
    wrong = [source for source in captured if charged.get(source) != 1]
    if wrong:
        raise RuntimeError(f"{len(wrong)} captured payments were not charged exactly once: {wrong[:5]}")
    return len(captured)


async def measure_saturation(runtime: Runtime, figures: PaymentsFigures, *, rounds: int, seconds: int) -> None:
    """A B A B: the limit and the service in turn, on the same server."""
    host, port = runtime.address("payments-api")
    await client.closed_loop(host, port, requests(host, port, "warm"), connections=CLIENTS, seconds=4)
    before: Mapping[str, Usage] = {}
    spent = dict.fromkeys(PROCESSES, 0.0)
    done = 0
    for number in range(rounds):
        limit = await asyncio.to_thread(
            pgbench.flows_per_second, url(runtime, LIMIT_DATABASE), flow(), clients=CLIENTS, seconds=seconds
        )
        figures.limit_per_second.append(round(limit, 1))
        say(f"A{number + 1}  pgbench, whole flow    {limit:8.0f} flows/s")
        before = usage(runtime, PROCESSES)
        result = await client.closed_loop(
            host, port, requests(host, port, f"b{number}"), connections=CLIENTS, seconds=seconds
        )
        after = usage(runtime, PROCESSES)
        for name in before:
            spent[name] += after[name].cpu_seconds - before[name].cpu_seconds
        done += result.statuses[201]
        figures.payments_per_second.append(round(result.per_second(201), 1))
        say(f"B{number + 1}  payments over HTTP     {result.per_second(201):8.0f} payments/s   {dict(result.statuses)}")
    figures.ratio = round(median(figures.payments_per_second) / median(figures.limit_per_second), 3)
    figures.cpu_ms_per_payment = {name: round(1000 * spent[name] / max(done, 1), 2) for name in PROCESSES}


async def measure_half(runtime: Runtime, figures: PaymentsFigures, *, seconds: int) -> None:
    """Latency from the intended send time at half of saturation."""
    host, port = runtime.address("payments-api")
    rate = median(figures.payments_per_second) / 2
    result = await client.open_loop(host, port, requests(host, port, "half"), rate=rate, seconds=seconds, seed=42)
    figures.rate_at_half = round(rate, 1)
    figures.p50_ms_at_half = round(result.percentile_ms(50), 1)
    figures.p99_ms_at_half = round(result.percentile_ms(99), 1)
    figures.memory_mib = {name: round(one.memory_bytes / 2**20, 1) for name, one in usage(runtime, PROCESSES).items()}
    say(
        f"at half of saturation ({rate:.0f}/s): p50 {figures.p50_ms_at_half} ms, p99 {figures.p99_ms_at_half} ms  {dict(result.statuses)}"
    )


async def measure_relay(runtime: Runtime, figures: PaymentsFigures, *, events: int) -> None:
    """With the relay down, copy outbox rows until there are `events`; then start it and time until none is left."""
    await asyncio.to_thread(runtime.stop, "payments-relay")
    connection = await asyncpg.connect(url(runtime, LAB_PREFIX + "payments"))
    try:
        await connection.execute(
            "INSERT INTO outbox (payment_id, sequence, event_id, type, body, created_at)"
            " SELECT gen_random_uuid(), 1, gen_random_uuid(), 'payments.payment.captured', decode(repeat('61', 300), 'hex'), now()"
            " FROM generate_series(1, $1)",
            events,
        )
        await asyncio.to_thread(runtime.start, "payments-relay")
        left = first = int(await connection.fetchval("SELECT count(*) FROM outbox"))
        started, give_up = time.monotonic(), time.monotonic() + 120
        while left and time.monotonic() < give_up:
            await asyncio.sleep(0.05)
            left = int(await connection.fetchval("SELECT count(*) FROM outbox"))
        seconds = time.monotonic() - started
    finally:
        await connection.close()
    if left:
        raise RuntimeError(f"the relay left {left} of {first} events after {seconds:.0f} s")
    figures.relay_events = first
    figures.relay_events_per_second = round(first / seconds)
    say(f"relay: {first} events in {seconds:.1f} s = {first / seconds:.0f} events/s")


async def run(runtime: Runtime, *, rounds: int, seconds: int) -> PaymentsFigures:
    """All measurements in one run."""
    figures = PaymentsFigures(settings=await durability(runtime))
    # One database with the tables of both sides, as their own code makes them.
    await bank_store.prepare_database(await migrated(runtime, LIMIT_DATABASE))
    await measure_saturation(runtime, figures, rounds=rounds, seconds=seconds)
    await measure_half(runtime, figures, seconds=2 * seconds)
    figures.charged_once = await charged_once(runtime)
    say(f"{figures.charged_once} payments are captured here and charged exactly once at the bank")
    await measure_relay(runtime, figures, events=50_000)
    await measure_reconciler(runtime, figures, rows=100_000)
    return figures


def main(*, rounds: int, seconds: int) -> PaymentsFigures:
    """Measure everything on a stack of its own."""
    with stack(SERVICES) as runtime:
        return uvloop.run(run(runtime, rounds=rounds, seconds=seconds))
