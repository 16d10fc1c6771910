"""What the receivers measure; the hot path has no RED metrics of the kit."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

REQUESTS = Counter("sim_receivers_requests_total", "Webhooks recorded, by what struck them", ["behaviour"])
UNVERIFIED = Counter("sim_receivers_unverified_total", "Webhooks whose signature is missing, wrong or stale")
REFUSED = Counter("sim_receivers_refused_total", "Requests answered without a record, by status", ["status"])
BATCH = Histogram(
    "sim_receivers_commit_batch_requests",
    "Requests written by one commit",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
)
