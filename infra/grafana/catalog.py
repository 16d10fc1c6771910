"""Catalogue: writes and imports, and whether the log of its database is read."""

from __future__ import annotations

from infra.grafana.http_panels import red, routes, saturation
from infra.grafana.parts import RATE, Board, Query, number, series

JOBS = "catalog-.+"

CATALOG = Board(
    uid="catalog",
    title="Catalogue",
    description="Products in, imports, and paid orders, the change data capture that search is fed by: connector, slot, log kept.",
    tags=("lab", "system", "week7"),
    rows=(
        (
            "Promises",
            (
                number(
                    "Connector",
                    "1 while connector and task run.",
                    "short",
                    "max(catalog_cdc_connector_running)",
                    limit=1,
                    floor=True,
                ),
                number(
                    "Log not read",
                    "Log that the connector has not confirmed.",
                    "bytes",
                    "max(catalog_cdc_slot_lag_bytes)",
                    limit=268435456,
                ),
                number(
                    "Slots lost",
                    "Times the slot was found lost since the watcher started; each leads to a new snapshot.",
                    "short",
                    "sum(catalog_cdc_slots_lost_total)",
                    limit=1,
                ),
                number("Imports", "Imports whose lines are being read.", "short", "sum(catalog_imports_running)"),
            ),
        ),
        ("Rate, errors, duration", red(JOBS, errors_below=0.001)),
        (
            "Changes",
            (
                series(
                    "Log kept for the slot",
                    "On disk for the slot, and not yet confirmed by the connector.",
                    "bytes",
                    Query("max(catalog_cdc_slot_retained_bytes)", "kept"),
                    Query("max(catalog_cdc_slot_lag_bytes)", "not confirmed"),
                ),
                series(
                    "Failures",
                    "Failed tasks and lost slots each second.",
                    "short",
                    Query(f"sum(rate(catalog_cdc_task_failures_total[{RATE}]))", "task failed"),
                    Query(f"sum(rate(catalog_cdc_slots_lost_total[{RATE}]))", "slot lost"),
                ),
                series(
                    "Imported lines",
                    "Lines of imports each second by what became of them.",
                    "short",
                    Query(f"sum by (outcome) (rate(catalog_import_lines_total[{RATE}]))", "{{outcome}}"),
                ),
                routes("catalog-api"),
            ),
        ),
        (
            "Sales",
            (
                series(
                    "Paid orders",
                    "Payments' events each second by what they did to the stock; oversold: paid for and not there.",
                    "ops",
                    Query(f"sum by (outcome) (rate(catalog_sales_total[{RATE}]))", "{{outcome}}"),
                ),
                series(
                    "Payments' events that wait",
                    "Records of the topic that catalog-sales has not worked on.",
                    "short",
                    Query("max(catalog_sales_lag_records)", "waiting"),
                    limit=1000,
                ),
            ),
        ),
        ("Saturation", saturation(JOBS)),
    ),
)
