"""Settings of the simulated bank."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class BankSettings(BaseSettings):
    """Prefix SIM_BANK_. The database is created on start if it is absent, so the URL's user needs that right then."""

    model_config = SettingsConfigDict(env_prefix="SIM_BANK_", extra="ignore")

    database_url: str = Field(pattern=r"^postgres(ql)?://", description="postgresql://user:password@host:port/name")
    api_key: SecretStr = Field(min_length=8, description="What merchants send as `Authorization: Bearer`")
    webhook_url: str = Field(default="", pattern=r"^(https?://.+)?$", description="Where webhooks go once switched on")
    webhook_secret: SecretStr = Field(default=SecretStr(""), description="Key of the signature's HMAC")
