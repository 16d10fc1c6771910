"""What is refused before anything is begun."""

from __future__ import annotations

import pytest

from services.catalog.__main__ import main
from services.catalog.migrate import migrate
from services.catalog.settings import ConnectorSettings, MigrateSettings
from services.kit.settings import load

ADMIN = "postgresql://postgres:x@nowhere/catalog"
APP = "postgresql://catalog_app:x@nowhere/catalog"


@pytest.mark.parametrize(
    "words", [[], ["serve"], ["api", "now"], ["fill"], ["fill", "--products", "0"], ["fill", "--products", "x"]]
)
def test_a_wrong_command_ends_with_the_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "usage: python -m services.catalog" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("urls", "sentence"),
    [
        ({"reader_database_url": APP}, "the URL of catalog_reader must have that user and a password"),
        (
            {"cdc_database_url": "postgresql://catalog_cdc@nowhere/catalog"},
            "the URL of catalog_cdc must have that user",
        ),
        ({"cdc_database_url": "postgresql://catalog_cdc:x@nowhere/other"}, "must name the same database"),
    ],
)
async def test_a_role_s_url_that_does_not_fit_is_told(urls: dict[str, str], sentence: str) -> None:
    settings = MigrateSettings(admin_database_url=ADMIN, database_url=APP, **urls)  # type: ignore[arg-type]  # pydantic wraps them
    with pytest.raises(ValueError, match=sentence):
        await migrate(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CATALOG_CONNECT_URL", "ftp://connect"),
        ("CATALOG_CDC_SNAPSHOT", "never"),
        ("CATALOG_CDC_LOST_SLOT", "ignore"),
        ("CATALOG_CDC_POLL_MS", "0"),
        ("CATALOG_CDC_HEARTBEAT_MS", "soon"),
    ],
)
def test_a_wrong_setting_stops_the_start_with_its_name(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CATALOG_CONNECT_URL", "http://connect:17083")
    monkeypatch.setenv("CATALOG_CDC_DATABASE_URL", "postgresql://catalog_cdc:x@db/catalog")
    assert load(ConnectorSettings).cdc_lost_slot == "resnapshot"
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=name):
        load(ConnectorSettings)
