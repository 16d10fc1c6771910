"""Settings of the catalogue's processes, from CATALOG_*."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class CatalogSettings(BaseSettings):
    """What every process of the catalogue shares."""

    model_config = SettingsConfigDict(env_prefix="CATALOG_", extra="ignore")

    database_url: SecretStr = Field(description="As catalog_app, who owns nothing")


class ApiSettings(CatalogSettings):
    """The API's own."""

    database_pool: int = Field(default=10, ge=2, le=100, description="Connections of one API process")
    max_in_flight: int = Field(default=200, ge=1, le=10_000, description="Requests at once; more get 503")
    max_imports: int = Field(default=2, ge=1, le=50, description="Imports at once in one API process; more get 503")
    import_portion: int = Field(default=500, ge=1, le=5_000, description="Lines in one commit of an import")
    import_bad_lines: int = Field(default=10_000, ge=0, le=1_000_000, description="An import with more is stopped")
    key_lifetime_hours: float = Field(default=24, gt=0, le=720, description="How long an Idempotency-Key is remembered")
    retention_days: int = Field(
        default=30, ge=1, le=3650, description="Imports are forgotten so long after their last line"
    )


class SalesSettings(CatalogSettings):
    """Of the process that takes what is paid off the stock."""

    kafka_bootstrap: str = Field(description="host:port, several separated by commas")
    sales_merchant: str = Field(
        pattern=r"^[!-~]{1,100}$", description="The merchant of payments whose customers buy from this catalogue"
    )
    sales_batch: int = Field(default=200, ge=1, le=5_000, description="Events in one poll")
    sales_days: int = Field(default=30, ge=1, le=3650, description="Popularity counts the sales of so many days")


class MigrateSettings(CatalogSettings):
    """What the one-shot migration needs. The users and passwords of the URLs are what those roles get."""

    admin_database_url: SecretStr = Field(description="A superuser's URL; names the database to create")
    reader_database_url: SecretStr | None = Field(
        default=None, description="As catalog_reader; without it there is none"
    )
    cdc_database_url: SecretStr | None = Field(default=None, description="As catalog_cdc; without it there is none")


class ConnectorSettings(BaseSettings):
    """What registers and watches the connector. `cdc_database_url` is what Connect is told: an address as seen from there."""

    model_config = SettingsConfigDict(env_prefix="CATALOG_", extra="ignore")

    connect_url: str = Field(pattern=r"^https?://[^/\s]+/?$", description="Kafka Connect's REST interface")
    cdc_database_url: SecretStr = Field(description="As catalog_cdc")
    cdc_snapshot: Literal["initial", "no_data"] = Field(
        default="initial",
        description="initial: every product once, then the changes. no_data: only changes from now on; an index is built apart",
    )
    cdc_lost_slot: Literal["resnapshot", "exit"] = Field(
        default="resnapshot", description="What follows when the slot is lost, after the log and the metric said so"
    )
    cdc_poll_ms: int = Field(
        default=20, ge=1, le=10_000, description="Debezium's pause; its default of 500 is all of it delay"
    )
    cdc_heartbeat_ms: int = Field(
        default=5_000, ge=100, le=600_000, description="An idle database's log moves on so often"
    )
    cdc_watch_seconds: float = Field(
        default=1.0, gt=0, le=60, description="Pause between two looks at connector and slot"
    )
    cdc_start_seconds: float = Field(
        default=120, gt=0, le=3600, description="Connector and slot are there by then, or it exits 1"
    )
