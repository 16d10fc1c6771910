"""Checkout before the payments system, all as real processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tests.integration.payments.stack import Stack
from tests.stack import Answer


@dataclass
class CheckoutStack(Stack):
    """Roles as there, and `checkout`."""

    fixed: ClassVar[tuple[str, ...]] = ("bank", "api", "checkout")

    def environment(self) -> dict[str, str]:
        return {"CHECKOUT_PAYMENTS_URL": f"http://127.0.0.1:{self.ports['api']}", **super().environment()}

    def module(self, role: str) -> list[str]:
        return ["services.checkout", "api"] if role == "checkout" else super().module(role)

    async def till(self, method: str, path: str, **request: Any) -> Answer:
        """One request to checkout."""
        return await self.request(method, path, role="checkout", **request)

    async def check_out(
        self, reference: str, *, key: str | None = None, headers: Mapping[str, str] | None = None, **changes: Any
    ) -> Answer:
        """Pay 10.00 EUR; the card is `tok_<reference>`."""
        body = {"amount": 1000, "currency": "EUR", "source": f"tok_{reference}", "reference": reference} | changes
        return await self.till("POST", "/v1/checkouts", json=body, key=key or f"key-{reference}", headers=headers)
