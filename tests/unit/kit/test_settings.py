import pytest
from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.kit.settings import ProcessSettings, load, refuse_default_secrets


class ShopSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="SHOP_")
    database_url: str
    key: SecretStr = SecretStr("own")


def test_a_missing_setting_stops_the_start_with_its_full_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHOP_DATABASE_URL", raising=False)
    with pytest.raises(SystemExit, match="SHOP_DATABASE_URL"):
        load(ShopSettings)


def test_a_wrong_setting_says_what_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PORT", "70000")
    with pytest.raises(SystemExit, match=r"HTTP_PORT: .*65535"):
        load(ProcessSettings)


@pytest.mark.parametrize(("url", "key"), [("postgresql://a:lab-only@h/d", "own"), ("postgresql://h/d", "lab-only-key")])
def test_a_default_secret_is_refused_outside_the_lab_profile_and_not_printed(url: str, key: str) -> None:
    settings = ShopSettings(database_url=url, key=SecretStr(key))
    refuse_default_secrets(ProcessSettings(http_port=1, lab_profile=True), settings)
    with pytest.raises(SystemExit) as stopped:
        refuse_default_secrets(ProcessSettings(http_port=1, lab_profile=False), settings)
    assert "SHOP_" in str(stopped.value)
    assert "lab-only" not in str(stopped.value)


def test_secrets_of_ones_own_are_accepted_everywhere() -> None:
    settings = ShopSettings(database_url="postgresql://a:own@h/d")
    refuse_default_secrets(ProcessSettings(http_port=1, lab_profile=False), settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TRACE_RATIO", "2"),
        ("TRACE_RATIO", "-0.1"),
        ("TRACE_RATIO", "all"),
        ("OTLP_ENDPOINT", "collector:4318"),
        ("OTLP_ENDPOINT", "ftp://collector"),
        ("OTLP_ENDPOINT", "http://"),
    ],
)
def test_a_wrong_setting_of_traces_stops_the_start(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PORT", "1")
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=f"{name}: "):
        load(ProcessSettings)


@pytest.mark.parametrize("endpoint", ["", "http://127.0.0.1:17318", "https://collector.example/base"])
def test_traces_go_to_a_url_or_nowhere(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PORT", "1")
    monkeypatch.setenv("OTLP_ENDPOINT", endpoint)
    assert load(ProcessSettings).otlp_endpoint == endpoint
