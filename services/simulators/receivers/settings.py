"""Settings of the simulated receivers."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ReceiversSettings(BaseSettings):
    """Prefix SIM_RECEIVERS_. The database is created on start if it is absent, so the URL's user needs that right then."""

    model_config = SettingsConfigDict(env_prefix="SIM_RECEIVERS_", extra="ignore")

    database_url: str = Field(pattern=r"^postgres(ql)?://", description="postgresql://user:password@host:port/name")
    hooks_port: int = Field(ge=0, le=65535, description="Port of /r/<number>; HTTP_PORT has health and switches")
    count: int = Field(default=1000, ge=1, le=100_000, description="Receivers 1 to this number exist")
    record: bool = Field(
        default=True, description="False for benchmarks: answered without a record, so nothing is proven"
    )
    secret: SecretStr = Field(
        min_length=8, description="The signing secret of receiver n is whsec_ and the base64 of SHA-256('<this>/<n>')"
    )
