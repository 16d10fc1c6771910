"""Results as a benchmark leaves them, planted by tests."""

from __future__ import annotations

from pathlib import Path

import msgspec

from benchmarks.figures.payments import PaymentsFigures
from benchmarks.figures.search import SearchFigures
from benchmarks.records import Around, Machine, Record, file_name, text_of
from benchmarks.rows import Figures

MACHINE = Machine(
    cpu="Two Cores Inside",
    cores=2,
    memory_gib=8,
    disk="ext4, 100 GiB",
    system="Debian",
    kernel="6.1",
    python="3.11.7",
)


def paid(**changes: object) -> PaymentsFigures:
    """Payments that met their aims, but for what is changed."""
    made = PaymentsFigures(
        limit_per_second=[1000.0, 1100.0, 900.0],
        payments_per_second=[400.0, 410.0, 390.0],
        ratio=0.4,
        p99_ms_at_half=60.0,
        rate_at_half=200.0,
        cpu_ms_per_payment={"payments-api": 1.5, "postgres": 1.5},
        relay_events=50_000,
        relay_events_per_second=9_000,
        memory_mib={"payments-api": 50.0, "postgres": 200.0},
    )
    return msgspec.structs.replace(made, **changes)


def searched(docs: int = 50_000, **changes: object) -> SearchFigures:
    """A search that met its aims, but for what is changed."""
    made = SearchFigures(
        docs=docs,
        raw_per_second=[300.0],
        api_per_second=[200.0],
        engine_cpu_ms_per_query=2.0,
        popular_offered=1000.0,
        popular_ok_per_second=1000.0,
        popular_p99_ms=90.0,
        popular_hits_share=0.75,
        suggest_p99_ms=20.0,
        freshness_p99_seconds={"200": 2.5, "500": 2.5},
        changes_per_second={"200": 199.0, "500": 500.0},
    )
    return msgspec.structs.replace(made, **changes)


def record(figures: Figures | msgspec.Raw | None = None, **changes: object) -> Record:
    """A whole run."""
    made = Record(
        system="payments",
        docs=None,
        runtime="native",
        at="2026-03-04T05:06:07Z",
        took_seconds=240,
        commit="cbe86ae",
        rounds=3,
        seconds=10,
        machine=MACHINE,
        around=Around(load_average=0.1, sync_ms=0.4),
        versions={"Postgres": "15.18"},
        stand_ins=[],
        figures=msgspec.Raw(msgspec.json.encode(figures or paid())),
    )
    return msgspec.structs.replace(made, **changes)


def search_record(docs: int = 50_000, **changes: object) -> Record:
    """A whole run of search."""
    return record(searched(docs), system="search", docs=docs, **changes)


def leave(root: Path, one: Record) -> Path:
    """Where the benchmark would have left it."""
    folder = root / ".lab" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file_name(one.system, one.docs, one.runtime)
    path.write_text(text_of(one), "utf-8")
    return path
