"""Settings of the payments processes, from PAYMENTS_*."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class PaymentsSettings(BaseSettings):
    """What the API, the relay, the resolver and the reconciler share."""

    model_config = SettingsConfigDict(env_prefix="PAYMENTS_", extra="ignore")

    database_url: SecretStr = Field(description="As payments_app, who owns nothing")
    database_pool: int = Field(default=10, ge=2, le=100, description="Connections of one process")
    bank_url: str = Field(pattern=r"^https?://[^/\s]+$", description="Base URL of the bank, without a path")
    bank_api_key: SecretStr
    bank_webhook_secret: SecretStr
    bank_timeout_seconds: float = Field(default=2.0, gt=0, le=30, description="Bound on one call, connecting included")
    kafka_bootstrap: str = Field(description="host:port, several separated by commas")

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

    @property
    def lease_seconds(self) -> float:
        """How long an operation belongs to whoever has taken it up."""
        return self.bank_timeout_seconds + self.lease_margin_seconds


class MigrateSettings(BaseSettings):
    """What the one-shot migration needs."""

    model_config = SettingsConfigDict(env_prefix="PAYMENTS_", extra="ignore")

    admin_database_url: SecretStr = Field(description="A superuser's URL; names the database to create")
    database_url: SecretStr = Field(description="Its user and password are what payments_app gets")


class LabFlag(BaseSettings):
    """Without the rest of ProcessSettings: the migration serves no HTTP."""

    lab_profile: bool = False
