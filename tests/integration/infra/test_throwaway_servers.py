from __future__ import annotations

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from redis.asyncio import Redis

from services.kit import kafka
from tests.records import some
from tests.servers import KafkaServer, PostgresServer, RedisServer, on_docker

pytestmark = pytest.mark.integration


async def test_postgres_takes_a_password_and_keeps_its_durability_settings_on(postgres_server: PostgresServer) -> None:
    connection = await asyncpg.connect(postgres_server.admin_url)
    try:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert await connection.fetchval("select current_setting($1)", setting) == "on"
        listens = await connection.fetchval("select current_setting('listen_addresses')")
        assert listens == ("*" if on_docker() else "127.0.0.1")  # a container's port is published on loopback only
    finally:
        await connection.close()


async def test_postgres_refuses_a_wrong_password(postgres_server: PostgresServer) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(postgres_server.url("postgres", password="wrong"))


async def test_kafka_carries_a_message(kafka_server: KafkaServer) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_server.bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic("carried.v1", num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()
    async with kafka.running(AIOKafkaProducer(bootstrap_servers=kafka_server.bootstrap)) as producer:
        await producer.send_and_wait("carried.v1", b"payload")
    (record,) = await some(kafka_server.bootstrap, "carried.v1")
    assert record.value == b"payload"


async def test_redis_answers(redis_server: RedisServer) -> None:
    async with Redis.from_url(redis_server.url) as client:
        assert await client.ping()
