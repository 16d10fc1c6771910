"""The exporters of the native runtime against real servers: every metric that a dashboard or a rule asks them for."""

from __future__ import annotations

import asyncio
import dataclasses
import signal
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from prometheus_client.parser import text_string_to_metric_families

from infra.native.compose import ComposeFile
from infra.native.free_ports import free_ports
from tests.contract.test_exporter_metrics import KAFKA, POSTGRES, REDIS
from tests.servers import ROOT, KafkaServer, PostgresServer, RedisServer, on_docker, running, throwaway_kafka

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(on_docker(), reason="native programs; Docker has the official images"),
]

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@contextmanager
def exporter(name: str, variables: dict[str, str]) -> Iterator[int]:
    (port,) = free_ports(1)
    port_variable = name.upper().replace("-", "_") + "_PORT"
    given = {port_variable: str(port), "BIND_HOST": "127.0.0.1", **variables}
    service = ComposeFile(ROOT / "docker-compose.yml").resolve(given).service(name)
    with running(dataclasses.replace(service, depends_on={}), {}, signal.SIGTERM):
        yield port


def scrape(port: int) -> Samples:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        # The parser gives every counter the suffix _total; older exporters have counters without it.
        text = "".join(line for line in answer.read().decode().splitlines(keepends=True) if line[:1] != "#")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def answered(port: int) -> Samples:
    """The first scrape for which Kafka answered: while the broker is slow, the exporter says only that it is away."""
    until = time.monotonic() + 60
    while not (seen := scrape(port))["kafka_brokers", ()] and time.monotonic() < until:
        time.sleep(0.2)
    return seen


def names(samples: Samples) -> set[str]:
    return {name for name, _ in samples}


def test_the_postgres_exporter_has_what_dashboards_and_rules_ask_for(postgres_server: PostgresServer) -> None:
    variables = {
        "POSTGRES_HOST": "127.0.0.1",
        "POSTGRES_PORT": str(postgres_server.port),
        "POSTGRES_PASSWORD": postgres_server.password,
    }
    with exporter("postgres-exporter", variables) as port:
        samples = scrape(port)
    assert names(samples) >= POSTGRES
    assert samples["pg_up", ()] == 1


def test_the_redis_exporter_has_what_dashboards_and_rules_ask_for(redis_server: RedisServer) -> None:
    with exporter("redis-exporter", {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(redis_server.port)}) as port:
        samples = scrape(port)
    assert names(samples) >= REDIS
    assert samples["redis_up", ()] == 1


def variables_of(kafka: KafkaServer) -> dict[str, str]:
    return {"KAFKA_HOST": "127.0.0.1", "KAFKA_INTERNAL_PORT": str(kafka.port)}


async def test_the_kafka_exporter_counts_what_a_group_has_not_committed(kafka_server: KafkaServer) -> None:
    topic = "observe.lag"
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_server.bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 2, 1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=kafka_server.bootstrap) as producer:
        for number in range(5):
            await producer.send_and_wait(topic, b"x", partition=number % 2)
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=kafka_server.bootstrap,
        group_id="observe.readers",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    async with consumer:
        record = await consumer.getone()
        await consumer.commit({one: 1 for one in consumer.assignment() if one.partition == record.partition})
        with exporter("kafka-exporter", variables_of(kafka_server)) as port:
            samples = scrape(port)
            until = time.monotonic() + 60  # while the broker is slow, the exporter knows only that it is there
            while not names(samples) >= KAFKA and time.monotonic() < until:
                await asyncio.sleep(0.5)
                samples = scrape(port)
    assert names(samples) >= KAFKA
    where = (("partition", str(record.partition)), ("topic", topic))
    held = 3 if record.partition == 0 else 2
    assert samples["kafka_topic_partitions", (("topic", topic),)] == 2
    assert samples["kafka_topic_partition_current_offset", where] == held
    assert samples["kafka_consumergroup_lag", (("consumergroup", "observe.readers"), *where)] == held - 1
    assert samples["kafka_consumergroup_members", (("consumergroup", "observe.readers"),)] == 1
    assert not any("__consumer_offsets" in str(labels) for _, labels in samples)


async def test_the_kafka_exporter_has_all_topics_and_groups_at_the_first_scrape() -> None:
    topics = [f"observe.{number}" for number in range(60)]
    with throwaway_kafka() as kafka:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
        await admin.start()
        await admin.create_topics([NewTopic(topic, 1, 1) for topic in topics])
        await admin.close()
        for topic in topics:
            consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, group_id=topic, enable_auto_commit=False)
            async with consumer:
                consumer.assign([TopicPartition(topic, 0)])
                await consumer.commit({TopicPartition(topic, 0): 0})
        with exporter("kafka-exporter", variables_of(kafka)) as port:
            samples = await asyncio.to_thread(answered, port)
    assert {dict(labels)["topic"] for name, labels in samples if name == "kafka_topic_partitions"} == set(topics)
    lags = [dict(labels) for name, labels in samples if name == "kafka_consumergroup_lag"]
    assert {one["consumergroup"]: one["topic"] for one in lags} == {topic: topic for topic in topics}


def test_the_kafka_exporter_says_that_kafka_is_away_and_that_it_is_back() -> None:
    with throwaway_kafka() as kafka, exporter("kafka-exporter", variables_of(kafka)) as port:
        assert answered(port)["kafka_brokers", ()] == 1
        kafka.life.kill()
        assert scrape(port) == {("kafka_brokers", ()): 0}
        kafka.life.start()
        assert answered(port)["kafka_brokers", ()] == 1
