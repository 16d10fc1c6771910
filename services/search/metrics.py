"""All metrics of the search processes beyond the RED metrics of the HTTP shell. No label carries an id."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from services.search.cache import Freshness
from services.search.engine import Fate
from services.search.ladder import Missing

RECORDS = Counter(
    "search_indexer_records_total", "Records of the catalogue's topics; result is taken or parked", ["feed", "result"]
)
PARKED = Counter("search_indexer_parked_total", "Records set aside as dead letters, by reason", ["reason"])
LAG = Gauge("search_indexer_lag_records", "Records on the topic that are not worked on yet", ["feed"])
HELD = Gauge("search_indexer_held", "1 while a batch takes so long that the feed is paused", ["feed"])
INVISIBLE = Counter(
    "search_indexer_commits_not_yet_visible_total", "Reads repeated since a commit was in the log and not yet visible"
)
WRITES = Counter("search_index_writes_total", "Documents sent to the engine, by what became of them", ["fate"])
PUSHBACK = Counter(
    "search_index_pushback_total", "Bulk requests sent again; reason is busy (429), failed or down", ["reason"]
)
BULK_SECONDS = Histogram(
    "search_bulk_seconds",
    "One bulk request",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
BULK_DOCUMENTS = Histogram(
    "search_bulk_documents", "Documents in one bulk request", buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000)
)
WRITE_INDICES = Gauge(
    "search_write_indices", "Indices that changes go to: 1, or 2 from a reindex until the old is dropped"
)

FRESHNESS = Histogram(
    "search_freshness_seconds",
    "From the commit of the canary's change to the search that shows it",
    # Close together also where an outage ends: between 10 and 30 s a quantile is a guess of the interpolation.
    buckets=(
        0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 12.0, 14.0, 16.0, 18.0, 20.0,
        22.0, 24.0, 26.0, 28.0, 30.0, 35.0, 40.0, 50.0, 60.0, 120.0, 300.0,
    ),
)  # fmt: skip
OLDEST_UNSEEN = Gauge(
    "search_freshness_oldest_unseen_seconds", "Age of the oldest canary change that no search shows yet"
)
CANARY_CHANGES = Counter(
    "search_canary_changes_total", "Changes of the canary; result is committed or failed", ["result"]
)

STAGES = Histogram(
    "search_stage_seconds",
    "Parts of a request: wait (for a slot), hits, facets, suggest, popular (in the background), render",
    ["stage"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0),
)
CACHE = Counter(
    "search_cache_lookups_total", "Looks into what is remembered; result is a Freshness", ["kind", "result"]
)
CACHE_BYTES = Gauge("search_cache_bytes", "Size of what is remembered")
COALESCED = Counter("search_coalesced_total", "Requests that joined work already under way", ["kind"])
ENGINE_CALLS = Counter(
    "search_engine_calls_total", "Calls by how they ended: ok, partial, busy, down, refused, shed", ["outcome"]
)
ENGINE_BUSY = Gauge("search_engine_slots_in_use", "Calls to the engine under way")
ENGINE_WAITING = Gauge("search_engine_slots_waiting", "Calls that wait for a slot")
BREAKER_STATE = Gauge("search_engine_breaker_state", "Breaker before the engine: 0 closed, 1 half-open, 2 open")
REQUESTS_SHED = Counter(
    "search_requests_shed_total", "Requests refused; reason is rate, overloaded or engine", ["reason"]
)
REQUESTS_REFUSED = Counter("search_requests_refused_total", "Requests that would cost too much", ["reason"])
DEGRADED = Counter("search_degraded_total", "Answers that lack something, by what; one may lack several", ["step"])
ANSWERS = Counter("search_answers_total", "Answers by how the words were matched; popular: not at all", ["matching"])
SWAPS = Counter("search_index_changes_seen_total", "Times that another index was found behind the alias")
ABANDONED = Counter(
    "search_requests_abandoned_total", "Requests whose deadline was over or whose caller left first", ["reason"]
)
WASTED = Counter(
    "search_wasted_work_seconds_total", "Time of those requests, from their head to the end of their work", ["reason"]
)

CLICKS = Counter("search_clicks_total", "Clicks by what became of them: taken, dropped, sent, retried", ["outcome"])
CLICKS_WAITING = Gauge("search_clicks_waiting", "Clicks in the buffer")
TASTE_EVENTS = Counter(
    "search_taste_events_total", "Click events read; result is used, doubled or unusable", ["result"]
)
TASTE_PEOPLE = Gauge("search_taste_people", "People whose taste is known here")
RULES = Gauge("search_rules", "Business rules in this process")
RULES_AGE = Gauge("search_rules_read_timestamp_seconds", "When the rules were last found to be current")

for _fate in Fate:
    WRITES.labels(_fate.value)
for _reason in ("busy", "failed", "down"):
    PUSHBACK.labels(_reason)
for _reason in ("malformed_key", "malformed_body", "malformed_attributes", "unknown_table", "unknown_transaction"):
    PARKED.labels(_reason)
for _step in Missing:
    DEGRADED.labels(_step.value)
for _outcome in ("ok", "partial", "busy", "down", "refused", "shed"):
    ENGINE_CALLS.labels(_outcome)
for _reason in ("rate", "overloaded", "engine"):
    REQUESTS_SHED.labels(_reason)
for _outcome in ("taken", "dropped", "sent", "retried"):
    CLICKS.labels(_outcome)
for _result in ("used", "doubled", "unusable"):
    TASTE_EVENTS.labels(_result)
for _kind in ("results", "facets", "suggest"):
    COALESCED.labels(_kind)
    for _result in Freshness:
        CACHE.labels(_kind, _result.value)
