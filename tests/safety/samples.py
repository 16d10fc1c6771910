"""For each route with a body one that the service takes. A route without an entry here is a route that no test has thought of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from services.kit import ids
from tests.integration.catalog.stack import body as product_body
from tests.integration.search.stack import some
from tests.safety.apps import Route

Make = Callable[[Mapping[str, str], str], Any]
"""What becomes the JSON of a body, or its bytes; given what its sender owns, and a text that was never used before."""


def _payment(_: Mapping[str, str], new: str) -> Any:
    return {"amount": 1000, "currency": "EUR", "source": f"tok_{new}", "reference": new}


def _job(_: Mapping[str, str], new: str) -> Any:
    return {
        "name": new,
        "schedule": {"cron": "0 0 1 1 *", "zone": "UTC"},
        "target": {"http": {"url": "http://127.0.0.1:9999/"}},
    }


def _click(_: Mapping[str, str], new: str) -> Any:
    return {"clicks": [{"user": new, "kind": "click", "product": ids.encode("prd", some(0).id)}]}


def _fixed(value: Any) -> Make:
    return lambda *_: value


BODIES: Mapping[str, Mapping[str, Make]] = {
    "payments": {
        "POST /v1/payments": _payment,
        "POST /v1/payments/{payment_id}/capture": _fixed({"amount": 1}),
        "POST /v1/payments/{payment_id}/void": _fixed({}),
        "POST /v1/payments/{payment_id}/refunds": _fixed({"amount": 1}),
        "POST /v1/bank-events": lambda _, new: {"id": new, "type": "operation.completed", "reference": None},
        "PUT /ops/breakers/{shard}": _fixed({"state": "closed"}),
    },
    "checkout": {"POST /v1/checkouts": _payment},
    "webhooks": {
        "POST /v1/endpoints": lambda _, new: {"url": f"http://127.0.0.1:9999/{new}"},
        "PATCH /v1/endpoints/{endpoint}": _fixed({"description": "changed"}),
        "POST /v1/endpoints/{endpoint}/secret/rotate": _fixed({}),
        "PUT /v1/event-types/{name}": _fixed({"description": "changed"}),
        "POST /v1/messages": lambda _, new: {"event_id": new, "event_type": "order.paid", "payload": {}},
        "POST /v1/messages/{message}/resend": lambda own, _: {"endpoint": own["endpoint"]},
        "POST /v1/replays": lambda own, _: {"message": own["message"], "endpoint": own["endpoint"]},
        "POST /endpoints/{endpoint}/page/login": _fixed(b"key=nobody-has-this-key"),
        "POST /endpoints/{endpoint}/page/resend": lambda own, _: f"token=guessed&message={own['message']}".encode(),
        "POST /endpoints/{endpoint}/page/verify": _fixed(b"token=guessed&id=x"),
    },
    "cron": {
        "POST /v1/jobs": _job,
        "PATCH /v1/jobs/{job_id}": _fixed({"enabled": False}),
        "POST /v1/jobs/{job_id}/run": _fixed(None),
    },
    "catalog": {
        "POST /v1/products": lambda _, new: product_body(new),
        "PUT /v1/products/{product_id}": lambda own, new: product_body(new, variants=[{"sku": own["sku"], "price": 5}]),
        "PATCH /v1/products/{product_id}": _fixed({"title": "changed"}),
        "PUT /v1/products/{product_id}/stock": _fixed({"stock": 1}),
        "PUT /v1/products/{product_id}/price": _fixed({"price": 1}),
        "PUT /v1/products/{product_id}/popularity": _fixed({"popularity": 1}),
        "PUT /v1/products/{product_id}/variants/{sku}/stock": _fixed({"stock": 1}),
        "PUT /v1/products/{product_id}/variants/{sku}/price": _fixed({"price": 1}),
        "POST /v1/brands": lambda _, new: {"name": new},
        "PUT /v1/brands/{brand_id}": lambda _, new: {"name": new},
        "POST /v1/categories": lambda _, new: {"path": new[:40], "names": {"en": new}},
        "PUT /v1/categories/{category_id}": lambda _, new: {"names": {"en": new}},
        "POST /v1/imports": lambda _, new: product_body(new),
        "POST /v1/offers": lambda own, _: {"offers": [{"sku": own["sku"], "price": 5}]},
    },
    "search": {
        "PUT /v1/rules/{rule_id}": lambda _, new: {
            "action": "pin",
            "products": [ids.encode("prd", some(0).id)],
            "query": new,
        },
        "POST /v1/clicks": _click,
    },
}

FORM = "application/x-www-form-urlencoded"
MEDIA_TYPES = {"POST /v1/imports": "application/x-ndjson"}


class NoSample(LookupError):
    """A route of which nobody has said what it takes; the message says where to add it."""


def body_for(service: str, route: Route, owns: Mapping[str, str], new: str) -> tuple[bytes | None, dict[str, str]]:
    """A good body and its headers. Raises NoSample for a route that takes one and has none here."""
    make = BODIES.get(service, {}).get(str(route))
    if make is None:
        if route.method in ("GET", "DELETE"):
            return None, {}
        raise NoSample(f"{service} {route} has no body in tests/safety/samples.py")
    value = make(owns, new)
    if value is None:
        return None, {}
    if isinstance(value, bytes):
        return value, {"Content-Type": FORM}
    return msgspec.json.encode(value), {"Content-Type": MEDIA_TYPES.get(str(route), "application/json")}


def path_for(route: Route, owns: Mapping[str, str]) -> str:
    """The path with its parameters filled. Raises NoSample."""
    try:
        return route.path.format(**owns)
    except KeyError as missing:
        raise NoSample(f"{route}: tests/safety/city.py does not say what fills {missing}") from None
