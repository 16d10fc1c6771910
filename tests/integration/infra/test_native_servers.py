"""The native runtime with the real Postgres, Kafka, Redis, Prometheus and Toxiproxy of docker-compose.yml."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from infra.native import procfs
from infra.native.compose import ComposeFile
from infra.native.recipes.base import accessible_by
from infra.native.runtime import NativeRuntime
from infra.native.state import remove_tree
from services.kit import kafka
from tests.integration.infra.stack import REPOSITORY, Scratch, eventually, free_low_ports, row
from tests.records import some

pytestmark = pytest.mark.integration


def checkout_with_servers(root: Path) -> Scratch:
    """The repository's own compose file, every port moved to a free one by .env."""
    shutil.copy(REPOSITORY / "docker-compose.yml", root)
    names = [
        name
        for name in ComposeFile(root / "docker-compose.yml").resolve({}).variables
        if name.endswith("_PORT") or "_PORT_" in name
    ]
    ports = free_low_ports(names)
    (root / ".env").write_text("".join(f"{name}={port}\n" for name, port in ports.items()))
    return Scratch(root, ports)


@pytest.fixture
def servers() -> Iterator[Scratch]:
    root = Path(tempfile.mkdtemp(prefix="lab-servers-"))
    root.chmod(0o755)
    checkout = checkout_with_servers(root)
    try:
        yield checkout
    finally:
        checkout.clear()
        left = checkout.kill_leftovers()
        for folder in root.glob(".lab/projects/*/data/*"):
            remove_tree(folder)
        shutil.rmtree(root)
    assert left == []


def postgres_url(runtime: NativeRuntime) -> str:
    host, port = runtime.address("postgres")
    return f"postgresql://postgres:{runtime.variable('POSTGRES_PASSWORD')}@{host}:{port}/postgres"


async def write_row(runtime: NativeRuntime, number: int) -> None:
    connection = await asyncpg.connect(postgres_url(runtime))
    try:
        await connection.execute("create table if not exists kept (number int)")
        await connection.execute("insert into kept values ($1)", number)
    finally:
        await connection.close()


async def rows(runtime: NativeRuntime) -> list[int]:
    connection = await asyncpg.connect(postgres_url(runtime))
    try:
        return [record["number"] for record in await connection.fetch("select number from kept order by number")]
    finally:
        await connection.close()


async def create_topic(bootstrap: str, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()


async def produce(bootstrap: str, topic: str, messages: list[bytes]) -> None:
    async with kafka.running(AIOKafkaProducer(bootstrap_servers=bootstrap)) as producer:
        for message in messages:
            await producer.send_and_wait(topic, message)


async def consume(bootstrap: str, topic: str, count: int) -> list[bytes]:
    return [record.value or b"" for record in await some(bootstrap, topic, count)]


async def test_a_killed_postgres_leaves_no_backend_and_keeps_what_was_committed(servers: Scratch) -> None:
    runtime = servers.runtime()
    await asyncio.to_thread(runtime.up, ["postgres"])
    await write_row(runtime, 1)
    busy = await asyncpg.connect(postgres_url(runtime))
    sleeping = asyncio.create_task(busy.execute("select pg_sleep(600)"))
    identity = runtime.identity("postgres")
    assert identity is not None
    members = procfs.tree(identity.pid)
    assert len(members) >= 5

    died = await asyncio.to_thread(runtime.kill, "postgres")

    assert died == identity
    assert [stat.pid for stat in members if (now := procfs.read_stat(stat.pid)) is not None and now.alive] == []
    with pytest.raises((asyncpg.PostgresConnectionError, ConnectionError)):
        await sleeping
    busy.terminate()
    await asyncio.to_thread(runtime.start, "postgres")
    assert await rows(runtime) == [1]


async def test_a_paused_postgres_answers_nobody_until_it_is_resumed(servers: Scratch) -> None:
    runtime = servers.runtime()
    await asyncio.to_thread(runtime.up, ["postgres"])
    await write_row(runtime, 1)
    identity = runtime.pause("postgres")
    assert {stat.state for stat in procfs.tree(identity.pid)} == {"T"}
    assert not await asyncio.to_thread(runtime.healthy, "postgres")
    assert runtime.resume("postgres") == identity
    assert runtime.healthy("postgres")
    assert await rows(runtime) == [1]


@pytest.mark.slow
async def test_kafka_survives_a_half_formatted_folder_a_pause_and_a_kill(servers: Scratch) -> None:
    runtime = servers.runtime()
    data = servers.root / ".lab/projects/dev/data/kafka"
    data.mkdir(parents=True)
    (data / "meta.properties").write_text("version=1\n")
    await asyncio.to_thread(runtime.up, ["kafka"])
    host, port = runtime.address("kafka")
    bootstrap = f"{host}:{port}"
    await create_topic(bootstrap, "kept.v1")
    await produce(bootstrap, "kept.v1", [b"one"])

    frozen = runtime.pause("kafka")
    assert {stat.state for stat in procfs.tree(frozen.pid)} == {"T"}
    assert not await asyncio.to_thread(runtime.healthy, "kafka")
    runtime.resume("kafka")
    assert await asyncio.to_thread(runtime.healthy, "kafka")

    died = await asyncio.to_thread(runtime.kill, "kafka")
    assert died == frozen
    assert procfs.read_stat(died.pid) is None
    await asyncio.to_thread(runtime.start, "kafka")
    await produce(bootstrap, "kept.v1", [b"two"])
    assert await consume(bootstrap, "kept.v1", 2) == [b"one", b"two"]


@pytest.mark.slow
async def test_each_proxied_kafka_client_carries_its_payload_through_its_own_proxy(servers: Scratch) -> None:
    runtime = servers.runtime("lab", edges=True)
    await asyncio.to_thread(runtime.up, ["kafka", "toxiproxy"])
    direct = f"127.0.0.1:{runtime.variable('KAFKA_PORT')}"
    edges = runtime.edges()
    message = os.urandom(100_000)
    await create_topic(direct, "payload.v1")

    await produce(edges["payments.kafka"].listen, "payload.v1", [message] * 3)
    await carried(runtime, "payments.kafka", "upstream", 300_000)
    assert through(runtime, "week02-day2-naive.kafka", "upstream") == 0

    assert await consume(edges["week02-day2-naive.kafka"].listen, "payload.v1", 3) == [message] * 3
    await carried(runtime, "week02-day2-naive.kafka", "downstream", 300_000)
    assert through(runtime, "payments.kafka", "downstream") < 100_000

    before = through(runtime, "payments.kafka", "upstream")
    await produce(direct, "payload.v1", [message])
    assert through(runtime, "payments.kafka", "upstream") == before


async def carried(runtime: NativeRuntime, proxy: str, direction: str, size: int) -> None:
    """Toxiproxy counts a connection a moment after it has closed."""
    await asyncio.to_thread(
        eventually, lambda: through(runtime, proxy, direction) > size, f"{size} bytes through {proxy}"
    )


def through(runtime: NativeRuntime, proxy: str, direction: str) -> float:
    """Bytes that closed connections of a proxy have sent in a direction, as Toxiproxy counts them."""
    connection = http.client.HTTPConnection(*runtime.address("toxiproxy"), timeout=5)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    lines = [
        line
        for line in text.splitlines()
        if line.startswith("toxiproxy_proxy_received_bytes_total")
        and f'proxy="{proxy}"' in line
        and f'"{direction}"' in line
    ]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


async def test_the_small_servers_are_ready_when_up_returns_and_prometheus_finds_the_targets(servers: Scratch) -> None:
    runtime = servers.runtime(edges=True)
    await asyncio.to_thread(runtime.up, ["redis", "prometheus", "toxiproxy"])
    assert {line.state for line in runtime.status()} == {"running"}
    targets = servers.root / ".lab/config/native/prometheus/targets"
    (targets / "ghost.json").write_text(json.dumps([{"targets": ["127.0.0.1:9"], "labels": {"job": "ghost"}}]))
    await asyncio.to_thread(eventually, lambda: "ghost" in active_jobs(runtime), "Prometheus reads the target file")


def active_jobs(runtime: NativeRuntime) -> set[str]:
    connection = http.client.HTTPConnection(*runtime.address("prometheus"), timeout=5)
    try:
        connection.request("GET", "/api/v1/targets?state=active")
        answer = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    return {target["labels"]["job"] for target in answer["data"]["activeTargets"]}


async def test_every_server_listens_on_loopback_only(servers: Scratch) -> None:
    runtime = servers.runtime(edges=True)
    await asyncio.to_thread(runtime.up, ["postgres", "redis", "prometheus", "toxiproxy"])
    for line in runtime.status():
        assert line.pid is not None
        for pid in [stat.pid for stat in procfs.tree(line.pid)]:
            for address in listening(pid):
                assert address == "127.0.0.1", line.service


def listening(pid: int) -> list[str]:
    import psutil

    return [
        connection.laddr.ip
        for connection in psutil.Process(pid).net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN and connection.laddr
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs Postgres as another user")
async def test_postgres_data_goes_to_var_lib_when_its_user_cannot_reach_the_checkout(servers: Scratch) -> None:
    servers.root.chmod(0o700)
    assert not accessible_by("postgres", servers.root / "x")
    runtime = servers.runtime()
    await asyncio.to_thread(runtime.up, ["postgres"])
    await write_row(runtime, 7)
    link = servers.root / ".lab/projects/dev/data/postgres"
    assert link.is_symlink()
    assert str(link.readlink()).startswith("/var/lib/lab-")
    await asyncio.to_thread(runtime.restart, "postgres")
    assert await rows(runtime) == [7]
    assert row(runtime, "postgres").state == "running"
