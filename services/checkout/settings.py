"""Settings of the checkout process, from CHECKOUT_*."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class CheckoutSettings(BaseSettings):
    """It keeps nothing, so there is no database here and no secret: the caller's key is passed on."""

    model_config = SettingsConfigDict(env_prefix="CHECKOUT_", extra="ignore")

    payments_url: str = Field(pattern=r"^https?://[^/\s]+$", description="Base URL of payments, without a path")
    budget_seconds: float = Field(
        default=2.0, gt=0, le=60, description="Deadline of a request that names none: what a person at a till waits for"
    )
    budget_maximum_seconds: float = Field(default=10.0, gt=0, le=300, description="A longer one is shortened to this")
    max_in_flight: int = Field(
        default=256, ge=1, le=10_000, description="Requests at once; more get 503. 2 s of a dead payments at 128/s"
    )
    attempts: int = Field(default=3, ge=1, le=10, description="Of one call to payments, the first included")
    retry_share: float = Field(default=0.1, ge=0, le=1, description="Retries at most, as a share of calls")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.budget_seconds > self.budget_maximum_seconds:
            raise ValueError("budget_seconds is at most budget_maximum_seconds")
        return self
