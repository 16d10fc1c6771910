"""Settings of the cron processes, from CRON_*."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.kit.settings import Profile


class CronSettings(BaseSettings):
    """What the API and the schedulers share."""

    model_config = SettingsConfigDict(env_prefix="CRON_", extra="ignore")

    database_url: SecretStr = Field(description="As cron_app, who owns nothing")
    database_pool: int = Field(default=8, ge=2, le=100, description="Connections of the API")
    kafka_bootstrap: str = Field(description="host:port, several separated by commas")
    redis_url: SecretStr = Field(default=SecretStr(""), description="Needed only with lease_store=redis")

    node: str = Field(default="cron", pattern=r"^[A-Za-z0-9._-]{1,60}$", description="Name of this scheduler")
    lease_store: Literal["postgres", "redis"] = "postgres"
    lease_seconds: float = Field(default=10.0, ge=0.5, le=300, description="A dead leader is followed after this long")
    poll_seconds: float = Field(
        default=0.2, gt=0, le=5, description="A follower's pause; a leader's, when nothing is due"
    )
    handover_seconds: float = Field(
        default=0.5, ge=0, le=10, description="Wait for calls in flight before stepping down"
    )

    grace_seconds: float = Field(
        default=10.0, gt=0, le=3600, description="Fired later than this after its due time: late"
    )
    concurrency: int = Field(default=128, ge=1, le=2000, description="Calls in flight")
    retention_days: int = Field(default=30, ge=1, le=3650, description="Finished runs are deleted after this long")
    key_lifetime_hours: float = Field(default=24, gt=0, le=720, description="How long an Idempotency-Key is remembered")
    max_jobs: int = Field(default=100_000, ge=1, description="Jobs of one tenant")
    max_in_flight: int = Field(default=200, ge=1, description="Requests at once in one API process; more get 503")
    kafka_topics: str = Field(
        default=r"cron\.[a-z0-9._-]{1,100}",
        description="Topics a job may write to, as a regular expression of the whole name",
    )
    allow_loopback: bool = Field(default=False, description="Targets on 127.0.0.0/8 and ::1; in the lab profile only")
    trusted_hosts: str = Field(
        default="", description="Names separated by commas, not looked up; in the lab profile only"
    )


class MigrateSettings(BaseSettings):
    """What the one-shot migration needs."""

    model_config = SettingsConfigDict(env_prefix="CRON_", extra="ignore")

    admin_database_url: SecretStr = Field(description="A superuser's URL; names the database to create")
    database_url: SecretStr = Field(description="Its user and password are what cron_app gets")


def refuse_exceptions(process: Profile, settings: CronSettings) -> None:
    """Stop the start with one sentence where targets inside our network are allowed outside the lab, or Redis has no URL."""
    if not process.lab_profile and (settings.allow_loopback or settings.trusted_hosts):
        raise SystemExit("CRON_ALLOW_LOOPBACK and CRON_TRUSTED_HOSTS are for the lab profile only.")
    if settings.lease_store == "redis" and not settings.redis_url.get_secret_value():
        raise SystemExit("CRON_LEASE_STORE=redis needs CRON_REDIS_URL.")
