from __future__ import annotations

import pytest
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.kit.migrated import migrated
from services.kit.settings import LabFlag


class Wanted(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="SOME_")

    url: str = "postgresql://app:lab-only@host/some"


class Refused(Exception):
    pass


@pytest.fixture(autouse=True)
def lab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_PROFILE", "true")
    monkeypatch.setenv("LAB_PREFIX", "some_")


def test_what_was_done_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    def run(settings: Wanted, flag: LabFlag) -> str:
        return f"{flag.lab_prefix}{settings.url.rpartition('/')[2]} is up to date"

    assert migrated("some", Wanted, run) == 0
    assert capsys.readouterr().out == "some_some is up to date\n"


@pytest.mark.parametrize("error", [ValueError("no name"), ConnectionRefusedError("nobody listens"), Refused("full")])
def test_what_was_not_done_is_one_sentence(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    def run(settings: Wanted, flag: LabFlag) -> str:
        raise error

    assert migrated("some", Wanted, run, Refused) == 1
    assert capsys.readouterr().err == f"The migration of some was not done: {error}\n"


def test_a_bug_is_no_sentence() -> None:
    def run(settings: Wanted, flag: LabFlag) -> str:
        raise Refused("not among the errors")

    with pytest.raises(Refused):
        migrated("some", Wanted, run)


def test_outside_the_lab_a_default_secret_stops_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAB_PROFILE")
    with pytest.raises(SystemExit, match="SOME_URL"):
        migrated("some", Wanted, lambda settings, flag: "never")
