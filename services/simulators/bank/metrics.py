"""What the bank measures beside the RED metrics of the kit."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

CHARGES = Counter("sim_bank_charges_total", "Charges executed (or declined), by status", ["status"])
BEHAVIOUR_HITS = Counter("sim_bank_behaviour_hits_total", "Calls that a behaviour struck", ["behaviour"])
SHARD_CALLS = Counter("sim_bank_shard_calls_total", "Calls that came in by a shard's own port", ["shard"])
BATCH = Histogram(
    "sim_bank_commit_batch_charges", "Charges written by one commit", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
)
QUEUED = Gauge("sim_bank_queued_charges", "Charges that wait for a worker, abandoned ones included")
WEBHOOKS = Counter("sim_bank_webhooks_total", "Webhooks by outcome: delivered, failed, dropped", ["outcome"])
