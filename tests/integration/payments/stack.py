"""The payments system as real processes on databases and topics of its own."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import asyncpg
import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from infra.native.free_ports import free_ports
from services.contracts import topics
from services.kit.settings import ProcessSettings
from services.payments.settings import PaymentsSettings
from tests.servers import ROOT, PostgresServer

BANK_KEY = "lab-only-test-bank-key"
WEBHOOK_SECRET = "lab-only-test-webhook-secret"
MERCHANT = {"Authorization": "Bearer lab_demo_merchant_key"}
OTHER_MERCHANT = {"Authorization": "Bearer lab_other_merchant_key"}

T = TypeVar("T")


def client() -> aiohttp.ClientSession:
    """A session for one test or one call."""
    return aiohttp.ClientSession(
        trust_env=False, timeout=aiohttp.ClientTimeout(total=30), connector=aiohttp.TCPConnector(limit=0)
    )


async def until(
    condition: Callable[[], Awaitable[T | None]], *, within: float = 30.0, what: str = "the condition"
) -> T:
    """Ask again and again until the answer is truthy; fail after a bound."""
    deadline = time.monotonic() + within
    while True:
        answer = await condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come within {within} s; last answer: {answer!r}")
        await asyncio.sleep(0.05)


@dataclass
class Process:
    """One of our processes. `port` serves its API, health, metrics and failpoints."""

    role: str
    port: int
    popen: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait(10)

    def terminate(self) -> int:
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(20)


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes
    json: Any


@dataclass
class Stack:
    """Call `migrate`, then `start` what a test needs. Everything started is stopped by `stop`."""

    postgres: PostgresServer
    bootstrap: str = "127.0.0.1:1"
    prefix: str = field(default_factory=lambda: f"t{secrets.token_hex(4)}_")
    extra: dict[str, str] = field(default_factory=dict)
    processes: list[Process] = field(default_factory=list)
    ports: dict[str, int] = field(default_factory=dict)
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="payments-test-")))

    def __post_init__(self) -> None:
        names = ("bank", "api")
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))

    @property
    def database(self) -> str:
        return f"{self.prefix}payments"

    @property
    def topic(self) -> str:
        return self.prefix + topics.PAYMENT_EVENTS.name

    @property
    def app_url(self) -> str:
        return self.postgres.url(self.database, "payments_app", "lab-only-test")

    def environment(self) -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PAYMENTS_", "LAB_"))},
            "PYTHONPATH": str(ROOT),
            "LAB_PROFILE": "1",
            "LAB_PREFIX": self.prefix,
            "HTTP_HOST": "127.0.0.1",
            "PAYMENTS_ADMIN_DATABASE_URL": self.postgres.url(self.database),
            "PAYMENTS_DATABASE_URL": self.app_url,
            "PAYMENTS_BANK_URL": f"http://127.0.0.1:{self.ports['bank']}",
            "PAYMENTS_BANK_API_KEY": BANK_KEY,
            "PAYMENTS_BANK_WEBHOOK_SECRET": WEBHOOK_SECRET,
            "PAYMENTS_KAFKA_BOOTSTRAP": self.bootstrap,
            "SIM_BANK_DATABASE_URL": self.postgres.url(f"{self.prefix}bank"),
            "SIM_BANK_API_KEY": BANK_KEY,
            "SIM_BANK_WEBHOOK_SECRET": WEBHOOK_SECRET,
            "SIM_BANK_WEBHOOK_URL": f"http://127.0.0.1:{self.ports['api']}/v1/bank-events",
            **self.extra,
        }

    def settings(self, **changes: Any) -> PaymentsSettings:
        """For parts that run inside the test's own process."""
        values = {
            "database_url": self.app_url,
            "bank_url": f"http://127.0.0.1:{self.ports['bank']}",
            "bank_api_key": BANK_KEY,
            "bank_webhook_secret": WEBHOOK_SECRET,
            "kafka_bootstrap": self.bootstrap,
        }
        return PaymentsSettings(**(values | changes))

    def process_settings(self) -> ProcessSettings:
        return ProcessSettings(lab_profile=True, lab_prefix=self.prefix, http_port=1)

    async def migrate(self) -> None:
        run = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.payments", "migrate", env=self.environment(), stdout=subprocess.DEVNULL
        )
        assert await run.wait() == 0

    async def start(self, role: str, *, failpoints: str = "", environment: Mapping[str, str] | None = None) -> Process:
        """Start `bank`, `api`, `relay`, `resolver` or `reconciler` and wait until it is ready."""
        module = ["services.simulators.bank"] if role == "bank" else ["services.payments", role]
        port = self.ports[role] if role in self.ports else free_ports(1)[0]
        log = self.folder / f"{role}-{len(self.processes)}.log"
        with log.open("wb") as out:
            popen = subprocess.Popen(  # noqa: ASYNC220  # outlives the event loop that starts it
                [sys.executable, "-m", *module],
                env={**self.environment(), "HTTP_PORT": str(port), "LAB_FAILPOINTS": failpoints, **(environment or {})},
                stdout=out,
                stderr=out,
                cwd=ROOT,
            )
        process = Process(role, port, popen, log)
        self.processes.append(process)
        await until(lambda: self._ready(process), what=f"{role} ready")
        return process

    async def _ready(self, process: Process) -> bool:
        if process.popen.poll() is not None:
            raise AssertionError(f"{process.role} ended:\n{process.log.read_text()[-3000:]}")
        try:
            async with client() as session, session.get(f"{process.url}/health/ready") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    async def died(self, process: Process) -> bool:
        return process.popen.poll() is not None

    def stop(self) -> None:
        for process in self.processes:
            if process.popen.poll() is None:
                process.popen.send_signal(signal.SIGCONT)
                process.popen.kill()
            process.popen.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)

    async def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        data: bytes | None = None,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        merchant: Mapping[str, str] = MERCHANT,
        session: aiohttp.ClientSession | None = None,
    ) -> Answer:
        """One request to the API. Raises aiohttp's errors, as when the process dies under it."""
        sent = {**merchant, **({"Idempotency-Key": key} if key is not None else {}), **(headers or {})}
        url = f"http://127.0.0.1:{self.ports['api']}{path}"
        if json is not None:
            data = msgspec.json.encode(json)
            sent.setdefault("Content-Type", "application/json")
        async with (
            nullcontext(session) if session is not None else client() as used,
            used.request(method, url, data=data, headers=sent, skip_auto_headers=("Content-Type",)) as got,
        ):
            body = await got.read()
            decoded = msgspec.json.decode(body) if body else None
            return Answer(got.status, got.headers, body, decoded)

    async def pay(
        self, reference: str, *, key: str | None = None, session: aiohttp.ClientSession | None = None, **changes: Any
    ) -> Answer:
        """Create a payment of 10.00 EUR; the card is `tok_<reference>`."""
        body = {"amount": 1000, "currency": "EUR", "source": f"tok_{reference}", "reference": reference} | changes
        return await self.request("POST", "/v1/payments", json=body, key=key or f"key-{reference}", session=session)

    async def arm(self, process: Process, name: str, action: str = "kill", nth: int = 1, seconds: float = 0.0) -> None:
        body = {"action": action, "nth": nth, "seconds": seconds}
        async with client() as session, session.put(f"{process.url}/lab/failpoints/{name}", json=body) as response:
            assert response.status == 204, await response.text()

    async def behave(self, name: str, **parameters: Any) -> None:
        url = f"http://127.0.0.1:{self.ports['bank']}/lab/behaviours/{name}"
        async with client() as session, session.put(url, json=parameters) as response:
            assert response.status in (200, 204), await response.text()

    async def behave_well(self, name: str) -> None:
        async with (
            client() as session,
            session.delete(f"http://127.0.0.1:{self.ports['bank']}/lab/behaviours/{name}") as response,
        ):
            assert response.status in (200, 204)

    async def sql(self, query: str, *arguments: Any, database: str = "payments") -> list[asyncpg.Record]:
        """As the superuser."""
        db = await asyncpg.connect(self.postgres.url(self.prefix + database))
        try:
            return list(await db.fetch(query, *arguments))
        finally:
            await db.close()

    async def captures(self, reference: str) -> int:
        """How many times the bank took money from this card."""
        query = "SELECT count(*) AS n FROM effects e JOIN charges c ON c.id = e.charge_id WHERE c.source = $1 AND e.kind = 'capture'"
        return int((await self.sql(query, f"tok_{reference}", database="bank"))[0]["n"])

    async def create_topics(self) -> None:
        await topics.create(self.bootstrap, self.prefix)

    async def events(self) -> list[tuple[str, str, Any]]:
        """All events on the topic: (payment, type, id), in order per partition."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap, enable_auto_commit=False, auto_offset_reset="earliest"
        )
        await consumer.start()
        try:
            partitions = [TopicPartition(self.topic, n) for n in range(topics.PAYMENT_EVENTS.partitions)]
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            found = []
            while any([await consumer.position(each) < ends[each] for each in partitions]):
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    for record in records:
                        heads = {name: value.decode() for name, value in record.headers if value is not None}
                        found.append(((record.key or b"").decode(), heads["ce_type"], heads["ce_id"]))
            return found
        finally:
            await consumer.stop()
