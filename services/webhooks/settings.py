"""Settings of the webhooks processes, from WEBHOOKS_*."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from services.webhooks.domain import Schedule

DAY = 86_400.0


class WebhooksSettings(BaseSettings):
    """What the API, the dispatcher, the source and the keeper share."""

    model_config = SettingsConfigDict(env_prefix="WEBHOOKS_", extra="ignore")

    database_url: SecretStr = Field(description="As webhooks_app, who owns nothing")
    database_pool: int = Field(default=8, ge=2, le=100, description="Connections of one process")
    kafka_bootstrap: str = Field(
        default="", description="host:port, several separated by commas; source and keeper only"
    )
    secrets_key: SecretStr = Field(
        min_length=16,
        description="Seals endpoint secrets at rest and signs page sessions; from a secret store, not guessable",
    )

    schedule: Annotated[tuple[float, ...], NoDecode] = Field(
        default=(0, 5, 300, 1800, 7200, 18_000, 36_000, 36_000),
        min_length=1,
        max_length=50,
        description="Seconds before each attempt, after the failure of the one before; as many attempts as entries",
    )
    schedule_factor: float = Field(default=1.0, gt=0, le=10, description="Multiplies the schedule; labs shrink it")
    schedule_jitter: float = Field(default=0.2, ge=0, le=0.9, description="Each delay is drawn from ± this share")
    retry_after_limit_seconds: float = Field(
        default=3600, gt=0, le=DAY, description="No receiver's Retry-After delays an attempt by more"
    )
    timeout_seconds: float = Field(default=15, gt=0, le=60, description="Bound on one attempt, connecting included")
    lease_margin_seconds: float = Field(
        default=5, gt=0, le=120, description="A claim is taken back this long after its attempt must have ended"
    )
    disable_after_seconds: float = Field(
        default=5 * DAY, gt=0, le=60 * DAY, description="An endpoint that only failed for this long is disabled"
    )
    rotation_seconds: float = Field(
        default=DAY, ge=0, le=30 * DAY, description="A rotated secret goes on signing beside the new one for this long"
    )
    allow_loopback: bool = Field(default=False, description="Endpoints may be on this machine; lab profile only")
    trusted_hosts: Annotated[frozenset[str], NoDecode] = Field(
        default=frozenset(), description="Host names whose addresses are not looked at, by commas; lab profile only"
    )

    slots: int = Field(default=1000, ge=2, le=20_000, description="Attempts at once in one dispatcher process")
    slow_slots: int = Field(
        default=400,
        ge=1,
        le=20_000,
        description="Of these, what all endpoints that time out or are not known yet may hold; a quarter is for the latter only",
    )
    slow_after_seconds: float = Field(
        default=2, gt=0, le=60, description="An attempt that has taken this long makes its endpoint a slow one"
    )
    rest_limit_seconds: float = Field(
        default=300,
        ge=0,
        le=DAY,
        description="An endpoint that times out again and again is left alone in between, at most so long; shrunk as the schedule",
    )
    endpoint_in_flight: int = Field(
        default=4, ge=1, le=1000, description="Attempts at once to one endpoint, unless it says otherwise"
    )
    claim_batch: int = Field(default=200, ge=1, le=5000)
    poll_seconds: float = Field(default=0.05, gt=0, le=5, description="Pause between looks for endpoints with due work")

    max_backlog: int = Field(
        default=1_000_000, ge=1, description="Undelivered deliveries of one application; beyond it messages get 429"
    )
    max_in_flight: int = Field(default=500, ge=1, description="Requests at once in one API process; more get 503")
    max_endpoints: int = Field(default=5_000, ge=1, description="Endpoints of one application")
    retention_days: float = Field(
        default=30, gt=0, le=400, description="Messages are kept, and deduplicated, this long"
    )
    sweep_seconds: float = Field(default=60, gt=0, le=3600)
    source_batch: int = Field(default=500, ge=1, le=5000)
    source_session_seconds: float = Field(
        default=10,
        ge=1,
        le=300,
        description="The partitions of a killed source wait for so long; brokers allow no less than 6 unless told",
    )

    @field_validator("schedule", mode="before")
    @classmethod
    def _seconds(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            seconds = tuple(float(part) for part in value.split(","))
        except ValueError:
            raise ValueError("numbers of seconds, separated by commas") from None
        if not all(0 <= each <= 30 * DAY for each in seconds):
            raise ValueError("each is 0 to 2592000 seconds")
        return seconds

    @field_validator("trusted_hosts", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        return frozenset(filter(None, value.split(","))) if isinstance(value, str) else value

    @property
    def retries(self) -> Schedule:
        """The schedule, shrunk."""
        return Schedule(
            tuple(each * self.schedule_factor for each in self.schedule),
            jitter=self.schedule_jitter,
            retry_after_limit=self.retry_after_limit_seconds,
        )

    @property
    def rest_limit(self) -> float:
        """Seconds, shrunk as the schedule is."""
        return self.rest_limit_seconds * self.schedule_factor

    @property
    def lease_seconds(self) -> float:
        """How long a claimed delivery belongs to its dispatcher."""
        return self.timeout_seconds + self.lease_margin_seconds


class MigrateSettings(BaseSettings):
    """What the one-shot migration needs."""

    model_config = SettingsConfigDict(env_prefix="WEBHOOKS_", extra="ignore")

    admin_database_url: SecretStr = Field(description="A superuser's URL; names the database to create")
    database_url: SecretStr = Field(description="Its user and password are what webhooks_app gets")
