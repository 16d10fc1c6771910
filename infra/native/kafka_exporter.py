"""Kafka's offsets, groups and lag for Prometheus, by the metric and label names of danielqsj/kafka-exporter's README.

`python -m infra.native.kafka_exporter --kafka.server=HOST:PORT --web.listen-address=HOST:PORT`. Asks the broker at each
scrape. Exits 1 when Kafka does not answer at the start; later it answers `kafka_brokers 0` while Kafka is away.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from aiohttp import web
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

START_SECONDS = 20.0
MakeGauge = Callable[..., Gauge]
ASK_SECONDS = 2.0
"""All questions of one scrape; Prometheus gives up after 2.5 s."""


@dataclass(frozen=True, slots=True)
class Partition:
    """`oldest` and `current` are the offsets of the first record and of the next one."""

    topic: str
    number: int
    leader: int
    replicas: tuple[int, ...]
    in_sync: tuple[int, ...]
    oldest: int
    current: int


@dataclass(frozen=True, slots=True)
class Group:
    """`committed` is the offset of the next record to read, by topic and partition."""

    name: str
    members: int
    committed: dict[tuple[str, int], int]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the cluster said at one scrape."""

    brokers: dict[int, str] = field(default_factory=dict)
    partitions: tuple[Partition, ...] = ()
    groups: tuple[Group, ...] = ()


def exposition(seen: Snapshot) -> bytes:
    """As text for Prometheus. Internal topics (`__...`) are left out, as the original does with its usual flags here."""
    registry = CollectorRegistry()

    def gauge(name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=registry)

    gauge("kafka_brokers", "Number of brokers in the cluster").set(len(seen.brokers))
    info = gauge("kafka_broker_info", "Information about a broker", "id", "address")
    for node, address in seen.brokers.items():
        info.labels(str(node), address).set(1)
    _partitions(seen, gauge)
    _groups(seen, gauge)
    return generate_latest(registry)


def _partitions(seen: Snapshot, gauge: MakeGauge) -> None:
    where = ("topic", "partition")
    count = gauge("kafka_topic_partitions", "Number of partitions of a topic", "topic")
    current = gauge("kafka_topic_partition_current_offset", "Offset after the newest record", *where)
    oldest = gauge("kafka_topic_partition_oldest_offset", "Offset of the oldest record", *where)
    leader = gauge("kafka_topic_partition_leader", "Broker that leads the partition", *where)
    preferred = gauge("kafka_topic_partition_leader_is_preferred", "1 if that is the first replica", *where)
    replicas = gauge("kafka_topic_partition_replicas", "Number of replicas", *where)
    in_sync = gauge("kafka_topic_partition_in_sync_replica", "Number of replicas in sync", *where)
    under = gauge("kafka_topic_partition_under_replicated_partition", "1 if some replica is not in sync", *where)
    for one in seen.partitions:
        labels = (one.topic, str(one.number))
        count.labels(one.topic).inc()
        current.labels(*labels).set(one.current)
        oldest.labels(*labels).set(one.oldest)
        leader.labels(*labels).set(one.leader)
        preferred.labels(*labels).set(one.replicas[:1] == (one.leader,))
        replicas.labels(*labels).set(len(one.replicas))
        in_sync.labels(*labels).set(len(one.in_sync))
        under.labels(*labels).set(len(one.in_sync) < len(one.replicas))


def _groups(seen: Snapshot, gauge: MakeGauge) -> None:
    where = ("consumergroup", "topic", "partition")
    members = gauge("kafka_consumergroup_members", "Number of members of a group", "consumergroup")
    offset = gauge("kafka_consumergroup_current_offset", "Offset that the group has committed", *where)
    offsets = gauge("kafka_consumergroup_current_offset_sum", "Sum of them over the partitions", *where[:2])
    lag = gauge("kafka_consumergroup_lag", "Records that the group has not committed", *where)
    lags = gauge("kafka_consumergroup_lag_sum", "Sum of them over the partitions", *where[:2])
    newest = {(one.topic, one.number): one.current for one in seen.partitions}
    for group in seen.groups:
        members.labels(group.name).set(group.members)
        for (topic, number), committed in sorted(group.committed.items()):
            if committed < 0 or (topic, number) not in newest:
                continue
            behind = max(0, newest[topic, number] - committed)
            offset.labels(group.name, topic, str(number)).set(committed)
            offsets.labels(group.name, topic).inc(committed)
            lag.labels(group.name, topic, str(number)).set(behind)
            lags.labels(group.name, topic).inc(behind)


class Cluster:
    """Asks a cluster. Raises KafkaError, OSError, TimeoutError."""

    def __init__(self, bootstrap: str) -> None:
        self._admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, client_id="kafka-exporter")
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap, client_id="kafka-exporter", request_timeout_ms=2_000, enable_auto_commit=False
        )

    async def start(self) -> None:
        try:
            await self._admin.start()
            await self._consumer.start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        await self._consumer.stop()
        await self._admin.close()

    async def look(self) -> Snapshot:
        described = await self._admin.describe_cluster()
        brokers = {one["node_id"]: f"{one['host']}:{one['port']}" for one in described["brokers"]}
        topics = [one for one in await self._admin.describe_topics() if not one["is_internal"]]
        known = [TopicPartition(one["topic"], part["partition"]) for one in topics for part in one["partitions"]]
        self._track(known)
        oldest = await self._consumer.beginning_offsets(known) if known else {}
        current = await self._consumer.end_offsets(known) if known else {}
        partitions = tuple(
            Partition(
                one["topic"],
                part["partition"],
                part["leader"],
                tuple(part["replicas"]),
                tuple(part["isr"]),
                oldest[TopicPartition(one["topic"], part["partition"])],
                current[TopicPartition(one["topic"], part["partition"])],
            )
            for one in topics
            for part in one["partitions"]
        )
        return Snapshot(brokers, partitions, await self._groups())

    def _track(self, known: list[TopicPartition]) -> None:
        """Paused, so that nothing is read; without it the consumer learns one topic's leaders per 100 ms of retry."""
        if set(known) != self._consumer.assignment():
            self._consumer.assign(known)
            self._consumer.pause(*known)

    async def _groups(self) -> tuple[Group, ...]:
        names = sorted(name for name, kind, *_ in await self._admin.list_consumer_groups() if kind in ("consumer", ""))
        return tuple(await asyncio.gather(*(self._group(name) for name in names)))

    async def _group(self, name: str) -> Group:
        coordinator = await self._admin.find_coordinator(name)
        described, committed = await asyncio.gather(
            self._admin.describe_consumer_groups([name], coordinator),
            self._admin.list_consumer_group_offsets(name, coordinator),
        )
        members = sum(len(group["members"]) for answer in described for group in answer.to_object()["groups"])
        return Group(name, members, {(at.topic, at.partition): what.offset for at, what in committed.items()})


def application(cluster: Cluster) -> web.Application:
    """`/metrics`, and `/` for a health check."""

    async def metrics(_: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(ASK_SECONDS):
                seen = await cluster.look()
        except (KafkaError, OSError, TimeoutError) as error:
            print(f"No answer from Kafka: {error or type(error).__name__}", file=sys.stderr, flush=True)
            seen = Snapshot()
        return web.Response(body=exposition(seen), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def root(_: web.Request) -> web.Response:
        return web.Response(text="kafka exporter; see /metrics\n")

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics), web.get("/", root)])

    async def life(_: web.Application) -> AsyncIterator[None]:
        async with asyncio.timeout(START_SECONDS):
            await cluster.start()
        yield
        await cluster.stop()

    app.cleanup_ctx.append(life)
    return app


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m infra.native.kafka_exporter", allow_abbrev=False)
    parser.add_argument("--kafka.server", dest="kafka", required=True)
    parser.add_argument("--web.listen-address", dest="listen", default="127.0.0.1:9308")
    options = parser.parse_args(arguments)
    host, _, port = options.listen.rpartition(":")
    if not port.isdigit():
        parser.error(f"--web.listen-address must be HOST:PORT, not '{options.listen}'")
    try:
        asyncio.run(_serve(options.kafka, host or "127.0.0.1", int(port)))
    except (KafkaError, TimeoutError) as error:
        print(f"Kafka at {options.kafka} does not answer: {error or type(error).__name__}", file=sys.stderr)
        return 1
    return 0


async def _serve(bootstrap: str, host: str, port: int) -> None:
    """Until SIGTERM or SIGINT."""
    runner = web.AppRunner(application(Cluster(bootstrap)), access_log=None)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        await stopped.wait()
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
