"""HotSpot's counters, from bytes as it writes them."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from services.kit.jvm import JvmCollector, JvmSettings, NotReadableError, find, metrics, parse


def entry(name: str, value: int | str, order: str = "<") -> bytes:
    text = name.encode() + b"\0"
    text += b"\0" * (-len(text) % 8)
    raw = struct.pack(f"{order}q", value) if isinstance(value, int) else value.encode() + b"\0"
    vector, kind = (0, ord("J")) if isinstance(value, int) else (len(raw), ord("B"))
    raw += b"\0" * (-len(raw) % 8)
    head = struct.pack(f"{order}iiibbbbi", 24 + len(text) + len(raw), 24, vector, kind, 0, 1, 3, 24 + len(text))
    return head + b"\0" * (24 - len(head)) + text + raw


def image(counters: dict[str, int | str], order: str = "<", accessible: int = 1) -> bytes:
    body = b"".join(entry(name, value, order) for name, value in counters.items())
    head = b"\xca\xfe\xc0\xc0" + bytes([1 if order == "<" else 0, 2, 0, accessible])
    return head + struct.pack(f"{order}iiqii", 32 + len(body), 0, 0, 32, len(counters)) + body


KAFKA: dict[str, int | str] = {
    "sun.rt.javaCommand": "kafka.Kafka /data/kafka.properties",
    "sun.os.hrt.frequency": 1_000_000_000,
    "sun.gc.generation.1.space.0.name": "old",
    "sun.gc.generation.1.space.0.used": 11_324_144,
    "sun.gc.generation.1.space.0.maxCapacity": 268_435_456,
    "sun.gc.collector.0.name": "Serial young",
    "sun.gc.collector.0.invocations": 5,
    "sun.gc.collector.0.time": 500_000_000,
    "java.threads.live": 92,
    "sun.rt.safepointTime": 2_000_000_000,
}


@pytest.mark.parametrize("order", ["<", ">"])
def test_counters_are_read_in_both_byte_orders(order: str) -> None:
    assert parse(image(KAFKA, order)) == KAFKA


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a jvm at all" * 8,
        image(KAFKA)[:60],
        image(KAFKA, accessible=0),
        image(KAFKA)[:24] + struct.pack("<ii", 32, 1_000_000) + image(KAFKA)[32:],
        image(KAFKA)[:32] + b"\0" * 400,
    ],
    ids=["empty", "garbage", "cut off", "being set up", "more entries than bytes", "zeros"],
)
def test_what_is_no_performance_data_is_refused(data: bytes) -> None:
    with pytest.raises(NotReadableError):
        parse(data)


def test_times_become_seconds_and_pools_have_names() -> None:
    samples = {(sample.name, *sample.labels.values()): sample.value for one in metrics(KAFKA) for sample in one.samples}
    assert samples["jvm_memory_pool_used_bytes", "old"] == 11_324_144
    assert samples["jvm_gc_collections_total", "Serial young"] == 5
    assert samples["jvm_gc_seconds_total", "Serial young"] == 0.5
    assert samples[("jvm_safepoint_seconds_total",)] == 2.0


def test_other_jvms_and_garbage_in_the_folder_are_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / "hsperfdata_root"
    folder.mkdir()
    (folder / "7").write_bytes(image({**KAFKA, "sun.rt.javaCommand": "other.Main"}))
    (folder / "8").write_bytes(b"garbage")
    assert find(tmp_path, "kafka.Kafka", 1) is None
    (folder / "9").write_bytes(image(KAFKA))
    assert find(tmp_path, "kafka.Kafka", 1) == KAFKA


def test_without_a_jvm_it_says_so(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    registry.register(JvmCollector(JvmSettings(folder=tmp_path)))
    assert b"jvm_up 0.0" in generate_latest(registry)
