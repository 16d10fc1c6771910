"""Wrong words and wrong settings end with one clear sentence."""

from __future__ import annotations

import pytest

from services.kit.settings import load
from services.search.__main__ import main
from services.search.settings import IndexerSettings, ReindexSettings

GOOD = {
    "SEARCH_ENGINE_URLS": "http://one:9200, http://two:9200",
    "SEARCH_DATABASE_URL": "postgresql://search_app:x@h/search",
    "SEARCH_CATALOG_DATABASE_URL": "postgresql://catalog_reader:x@h/catalog",
    "SEARCH_KAFKA_BOOTSTRAP": "h:9092",
}


@pytest.fixture
def good(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["fly"],
        ["index"],
        ["index", "fly"],
        ["index", "drop"],
        ["index", "reindex", "--rate", "0"],
        ["index", "reindex", "--rate", "nan"],
        ["index", "reindex", "--rate", "1e9"],
        ["index", "reindex", "--rate", "fast"],
        ["index", "reindex", "--mapping", "0"],
        ["index", "reindex", "--mapping", "-1"],
        ["index", "reindex", "--mapping", "1.5"],
        ["index", "reindex", "--mapping", "²"],
        ["index", "reindex", "--mapping", "9" * 50],
        ["index", "reindex", "--accept-refused", "-1"],
        ["index", "reindex", "--accept-refused", "9" * 50],
        ["audit", "--mend"],
        ["indexer", "now"],
    ],
)
def test_wrong_words_are_a_usage_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "usage: python -m services.search" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SEARCH_ENGINE_URLS", ""),
        ("SEARCH_ENGINE_URLS", "one:9200"),
        ("SEARCH_ENGINE_URLS", "http://one:9200,two"),
        ("SEARCH_KAFKA_BOOTSTRAP", ""),
        ("SEARCH_BULK_BYTES", "10"),
        ("SEARCH_BULK_BYTES", "much"),
        ("SEARCH_PORTION", "0"),
        ("SEARCH_INDEXER_BATCH", "1000000"),
        ("SEARCH_HOLD_SECONDS", "-1"),
        ("SEARCH_SESSION_SECONDS", "0.5"),
        ("SEARCH_INDEX_SHARDS", "-1"),
        ("SEARCH_INDEX_REPLICAS", "many"),
    ],
)
def test_a_wrong_setting_stops_the_start_with_its_name(good: pytest.MonkeyPatch, name: str, value: str) -> None:
    good.setenv(name, value)
    with pytest.raises(SystemExit, match=f"Wrong settings. {name}: "):
        load(IndexerSettings)


def test_several_nodes_are_given_by_commas(good: pytest.MonkeyPatch) -> None:
    assert load(ReindexSettings).engine_urls == ("http://one:9200", "http://two:9200")


def test_a_default_secret_is_refused_outside_the_lab(good: pytest.MonkeyPatch) -> None:
    good.setenv("SEARCH_DATABASE_URL", "postgresql://search_app:lab-only@h/search")
    with pytest.raises(SystemExit, match="SEARCH_DATABASE_URL holds a default of the lab"):
        main(["index", "status"])


def test_a_command_without_its_database_says_so_and_ends(
    good: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good.setattr("services.search.commands.CONNECT_SECONDS", 0.1)
    good.setenv("SEARCH_DATABASE_URL", "postgresql://search_app:x@127.0.0.1:1/search")
    assert main(["index", "status"]) == 1
    assert capsys.readouterr().err.startswith("Not done: ")
