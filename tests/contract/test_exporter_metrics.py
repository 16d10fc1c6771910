"""What dashboards and rules may ask exporters for: names that the pinned images and the packages of Debian 12 both have."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# prometheuscommunity/postgres-exporter 0.11 and 0.17
POSTGRES = {
    "pg_up",
    "pg_database_size_bytes",
    "pg_locks_count",
    "pg_settings_max_connections",
    "pg_stat_activity_count",
    "pg_stat_activity_max_tx_duration",
    "pg_stat_database_blks_hit",
    "pg_stat_database_blks_read",
    "pg_stat_database_deadlocks",
    "pg_stat_database_tup_deleted",
    "pg_stat_database_tup_inserted",
    "pg_stat_database_tup_updated",
    "pg_stat_database_xact_commit",
    "pg_stat_database_xact_rollback",
}
# oliver006/redis_exporter 1.45 and 1.69
REDIS = {
    "redis_up",
    "redis_blocked_clients",
    "redis_commands_duration_seconds_total",
    "redis_commands_processed_total",
    "redis_commands_total",
    "redis_connected_clients",
    "redis_db_keys",
    "redis_evicted_keys_total",
    "redis_expired_keys_total",
    "redis_keyspace_hits_total",
    "redis_keyspace_misses_total",
    "redis_memory_max_bytes",
    "redis_memory_used_bytes",
}
# danielqsj/kafka-exporter 1.9 and infra/native/kafka_exporter.py
KAFKA = {
    "kafka_broker_info",
    "kafka_brokers",
    "kafka_consumergroup_current_offset",
    "kafka_consumergroup_current_offset_sum",
    "kafka_consumergroup_lag",
    "kafka_consumergroup_lag_sum",
    "kafka_consumergroup_members",
    "kafka_topic_partition_current_offset",
    "kafka_topic_partition_in_sync_replica",
    "kafka_topic_partition_leader",
    "kafka_topic_partition_leader_is_preferred",
    "kafka_topic_partition_oldest_offset",
    "kafka_topic_partition_replicas",
    "kafka_topic_partition_under_replicated_partition",
    "kafka_topic_partitions",
}
# prometheus-community/elasticsearch_exporter 1.9 and infra/native/search_exporter.py
ENGINE = {
    "elasticsearch_cluster_health_number_of_nodes",
    "elasticsearch_cluster_health_status",
    "elasticsearch_cluster_health_unassigned_shards",
    "elasticsearch_cluster_health_up",
    "elasticsearch_filesystem_data_available_bytes",
    "elasticsearch_filesystem_data_size_bytes",
    "elasticsearch_indices_docs",
    "elasticsearch_indices_search_query_time_seconds",
    "elasticsearch_indices_search_query_total",
    "elasticsearch_indices_store_size_bytes",
    "elasticsearch_jvm_memory_max_bytes",
    "elasticsearch_jvm_memory_used_bytes",
    "elasticsearch_thread_pool_queue_count",
    "elasticsearch_thread_pool_rejected_count",
}
EXPORTED = re.compile(r"(?<![:\w])(?:pg|redis|kafka|elasticsearch)_[a-z0-9_]+\b")


def test_dashboards_and_rules_ask_exporters_only_for_what_both_runtimes_have() -> None:
    asked = {
        name
        for path in (ROOT / "infra" / "grafana" / "dashboards").glob("*.json")
        for panel in json.loads(path.read_text("utf-8"))["panels"]
        for target in panel.get("targets", ())
        for name in EXPORTED.findall(target["expr"])
    }
    for path in (ROOT / "infra" / "prometheus" / "rules").glob("*.yml"):
        for line in path.read_text("utf-8").splitlines():
            if "expr:" in line or line.startswith("          "):
                asked |= set(EXPORTED.findall(line))
    assert asked - POSTGRES - REDIS - KAFKA - ENGINE == set()
    assert asked
