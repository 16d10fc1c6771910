"""What can be measured, in the order of the document."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.figures.checkout import CheckoutFigures
from benchmarks.figures.cron import CronFigures
from benchmarks.figures.payments import PaymentsFigures
from benchmarks.figures.profiles import ProfilesFigures
from benchmarks.figures.search import SearchFigures
from benchmarks.figures.webhooks import WebhooksFigures
from benchmarks.rows import Figures

FIGURES: Mapping[str, type[Figures]] = {
    "payments": PaymentsFigures,
    "checkout": CheckoutFigures,
    "webhooks": WebhooksFigures,
    "cron": CronFigures,
    "search": SearchFigures,
    "profiles": ProfilesFigures,
}
SEARCH = "search"
"""The only one whose size is chosen."""
PROFILES = "profiles"
DEFAULT_DOCS = 50_000
FEWEST_DOCS, MOST_DOCS = 1_000, 10_000_000
ROUNDS, SECONDS = 3, 10
"""What a whole run has at least: alternations of limit and service, length of one measurement."""
