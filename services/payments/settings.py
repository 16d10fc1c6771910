"""Settings of the payments processes, from PAYMENTS_*."""

from __future__ import annotations

from typing import Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class PaymentsSettings(BaseSettings):
    """What the API, the relay, the resolver and the reconciler share."""

    model_config = SettingsConfigDict(env_prefix="PAYMENTS_", extra="ignore")

    database_url: SecretStr = Field(description="As payments_app, who owns nothing")
    database_pool: int = Field(default=10, ge=2, le=100, description="Connections of one process")
    bank_url: str = Field(pattern=r"^https?://[^/\s]+$", description="Base URL of the bank, without a path")
    bank_shards: str = Field(
        default="",
        pattern=r"^\s*(https?://[^/\s]+(\s+|$))*$",
        description="Base URLs of the bank's shards 0, 1 ..., separated by spaces; empty: PAYMENTS_BANK_URL serves all",
    )
    bank_api_key: SecretStr
    bank_webhook_secret: SecretStr
    bank_timeout_seconds: float = Field(
        default=2.0, gt=0, le=30, description="Bound on one call, connecting and retries included"
    )
    ops_key: SecretStr = Field(
        default=SecretStr(""), description="Bearer token of the operators' endpoints below /ops; empty: there are none"
    )
    kafka_bootstrap: str = Field(description="host:port, several separated by commas")

    budget_seconds: float = Field(
        default=10.0, gt=0, le=60, description="Deadline of a request that names none (Request-Timeout-Ms)"
    )
    budget_maximum_seconds: float = Field(default=60.0, gt=0, le=300, description="A longer one is shortened to this")
    commit_seconds: float = Field(
        default=0.25,
        gt=0,
        le=5,
        description="Of a request's deadline, what the bank call leaves for the commit behind it and the answer",
    )
    max_in_flight: int = Field(
        default=400, ge=1, description="Commands at once in one API process; more get 503. 2 s of a dead bank at 200/s"
    )
    lease_margin_seconds: float = Field(
        default=3.0, gt=0, le=60, description="An operation is taken over this long after its bank call must have ended"
    )
    key_lifetime_hours: float = Field(default=24, gt=0, le=24 * 30, description="Life of an idempotency key")
    cancel_after_seconds: float = Field(
        default=900,
        ge=0,
        description="An authorisation unknown for longer is cancelled at the bank instead of sent again",
    )
    resolver_concurrency: int = Field(default=16, ge=1, le=100)
    resolver_poll_seconds: float = Field(default=0.2, gt=0, le=5)
    sweep_seconds: float = Field(default=30, gt=0, le=3600, description="Pause between sweeps of what has expired")
    relay_poll_seconds: float = Field(default=0.05, gt=0, le=5, description="Pause of an idle relay")
    relay_batch: int = Field(default=1000, ge=1, le=10_000)
    reconciler_interval_seconds: float = Field(
        default=300, ge=1, le=86_400, description="Each round reads the whole day"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.budget_seconds > self.budget_maximum_seconds:
            raise ValueError("budget_seconds is at most budget_maximum_seconds")
        return self

    @property
    def bank_shard_urls(self) -> tuple[str, ...]:
        """Shard 0 first; empty for a bank without shards."""
        return tuple(self.bank_shards.split())

    @property
    def lease_seconds(self) -> float:
        """How long an operation belongs to whoever has taken it up."""
        return self.bank_timeout_seconds + self.lease_margin_seconds


class MigrateSettings(BaseSettings):
    """What the one-shot migration needs."""

    model_config = SettingsConfigDict(env_prefix="PAYMENTS_", extra="ignore")

    admin_database_url: SecretStr = Field(description="A superuser's URL; names the database to create")
    database_url: SecretStr = Field(description="Its user and password are what payments_app gets")
