"""Settings of the search processes, from SEARCH_*."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class EngineSettings(BaseSettings):
    """Where the engine is."""

    model_config = SettingsConfigDict(env_prefix="SEARCH_", extra="ignore")

    engine_urls: Annotated[tuple[str, ...], NoDecode] = Field(
        min_length=1, max_length=50, description="Addresses of its nodes, by commas; one that is silent is passed over"
    )
    engine_timeout_seconds: float = Field(default=5, gt=0, le=60, description="Bound on one call that has no deadline")
    engine_try_seconds: float | None = Field(
        default=None,
        gt=0,
        le=60,
        description="Bound on one try of several addresses: a node that stands still must leave time to ask another one",
    )

    @field_validator("engine_urls", mode="before")
    @classmethod
    def _urls(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        urls = tuple(filter(None, (each.strip() for each in value.split(","))))
        if not all(url.startswith(("http://", "https://")) for url in urls):
            raise ValueError("addresses with http:// or https://, separated by commas")
        return urls


class StoreSettings(BaseSettings):
    """The service's own database."""

    model_config = SettingsConfigDict(env_prefix="SEARCH_", extra="ignore")

    database_url: SecretStr = Field(description="As search_app, who owns nothing")


class IndexSettings(EngineSettings, StoreSettings):
    """What everything needs that writes the index."""

    catalog_database_url: SecretStr = Field(
        description="The catalogue's database as catalog_reader; the primary, not a standby"
    )
    index_shards: int = Field(default=0, ge=0, le=1024, description="Of a new index; 0: as its mapping says")
    index_replicas: int | None = Field(default=None, ge=0, le=20, description="Of a new index, as its mapping says")
    bulk_bytes: int = Field(
        default=4 * 1024 * 1024, ge=1024, le=64 * 1024 * 1024, description="Bound on the body of one bulk request"
    )
    bulk_timeout_seconds: float = Field(
        default=10,
        gt=0,
        le=600,
        description="A request that an engine took while it came back may never be answered; what is sent again does no harm",
    )
    backoff_seconds: float = Field(default=0.1, gt=0, le=60, description="After the engine's first 429 or silence")
    backoff_limit_seconds: float = Field(default=5, gt=0, le=600, description="Between two tries at most")
    portion: int = Field(default=500, ge=1, le=5000, description="Products read by one statement")


class IndexerSettings(IndexSettings):
    """The indexer's own."""

    kafka_bootstrap: str = Field(min_length=1, description="host:port, several separated by commas")
    indexer_batch: int = Field(
        default=2000,
        ge=1,
        le=5000,
        description="Records taken from the topic at once; a product that changed often meanwhile is read and written once",
    )
    hold_seconds: float = Field(
        default=1, gt=0, le=60, description="While a batch waits, the broker is shown at this pace that we are alive"
    )
    session_seconds: float = Field(
        default=6,
        ge=1,
        le=300,
        description="The partitions of a killed indexer wait for so long; brokers allow no less than 6 unless told",
    )


class ReindexSettings(IndexSettings):
    """Of `python -m services.search index` and `audit`."""

    reindex_documents_per_second: float = Field(
        default=3000, gt=0, le=1_000_000, description="So that queries and the log's tail go on meanwhile"
    )
    patience_seconds: float = Field(
        default=120, gt=0, le=86_400, description="An engine or database that is away so long ends the command"
    )
    audit_portion: int = Field(default=2000, ge=10, le=5000, description="Products in one range that is compared")
    audit_settle_seconds: float = Field(
        default=5, ge=0, le=600, description="A difference must last so long: changes are on their way all the time"
    )


class CanarySettings(EngineSettings):
    """The canary's own."""

    canary_database_url: SecretStr = Field(description="The catalogue's database as catalog_app: it changes a product")
    canary_interval_seconds: float = Field(default=1, gt=0, le=3600, description="Between two changes")
    canary_poll_seconds: float = Field(default=0.1, gt=0, le=60, description="Between two looks; the resolution")


class ApiSettings(EngineSettings):
    """The API's own."""

    cursor_key: SecretStr = Field(min_length=16, description="Signs cursors; the same for all processes of the API")
    deadline_seconds: float = Field(default=1, gt=0, le=60, description="For callers that name no Request-Timeout-Ms")
    deadline_limit_seconds: float = Field(default=5, gt=0, le=60, description="At most, whatever a caller names")
    engine_slots: int = Field(default=16, ge=1, le=1000, description="Calls to the engine at once, of one process")
    engine_queue: int = Field(
        default=64, ge=0, le=10_000, description="Calls that wait for a slot; the newest goes first"
    )
    queue_seconds: float = Field(default=0.25, ge=0, le=10, description="No call waits longer for a slot")
    max_in_flight: int = Field(default=1000, ge=1, le=100_000, description="Requests at once, of one process")
    cache_bytes: int = Field(default=64 * 1024 * 1024, ge=0, le=4 * 1024**3, description="Bound on remembered answers")
    cache_seconds: float = Field(default=60, gt=0, le=3600, description="An answer is at most so old, ± cache_jitter")
    cache_jitter: float = Field(default=0.2, ge=0, le=0.9)
    cache_stale_seconds: float = Field(
        default=900, ge=0, le=86_400, description="Beyond that, for answers marked as cached when the engine is silent"
    )
    client_rate: float = Field(default=200, gt=0, le=1_000_000, description="Requests a second of one client")
    client_burst: float = Field(default=400, ge=1, le=1_000_000)
    client_header: str = Field(
        default="",
        pattern=r"^[A-Za-z-]{0,64}$",
        description="Header in which a gateway names the client; empty: clients are told apart by their address",
    )
    enough: int = Field(
        default=20, ge=1, le=1000, description="With fewer exact results, typos and missing words are allowed, too"
    )
    total_limit: int = Field(default=10_000, ge=1, le=1_000_000, description="Results are counted up to this")
    alias_seconds: float = Field(default=1, gt=0, le=60, description="Between two looks at which index is current")
    popular_seconds: float = Field(default=30, gt=0, le=3600, description="Between two looks at what is popular")
    ranking: str = Field(
        default="personalised", pattern=r"^[a-z0-9_]{1,40}$", description="Where no experiment decides"
    )


class RelevanceSettings(BaseSettings):
    """Rules, clicks, taste and experiments. What is not set is off."""

    model_config = SettingsConfigDict(env_prefix="SEARCH_", extra="ignore")

    database_url: SecretStr | None = Field(default=None, description="As search_app; for business rules")
    rules_key: SecretStr | None = Field(
        default=None, min_length=16, description="Bearer token of who may read and change business rules"
    )
    rules_seconds: float = Field(default=2, gt=0, le=600, description="Between two looks for changed rules")
    kafka_bootstrap: str = Field(default="", description="For the click log; several separated by commas")
    click_buffer: int = Field(default=10_000, ge=1, le=1_000_000, description="Clicks that wait; more are dropped")
    click_drain_seconds: float = Field(default=3, ge=0, le=60, description="For what waits when the process stops")
    taste_people: int = Field(default=50_000, ge=1, le=10_000_000, description="Of the others the longest silent go")
    taste_hours: float = Field(default=14 * 24, gt=0, le=90 * 24, description="Of the click log read when it starts")
    experiment: str = Field(
        default="",
        pattern=r"^([a-z0-9-]{1,40}:[a-z0-9_]{1,40}=[0-9]{1,6}(,[a-z0-9_]{1,40}=[0-9]{1,6}){0,9})?$",
        description="name:ranking=share,ranking=share; empty: everybody has SEARCH_RANKING",
    )


class MigrateSettings(EngineSettings, StoreSettings):
    """What the one-shot migration needs."""

    admin_database_url: SecretStr = Field(description="A superuser's URL; names the database to create")
    index_shards: int = Field(default=0, ge=0, le=1024)
    index_replicas: int | None = Field(default=None, ge=0, le=20)
