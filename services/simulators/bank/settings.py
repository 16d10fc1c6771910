"""Settings of the simulated bank."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class BankSettings(BaseSettings):
    """Prefix SIM_BANK_. The database is created on start if it is absent, so the URL's user needs that right then."""

    model_config = SettingsConfigDict(env_prefix="SIM_BANK_", extra="ignore")

    database_url: str = Field(pattern=r"^postgres(ql)?://", description="postgresql://user:password@host:port/name")
    api_key: SecretStr = Field(min_length=8, description="What merchants send as `Authorization: Bearer`")
    shard_ports: str = Field(
        default="",
        pattern=r"^([0-9]{1,5}(,[0-9]{1,5})*)?$",
        description="Ports of the shards 0, 1 ... beside HTTP_PORT, which serves every card; separated by commas",
    )
    webhook_url: str = Field(default="", pattern=r"^(https?://.+)?$", description="Where webhooks go once switched on")
    behaviours: str = Field(
        default="", description="Lab profile: JSON object of behaviours that are on from the start, by name"
    )
    webhook_secret: SecretStr = Field(default=SecretStr(""), description="Key of the signature's HMAC")

    @property
    def shards(self) -> dict[int, int]:
        """Number of the shard by its port."""
        return {int(port): number for number, port in enumerate(filter(None, self.shard_ports.split(",")))}
