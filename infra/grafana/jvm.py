"""Kafka's Java virtual machine: memory, collections, threads."""

from __future__ import annotations

from infra.grafana.parts import RATE, Board, Query, number, series

JVM = Board(
    uid="jvm",
    title="JVM",
    description="Memory, garbage collection and threads of Kafka's Java virtual machine, from HotSpot's own counters.",
    tags=("lab", "server"),
    rows=(
        (
            "At a glance",
            (
                number("Up", "1 when the JVM's counters can be read.", "short", "max(jvm_up)", limit=1, floor=True),
                number(
                    "Old generation in use",
                    "Share of its maximum; near 100 % the JVM does little but collect.",
                    "percentunit",
                    'sum(jvm_memory_pool_used_bytes{pool="old"}) / clamp_min(sum(jvm_memory_pool_max_bytes{pool="old"}), 1)',
                    limit=0.9,
                ),
                number("Threads", "Threads that live.", "short", "sum(jvm_threads_current)"),
                number("Classes", "Classes loaded so far.", "short", "sum(jvm_classes_loaded)"),
            ),
        ),
        (
            "Memory and collections",
            (
                series(
                    "Heap by pool",
                    "Bytes in use after the newest collection, and eden as it fills.",
                    "bytes",
                    Query("sum by (pool) (jvm_memory_pool_used_bytes)", "{{pool}}"),
                ),
                series(
                    "Classes' memory", "Metaspace in use.", "bytes", Query("sum(jvm_metaspace_used_bytes)", "metaspace")
                ),
                series(
                    "Collections",
                    "Collections each second, by collector.",
                    "ops",
                    Query(f"sum by (gc) (rate(jvm_gc_collections_total[{RATE}]))", "{{gc}}"),
                ),
                series(
                    "Time in collections",
                    "Share of the time spent in collections, by collector.",
                    "percentunit",
                    Query(f"sum by (gc) (rate(jvm_gc_seconds_total[{RATE}]))", "{{gc}}"),
                ),
                series(
                    "Standstill",
                    "Share of the time in which all threads stood still, for collections and else.",
                    "percentunit",
                    Query(f"sum(rate(jvm_safepoint_seconds_total[{RATE}]))", "stopped"),
                ),
                series("Threads", "Threads that live.", "short", Query("sum(jvm_threads_current)", "threads")),
            ),
        ),
    ),
)
