"""All dashboards, in the order of the console's list."""

from __future__ import annotations

from infra.grafana.catalog import CATALOG
from infra.grafana.checkout import CHECKOUT
from infra.grafana.cron import CRON
from infra.grafana.jvm import JVM
from infra.grafana.lab import LAB
from infra.grafana.overview import OVERVIEW
from infra.grafana.parts import Board
from infra.grafana.payments import PAYMENTS
from infra.grafana.search import SEARCH
from infra.grafana.servers import KAFKA, POSTGRES, REDIS
from infra.grafana.simulators import SIMULATORS
from infra.grafana.webhooks import WEBHOOKS

BOARDS: tuple[Board, ...] = (
    OVERVIEW, LAB, PAYMENTS, CHECKOUT, WEBHOOKS, CRON, CATALOG, SEARCH, SIMULATORS, KAFKA, JVM, POSTGRES, REDIS,
)  # fmt: skip
