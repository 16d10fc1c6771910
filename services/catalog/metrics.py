"""All metrics of the catalogue's processes beyond the RED metrics of the HTTP shell."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

from services.catalog.domain import OfferOutcome

SHED = Counter("catalog_requests_shed_total", "Requests refused because too many were in flight")
IMPORTS_RUNNING = Gauge("catalog_imports_running", "Imports whose lines are being read")
IMPORT_LINES = Counter("catalog_import_lines_total", "Lines of imports by what became of them", ["outcome"])

OFFERS = Counter("catalog_offers_total", "Prices and stocks of feeds by what became of them", ["outcome"])

for offer_outcome in OfferOutcome:
    OFFERS.labels(offer_outcome.value)
for outcome in ("created", "updated", "unchanged", "rejected", "skipped"):
    IMPORT_LINES.labels(outcome)  # counted from 0

SALES = Counter("catalog_sales_total", "Payments' events by what they did to the stock", ["outcome"])
SALES_LAG = Gauge("catalog_sales_lag_records", "Payments' events that wait")

for outcome in ("sold", "oversold", "known", "unrelated", "parked"):
    SALES.labels(outcome)

CONNECT_UP = Gauge("catalog_cdc_connect_up", "1 if Kafka Connect answered the last look")
RUNNING = Gauge("catalog_cdc_connector_running", "1 if the connector and its task run")
TASK_FAILURES = Counter("catalog_cdc_task_failures_total", "Times the connector or its task was seen failed")
SLOT_ACTIVE = Gauge("catalog_cdc_slot_active", "1 if the connector reads from the slot")
SLOT_LOST = Gauge("catalog_cdc_slot_lost", "1 if the slot is missing or the log it needs is gone")
SLOTS_LOST = Counter("catalog_cdc_slots_lost_total", "Times a lost slot was found")
RESNAPSHOTS = Counter("catalog_cdc_resnapshots_total", "Snapshots ordered because the slot was lost")
SLOT_LAG = Gauge("catalog_cdc_slot_lag_bytes", "Log written that the connector has not confirmed")
SLOT_RETAINED = Gauge("catalog_cdc_slot_retained_bytes", "Log on disk that is kept for the slot")
SLOT_SAFE = Gauge(
    "catalog_cdc_slot_safe_bytes", "Log that may still be written before the slot is lost; -1 if there is no bound"
)
