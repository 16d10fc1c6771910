"""The outside world: what it was asked, and how it misbehaves."""

from __future__ import annotations

from infra.grafana.http_panels import red, saturation
from infra.grafana.parts import RATE, Board, Query, series

JOBS = "sim-.+"

SIMULATORS = Board(
    uid="simulators",
    title="Simulators",
    description="The bank, the receivers of webhooks and the targets of cron jobs, with the behaviours that strike.",
    tags=("lab", "simulator"),
    rows=(
        (
            "The bank",
            (
                series(
                    "Charges",
                    "Charges each second by status: the bank's own record.",
                    "ops",
                    Query(f"sum by (status) (rate(sim_bank_charges_total[{RATE}]))", "{{status}}"),
                ),
                series(
                    "Calls struck by a behaviour",
                    "Calls each second that a switched-on behaviour struck.",
                    "reqps",
                    Query(
                        f"sum by (behaviour) (rate(sim_bank_behaviour_hits_total[{RATE}])) or vector(0)",
                        "{{behaviour}}",
                    ),
                ),
                series(
                    "Queue",
                    "Charges that wait for a worker, those of callers who have given up included.",
                    "short",
                    Query("sum(sim_bank_queued_charges)", "charges"),
                ),
                series(
                    "Charges in a commit",
                    "Charges that share a commit, on average.",
                    "short",
                    Query(
                        f"sum(rate(sim_bank_commit_batch_charges_sum[{RATE}])) / clamp_min(sum(rate(sim_bank_commit_batch_charges_count[{RATE}])), 1e-9)",
                        "charges",
                    ),
                ),
                series(
                    "Webhooks of the bank",
                    "Webhooks each second by outcome.",
                    "ops",
                    Query(f"sum by (outcome) (rate(sim_bank_webhooks_total[{RATE}])) or vector(0)", "{{outcome}}"),
                ),
            ),
        ),
        (
            "The receivers and the target",
            (
                series(
                    "Webhooks received",
                    "Webhooks each second by the behaviour that struck them; none is ordinary.",
                    "reqps",
                    Query(f"sum by (behaviour) (rate(sim_receivers_requests_total[{RATE}]))", "{{behaviour}}"),
                ),
                series(
                    "Signatures that do not verify",
                    "Webhooks each second whose signature is missing, wrong or stale.",
                    "reqps",
                    Query(f"sum(rate(sim_receivers_unverified_total[{RATE}]))", "unverified"),
                ),
                series(
                    "Calls of jobs",
                    "Calls of the target each second, by target and what became of them.",
                    "reqps",
                    Query(f"sum by (target, reason) (rate(sim_target_calls_total[{RATE}]))", "{{target}} {{reason}}"),
                ),
            ),
        ),
        ("Rate, errors, duration", red("sim-(bank|target)")),
        ("Saturation", saturation(JOBS)),
    ),
)
