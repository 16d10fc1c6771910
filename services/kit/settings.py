"""Settings come from the environment; a wrong one stops the start with its name and what is allowed."""

from __future__ import annotations

from typing import Literal, Protocol, TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

LAB_ONLY = "lab-only"
"""Every default secret of docker-compose.yml contains this word; outside the lab profile such a secret is refused."""


class ProcessSettings(BaseSettings):
    """What every process has, whichever service it belongs to (no prefix)."""

    model_config = SettingsConfigDict(extra="ignore")

    lab_profile: bool = Field(default=False, description="Allows default secrets, demo merchants and failpoints")
    lab_prefix: str = Field(default="", pattern=r"^[a-z0-9_]{0,40}$", description="Put before topics and groups")
    http_host: str = Field(default="127.0.0.1", description="Address that health, metrics and API listen on")
    http_port: int = Field(ge=1, le=65535, description="Port of the same")
    otlp_endpoint: str = Field(
        default="",
        pattern=r"^(https?://[^/\s:]+(:[0-9]{1,5})?(/\S*)?)?$",
        description="OTLP/HTTP base URL for traces; empty switches them off",
    )
    trace_ratio: float = Field(default=1.0, ge=0, le=1, description="Share of the traces begun here that are kept")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    max_body_bytes: int = Field(default=64 * 1024, ge=1024, le=16 * 1024 * 1024)
    drain_seconds: int = Field(default=10, ge=0, le=300, description="Bound on finishing requests after SIGTERM")


S = TypeVar("S", bound=BaseSettings)


def load(kind: type[S]) -> S:
    """Read settings of this kind from the environment, or exit with one line per wrong setting."""
    try:
        return kind()
    except ValidationError as error:
        prefix = str(kind.model_config.get("env_prefix", ""))
        lines = []
        for problem in error.errors(include_url=False, include_input=False):
            name = (prefix + "_".join(str(part) for part in problem["loc"])).upper()
            lines.append(f"{name}: {problem['msg']}")
        raise SystemExit("Wrong settings. " + "; ".join(lines)) from None


class Profile(Protocol):
    """What knows whether this is the lab."""

    @property
    def lab_profile(self) -> bool: ...


class LabFlag(BaseSettings):
    """Without the rest of ProcessSettings: one-shot commands serve no HTTP."""

    lab_profile: bool = False
    lab_prefix: str = Field(default="", pattern=r"^[a-z0-9_]{0,40}$")


def refuse_default_secrets(process: Profile, settings: BaseSettings) -> None:
    """Outside the lab profile a default secret stops the start; its value is not printed.

    Looks at secrets and at URLs, which carry passwords.
    """
    if process.lab_profile:
        return
    prefix = str(settings.model_config.get("env_prefix", ""))
    for name, value in settings:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if isinstance(text, str) and LAB_ONLY in text:
            raise SystemExit(f"{(prefix + name).upper()} holds a default of the lab; set one of your own.")
