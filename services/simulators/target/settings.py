"""Settings of the simulated target."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class TargetSettings(BaseSettings):
    """Prefix SIM_TARGET_. The database is created on start if it is absent, so the URL's user needs that right then."""

    model_config = SettingsConfigDict(env_prefix="SIM_TARGET_", extra="ignore")

    database_url: str = Field(pattern=r"^postgres(ql)?://", description="postgresql://user:password@host:port/name")
    remembers_seconds: float = Field(
        default=86_400, gt=0, le=10**9, description="How long an applied run id is known; a lab shrinks it"
    )
