"""The servers that all share: Kafka, Postgres, Redis, as their exporters see them."""

from __future__ import annotations

from infra.grafana.parts import RATE, Board, Query, number, rows, series

KAFKA = Board(
    uid="kafka",
    title="Kafka",
    description="Topics, consumer groups and their lag.",
    tags=("lab", "server"),
    rows=(
        (
            "At a glance",
            (
                number("Brokers", "Brokers in the cluster.", "short", "kafka_brokers", limit=1, floor=True),
                number("Partitions", "Partitions of all topics.", "short", "sum(kafka_topic_partitions)"),
                number(
                    "Under-replicated",
                    "Partitions of which some replica is not in sync.",
                    "short",
                    "sum(kafka_topic_partition_under_replicated_partition)",
                    limit=1,
                ),
                number(
                    "Lag",
                    "Records that some group has not committed.",
                    "short",
                    "sum(kafka_consumergroup_lag)",
                    limit=1000,
                ),
            ),
        ),
        (
            "Topics and groups",
            (
                series(
                    "Records written",
                    "Records each second by topic.",
                    "ops",
                    Query(f"sum by (topic) (rate(kafka_topic_partition_current_offset[{RATE}]))", "{{topic}}"),
                ),
                series(
                    "Lag",
                    "Records that a consumer group has not committed.",
                    "short",
                    Query("sum by (consumergroup, topic) (kafka_consumergroup_lag)", "{{consumergroup}} {{topic}}"),
                    limit=1000,
                ),
                series(
                    "Members",
                    "Members of each consumer group: 0 means that nobody reads.",
                    "short",
                    Query("sum by (consumergroup) (kafka_consumergroup_members)", "{{consumergroup}}"),
                ),
                series(
                    "Records kept",
                    "Records on each topic that retention has not deleted yet.",
                    "short",
                    Query(
                        "sum by (topic) (kafka_topic_partition_current_offset - kafka_topic_partition_oldest_offset)",
                        "{{topic}}",
                    ),
                ),
                series(
                    "Records read",
                    "Records each second that a consumer group has committed.",
                    "ops",
                    Query(
                        f"sum by (consumergroup) (rate(kafka_consumergroup_current_offset[{RATE}]))",
                        "{{consumergroup}}",
                    ),
                ),
                rows(
                    "Lag by partition",
                    "One hot or stuck partition hides in a sum.",
                    "short",
                    Query("sum by (consumergroup, topic, partition) (kafka_consumergroup_lag)"),
                ),
            ),
        ),
    ),
)

_TABLES = 'datname!~"template.*"'

POSTGRES = Board(
    uid="postgres",
    title="Postgres",
    description="Transactions, connections, locks, cache and size by database.",
    tags=("lab", "server"),
    rows=(
        (
            "At a glance",
            (
                number("Up", "1 when Postgres answers its exporter.", "short", "pg_up", limit=1, floor=True),
                number(
                    "Connections in use",
                    "Share of max_connections; beyond it logins are refused.",
                    "percentunit",
                    "sum(pg_stat_activity_count) / max(pg_settings_max_connections)",
                    limit=0.8,
                ),
                number(
                    "Longest transaction",
                    "Age of the oldest open transaction: it keeps vacuum from its work.",
                    "s",
                    "max(pg_stat_activity_max_tx_duration)",
                    limit=60,
                ),
                number("Size", "All databases.", "bytes", "sum(pg_database_size_bytes)"),
            ),
        ),
        (
            "By database",
            (
                series(
                    "Transactions",
                    "Commits each second.",
                    "ops",
                    Query(f"sum by (datname) (rate(pg_stat_database_xact_commit{{{_TABLES}}}[{RATE}]))", "{{datname}}"),
                ),
                series(
                    "Rolled back",
                    "Transactions each second that were rolled back.",
                    "ops",
                    Query(
                        f"sum by (datname) (rate(pg_stat_database_xact_rollback{{{_TABLES}}}[{RATE}]))", "{{datname}}"
                    ),
                ),
                series(
                    "Rows written",
                    "Rows inserted, updated and deleted each second.",
                    "ops",
                    Query(f"sum(rate(pg_stat_database_tup_inserted[{RATE}]))", "inserted"),
                    Query(f"sum(rate(pg_stat_database_tup_updated[{RATE}]))", "updated"),
                    Query(f"sum(rate(pg_stat_database_tup_deleted[{RATE}]))", "deleted"),
                ),
                series(
                    "Connections",
                    "Connections by database and state.",
                    "short",
                    Query(
                        f"sum by (datname, state) (pg_stat_activity_count{{{_TABLES}}}) > 0", "{{datname}} {{state}}"
                    ),
                ),
                series(
                    "Cache hits",
                    "Share of blocks found in Postgres' own cache.",
                    "percentunit",
                    Query(
                        f"sum(rate(pg_stat_database_blks_hit[{RATE}])) / clamp_min(sum(rate(pg_stat_database_blks_hit[{RATE}])) + sum(rate(pg_stat_database_blks_read[{RATE}])), 1e-9)",
                        "hits",
                    ),
                    most=1,
                ),
                series(
                    "Locks and deadlocks",
                    "Locks held by mode, and deadlocks each second.",
                    "short",
                    Query("sum by (mode) (pg_locks_count) > 0 or vector(0)", "{{mode}}"),
                    Query(f"sum(rate(pg_stat_database_deadlocks[{RATE}]))", "deadlocks"),
                ),
                series(
                    "Size",
                    "Bytes on disk.",
                    "bytes",
                    Query(f"sum by (datname) (pg_database_size_bytes{{{_TABLES}}})", "{{datname}}"),
                ),
            ),
        ),
    ),
)

REDIS = Board(
    uid="redis",
    title="Redis",
    description="Commands, clients, memory, keys.",
    tags=("lab", "server"),
    rows=(
        (
            "At a glance",
            (
                number("Up", "1 when Redis answers its exporter.", "short", "redis_up", limit=1, floor=True),
                number("Clients", "Connections of clients.", "short", "redis_connected_clients"),
                number(
                    "Memory in use",
                    "Share of maxmemory; at 100 % writes are refused.",
                    "percentunit",
                    "redis_memory_used_bytes / clamp_min(redis_memory_max_bytes, 1)",
                    limit=0.9,
                ),
                number("Keys", "Keys of all databases.", "short", "sum(redis_db_keys)"),
            ),
        ),
        (
            "Over time",
            (
                series(
                    "Commands",
                    "Commands each second by kind.",
                    "ops",
                    Query(f"sum by (cmd) (rate(redis_commands_total[{RATE}])) > 0 or vector(0)", "{{cmd}}"),
                ),
                series(
                    "Time in commands",
                    "Share of Redis' one thread spent in commands.",
                    "percentunit",
                    Query(f"sum(rate(redis_commands_duration_seconds_total[{RATE}]))", "busy"),
                    most=1,
                ),
                series("Memory", "Bytes in use.", "bytes", Query("redis_memory_used_bytes", "used")),
                series(
                    "Keyspace",
                    "Lookups each second that found a key or did not, and keys that expired or were evicted.",
                    "ops",
                    Query(f"rate(redis_keyspace_hits_total[{RATE}])", "hits"),
                    Query(f"rate(redis_keyspace_misses_total[{RATE}])", "misses"),
                    Query(f"rate(redis_expired_keys_total[{RATE}])", "expired"),
                    Query(f"rate(redis_evicted_keys_total[{RATE}])", "evicted"),
                ),
            ),
        ),
    ),
)
