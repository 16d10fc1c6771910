"""What a JVM says of itself without an agent: HotSpot's performance counters, for Prometheus.

HotSpot keeps them in a file mapped into memory, `/tmp/hsperfdata_<user>/<pid>` (jdk.internal.perf, perfMemory.hpp version
2.0), which costs it nothing and needs no jar beside the server. `python -m services.kit.jvm` reads them at each scrape.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import psutil
from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.kit.http import serve, service_app
from services.kit.settings import ProcessSettings, load

MAGIC = b"\xca\xfe\xc0\xc0"
_PROLOGUE = 32
_ENTRY = 20
_LITTLE_ENDIAN = 1
_LONG, _BYTES = ord("J"), ord("B")

Counters = Mapping[str, int | str]


class NotReadableError(Exception):
    """The file is not, or not yet, what HotSpot writes."""


def parse(data: bytes) -> dict[str, int | str]:
    """Counters by name; numbers in the JVM's own units. Raises NotReadableError."""
    if len(data) < _PROLOGUE or data[:4] != MAGIC:
        raise NotReadableError("no performance data")
    order = "<" if data[4] == _LITTLE_ENDIAN else ">"
    if data[5] != 2 or not data[7]:
        raise NotReadableError(f"version {data[5]}, or still being set up")
    offset, count = struct.unpack_from(f"{order}ii", data, 24)
    found: dict[str, int | str] = {}
    for _ in range(count):
        try:
            length, name_at, vector, kind, _, _, _, value_at = struct.unpack_from(f"{order}iiibbbbi", data, offset)
            name = data[offset + name_at : data.index(0, offset + name_at)].decode()
            if kind == _LONG and vector == 0:
                found[name] = struct.unpack_from(f"{order}q", data, offset + value_at)[0]
            elif kind == _BYTES:
                found[name] = data[offset + value_at : offset + value_at + vector].partition(b"\0")[0].decode()
        except (struct.error, ValueError) as error:
            raise NotReadableError(f"entry at {offset}: {error}") from error
        if length < _ENTRY:
            raise NotReadableError(f"entry at {offset} has {length} bytes")
        offset += length
    return found


def metrics(counters: Counters) -> Iterator[Metric]:
    """By the names of Prometheus' own Java client where it has them."""

    def number(name: str) -> float:
        return float(counters.get(name, 0))

    used = GaugeMetricFamily("jvm_memory_pool_used_bytes", "Memory in use, by pool of the heap", labels=["pool"])
    size = GaugeMetricFamily("jvm_memory_pool_max_bytes", "Most that a pool may grow to", labels=["pool"])
    collections = CounterMetricFamily("jvm_gc_collections", "Collections, by collector", labels=["gc"])
    seconds = CounterMetricFamily("jvm_gc_seconds", "Time that collections took", labels=["gc"])
    ticks = number("sun.os.hrt.frequency") or 1.0
    for name, value in counters.items():
        owner, _, leaf = name.rpartition(".")
        if leaf == "name" and owner.startswith("sun.gc.generation.") and ".space." in owner:
            used.add_metric([str(value)], number(f"{owner}.used"))
            size.add_metric([str(value)], number(f"{owner}.maxCapacity"))
        if leaf == "name" and owner.startswith("sun.gc.collector."):
            collections.add_metric([str(value)], number(f"{owner}.invocations"))
            seconds.add_metric([str(value)], number(f"{owner}.time") / ticks)
    yield from (used, size, collections, seconds)
    yield GaugeMetricFamily("jvm_metaspace_used_bytes", "Memory of classes", value=number("sun.gc.metaspace.used"))
    yield GaugeMetricFamily("jvm_threads_current", "Threads", value=number("java.threads.live"))
    loaded = number("java.cls.loadedClasses") + number("java.cls.sharedLoadedClasses")
    yield GaugeMetricFamily("jvm_classes_loaded", "Classes loaded so far", value=loaded)
    stopped = number("sun.rt.safepointTime") / ticks
    yield CounterMetricFamily("jvm_safepoint_seconds", "Time in which all threads stood still", value=stopped)


def find(folders: Path, command: str, port: int) -> Counters | None:
    """The JVM of this machine or volume that runs `command`; of several the one that listens on `port`."""
    candidates: dict[int, Counters] = {}
    for path in folders.glob("hsperfdata_*/*"):
        try:
            counters = parse(path.read_bytes())
        except (OSError, NotReadableError):
            continue
        if str(counters.get("sun.rt.javaCommand", "")).startswith(command) and path.name.isdigit():
            candidates[int(path.name)] = counters
    if len(candidates) > 1:
        listening = {one.pid for one in psutil.net_connections("tcp") if one.laddr and one.laddr.port == port}
        candidates = {pid: counters for pid, counters in candidates.items() if pid in listening}
    return next(iter(candidates.values()), None)


class JvmSettings(BaseSettings):
    """`JVM_FOLDER` holds hsperfdata_<user>; `JVM_PORT` tells JVMs of one command apart."""

    model_config = SettingsConfigDict(env_prefix="JVM_")

    folder: Path = Path("/tmp")  # noqa: S108 (HotSpot's own, whatever java.io.tmpdir says)
    command: str = "kafka.Kafka"
    port: int = Field(default=17092, ge=1, le=65535)


class JvmCollector(Collector):
    """Reads at each scrape. `jvm_up` is 0 while no such JVM is there."""

    def __init__(self, settings: JvmSettings) -> None:
        self._settings = settings

    def collect(self) -> Iterable[Metric]:
        """For prometheus_client."""
        counters = find(self._settings.folder, self._settings.command, self._settings.port)
        yield GaugeMetricFamily("jvm_up", "1 when the JVM's counters can be read", value=float(counters is not None))
        if counters is not None:
            yield from metrics(counters)


def main() -> None:
    REGISTRY.register(JvmCollector(load(JvmSettings)))
    settings = load(ProcessSettings)
    serve(service_app("kafka-jvm", settings), settings, name="kafka-jvm")


if __name__ == "__main__":
    main()
