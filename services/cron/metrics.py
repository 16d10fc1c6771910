"""All metrics of the cron processes beyond the RED metrics of the HTTP shell."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

LEADER = Gauge("cron_leader", "1 in the scheduler that holds the lease, 0 in one that stands by")
EPOCH = Gauge("cron_epoch", "Epoch of the lease while it is held here, else 0")
RENEW_FAILURES = Counter("cron_lease_renew_failures_total", "Renewals without an answer")
TERMS_ENDED = Counter("cron_terms_ended_total", "Leaderships that ended here", ["reason"])
CLOCK_OFFSET = Gauge(
    "cron_clock_offset_seconds", "This node's wall clock minus the database's; nothing is decided by it"
)
RUNS = Counter("cron_runs_total", "Instants by what became of them", ["state"])
LATENESS = Histogram(
    "cron_lateness_seconds",
    "From the jittered instant to the first call of the target",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0),
)
TARGET_CALLS = Histogram(
    "cron_target_call_seconds",
    "Time of a call to a target; outcome is delivered or undelivered",
    ["target", "outcome"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
IN_FLIGHT = Gauge("cron_runs_in_flight", "Runs that are being fired")
BACKLOG = Gauge("cron_runs_waiting", "Runs that are due and wait for a slot")
BACKLOG_OLDEST = Gauge(
    "cron_runs_waiting_oldest_seconds", "How long the oldest of them has been due; 0 if there is none"
)
SHED = Counter("cron_requests_shed_total", "Requests refused because too many were in flight")
