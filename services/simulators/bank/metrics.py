"""What the bank measures beside the RED metrics of the kit."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

CHARGES = Counter("sim_bank_charges_total", "Charges executed (or declined), by status", ["status"])
BEHAVIOUR_HITS = Counter("sim_bank_behaviour_hits_total", "Calls that a behaviour struck", ["behaviour"])
BATCH = Histogram(
    "sim_bank_commit_batch_charges", "Charges written by one commit", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
)
WEBHOOKS = Counter("sim_bank_webhooks_total", "Webhooks by outcome: delivered, failed, dropped", ["outcome"])
