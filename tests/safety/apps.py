"""The application of every service that is asked over HTTP, built and not started: what routes there are."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute

from services.catalog.app import create_app as catalog_app
from services.catalog.settings import ApiSettings as CatalogSettings
from services.checkout.app import create_app as checkout_app
from services.checkout.settings import CheckoutSettings
from services.cron.app import create_app as cron_app
from services.cron.settings import CronSettings
from services.kit.settings import ProcessSettings
from services.payments.app import create_app as payments_app
from services.payments.settings import PaymentsSettings
from services.search.app import create_app as search_app
from services.search.settings import ApiSettings as SearchSettings
from services.webhooks.app import create_app as webhooks_app
from services.webhooks.settings import WebhooksSettings

NOWHERE = "postgresql://nobody:x@127.0.0.1:1/nothing"
BROKER = "127.0.0.1:1"


def _payments(process: ProcessSettings) -> FastAPI:
    chosen = {
        "database_url": NOWHERE, "bank_url": "http://127.0.0.1:1", "bank_api_key": "x", "bank_webhook_secret": "x",
        "kafka_bootstrap": BROKER, "ops_key": "x",
    }  # fmt: skip
    return payments_app(process, PaymentsSettings.model_validate(chosen))


def _checkout(process: ProcessSettings) -> FastAPI:
    return checkout_app(process, CheckoutSettings.model_validate({"payments_url": "http://127.0.0.1:1"}))


def _webhooks(process: ProcessSettings) -> FastAPI:
    chosen = {"database_url": NOWHERE, "kafka_bootstrap": BROKER, "secrets_key": "a-key-for-tests-only"}
    return webhooks_app(process, WebhooksSettings.model_validate(chosen))[0]


def _cron(process: ProcessSettings) -> FastAPI:
    return cron_app(process, CronSettings.model_validate({"database_url": NOWHERE, "kafka_bootstrap": BROKER}))


def _catalog(process: ProcessSettings) -> FastAPI:
    return catalog_app(process, CatalogSettings.model_validate({"database_url": NOWHERE}))


def _search(process: ProcessSettings) -> FastAPI:
    chosen = {"engine_urls": ("http://127.0.0.1:1",), "cursor_key": "a-key-for-tests-only"}
    return search_app(process, SearchSettings.model_validate(chosen))[0]


APPS: Mapping[str, Callable[[ProcessSettings], FastAPI]] = {
    "payments": _payments,
    "checkout": _checkout,
    "webhooks": _webhooks,
    "cron": _cron,
    "catalog": _catalog,
    "search": _search,
}


def built(service: str, *, lab: bool = True) -> FastAPI:
    """The application of one service."""
    return APPS[service](ProcessSettings(http_port=1, lab_profile=lab))


@dataclass(frozen=True, order=True)
class Route:
    """One method of one path, as the service declares it."""

    path: str
    method: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def routes_of(app: FastAPI) -> frozenset[Route]:
    """Every route, those too that no document shows."""
    return frozenset(
        Route(path, method) for path, methods in _paths(app.routes) for method in methods if method != "HEAD"
    )


def _paths(routes: list[BaseRoute]) -> list[tuple[str, set[str]]]:
    """As documents write them: without the converter of a parameter."""
    return [
        (re.sub(r":[a-z]+}", "}", str(context.path)), set(context.methods or ()))
        for context in iter_route_contexts(routes)
    ]


def documented_in(document: Mapping[str, Any]) -> frozenset[Route]:
    """The routes of an OpenAPI document."""
    return frozenset(Route(path, method.upper()) for path, methods in document["paths"].items() for method in methods)
