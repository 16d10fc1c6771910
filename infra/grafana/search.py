"""Search: how fresh the index is, what is asked and answered, and how the engine is."""

from __future__ import annotations

from infra.grafana.http_panels import red, routes, saturation
from infra.grafana.parts import RATE, Board, Query, number, series

JOBS = "search-.+"


def quantile(share: float, metric: str, by: str = "") -> str:
    """Of a histogram."""
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket[{RATE}])))"


def per_second(metric: str, by: str) -> Query:
    """A counter's rate by one label."""
    return Query(f"sum by ({by}) (rate({metric}[{RATE}]))", f"{{{{{by}}}}}")


SEARCH = Board(
    uid="search",
    title="Search",
    description="Freshness and lag of the index, queries by stage, cache, what is shed and left out, heap and disk of the engine.",
    tags=("lab", "system", "week7"),
    rows=(
        (
            "Promises",
            (
                number(
                    "Freshness, 99th percentile",
                    "From the commit of a canary's change to the search that shows it.",
                    "s",
                    quantile(0.99, "search_freshness_seconds"),
                    limit=5,
                ),
                number(
                    "Oldest change unseen",
                    "Age of the oldest canary change that no search shows yet.",
                    "s",
                    "max(search_freshness_oldest_unseen_seconds)",
                    limit=30,
                ),
                number(
                    "Lag",
                    "Records of the catalogue's topics that are not worked on yet.",
                    "short",
                    "sum(search_indexer_lag_records)",
                    limit=10000,
                ),
                number(
                    "Engine",
                    "1 when the cluster has all primaries and all copies.",
                    "short",
                    'max(elasticsearch_cluster_health_status{color="green"})',
                    limit=1,
                    floor=True,
                ),
                number(
                    "Write indices",
                    "Indices that changes go to: 2 from a reindex until the old one is dropped.",
                    "short",
                    "max(search_write_indices)",
                ),
                number(
                    "Breaker",
                    "Before the engine: 0 closed, 1 half-open, 2 open.",
                    "short",
                    "max(search_engine_breaker_state)",
                    limit=1,
                ),
            ),
        ),
        ("Rate, errors, duration", red(JOBS, errors_below=0.001)),
        (
            "Queries",
            (
                series(
                    "Stages, 99th percentile",
                    "Where the time of a request goes: waiting for a slot, hits, facets, the answer's text.",
                    "s",
                    Query(quantile(0.99, "search_stage_seconds", "stage"), "{{stage}}"),
                ),
                series(
                    "Cache",
                    "Share of the looks into memory that found an answer, by kind.",
                    "percentunit",
                    Query(
                        f'sum by (kind) (rate(search_cache_lookups_total{{result="hit"}}[{RATE}])) / clamp_min(sum by (kind) (rate(search_cache_lookups_total[{RATE}])), 1e-9)',
                        "{{kind}}",
                    ),
                    most=1,
                ),
                series(
                    "Asked together",
                    "Requests each second that joined work which was already under way.",
                    "reqps",
                    per_second("search_coalesced_total", "kind"),
                ),
                series(
                    "Calls to the engine",
                    "Calls each second by how they ended.",
                    "reqps",
                    per_second("search_engine_calls_total", "outcome"),
                ),
                series(
                    "Shed",
                    "Requests refused each second, by reason.",
                    "reqps",
                    per_second("search_requests_shed_total", "reason"),
                ),
                series(
                    "Left out",
                    "Answers each second that lack something, by what.",
                    "reqps",
                    per_second("search_degraded_total", "step"),
                ),
                series(
                    "Slots",
                    "Calls to the engine under way, and those that wait.",
                    "short",
                    Query("sum(search_engine_slots_in_use)", "in use"),
                    Query("sum(search_engine_slots_waiting)", "waiting"),
                ),
                series("Memory of the cache", "Bytes remembered.", "bytes", Query("sum(search_cache_bytes)", "cache")),
                routes("search-api"),
            ),
        ),
        (
            "Index",
            (
                series(
                    "Freshness",
                    "From the commit of a canary's change to the search that shows it.",
                    "s",
                    Query(quantile(0.5, "search_freshness_seconds"), "p50"),
                    Query(quantile(0.99, "search_freshness_seconds"), "p99"),
                    limit=5,
                ),
                series(
                    "Lag by feed",
                    "Records that are not worked on yet.",
                    "short",
                    Query("sum by (feed) (search_indexer_lag_records)", "{{feed}}"),
                ),
                series(
                    "Records",
                    "Records each second by what became of them; parked ones are dead letters.",
                    "ops",
                    per_second("search_indexer_records_total", "result"),
                ),
                series(
                    "Documents written",
                    "Documents sent to the engine each second, by what became of them.",
                    "ops",
                    per_second("search_index_writes_total", "fate"),
                ),
                series(
                    "Pushback",
                    "Bulk requests sent again each second: the engine was busy (429), failed or away.",
                    "ops",
                    per_second("search_index_pushback_total", "reason"),
                ),
                series(
                    "Bulk requests, 99th percentile",
                    "Duration of one bulk request.",
                    "s",
                    Query(quantile(0.99, "search_bulk_seconds"), "p99"),
                ),
            ),
        ),
        (
            "Engine",
            (
                series(
                    "Heap",
                    "Share of each node's heap in use; near 85 % it does little but collect.",
                    "percentunit",
                    Query(
                        'max by (name) (elasticsearch_jvm_memory_used_bytes{area="heap"}) / clamp_min(max by (name) (elasticsearch_jvm_memory_max_bytes{area="heap"}), 1)',
                        "{{name}}",
                    ),
                    limit=0.85,
                    most=1,
                ),
                series(
                    "Rejected",
                    "Tasks each second that the engine's queues refused, by pool.",
                    "ops",
                    Query(
                        f'sum by (type) (rate(elasticsearch_thread_pool_rejected_count{{type=~"search|write"}}[{RATE}]))',
                        "{{type}}",
                    ),
                ),
                series(
                    "Queues",
                    "Tasks that wait inside the engine, by pool.",
                    "short",
                    Query('sum by (type) (elasticsearch_thread_pool_queue_count{type=~"search|write"})', "{{type}}"),
                ),
                series(
                    "Disk",
                    "Share of each node's disk in use; at 95 % the engine makes its indices read-only.",
                    "percentunit",
                    Query(
                        "1 - max by (name) (elasticsearch_filesystem_data_available_bytes) / clamp_min(max by (name) (elasticsearch_filesystem_data_size_bytes), 1)",
                        "{{name}}",
                    ),
                    limit=0.9,
                    most=1,
                ),
                series(
                    "Searches of shards",
                    "Searches each second, over all shards.",
                    "ops",
                    Query(f"sum(rate(elasticsearch_indices_search_query_total[{RATE}]))", "searches"),
                ),
                series(
                    "Size of the indices",
                    "Bytes on disk, with copies.",
                    "bytes",
                    Query("sum by (name) (elasticsearch_indices_store_size_bytes)", "{{name}}"),
                ),
            ),
        ),
        ("Saturation", saturation(JOBS)),
    ),
)
