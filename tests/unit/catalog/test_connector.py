from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.catalog.connector import BY_PRODUCT, PUBLICATION, REFERENCE, Names, configuration
from services.contracts.topics import TOPICS

URL = "postgresql://catalog_cdc:p%40ss@db:17432/t1_catalog"
NAMES = Names("t1_")
MIGRATIONS = Path(__file__).resolve().parents[3] / "services" / "catalog" / "migrations" / "versions"


def routed(settings: dict[str, str], topic: str) -> str:
    """What RegexRouter makes of a topic: each in turn, and only if the whole name fits."""
    for name in settings["transforms"].split(","):
        if settings[f"transforms.{name}.type"].endswith("RegexRouter"):
            match = re.fullmatch(settings[f"transforms.{name}.regex"], topic)
            topic = settings[f"transforms.{name}.replacement"] if match else topic
    return topic


@pytest.mark.parametrize(
    ("topic", "ours"),
    [
        *((f"t1_catalog.public.{table}", "t1_catalog.product-changes.v1") for table in BY_PRODUCT),
        *((f"t1_catalog.public.{table}", "t1_catalog.reference-changes.v1") for table in REFERENCE),
        ("__debezium-heartbeat.t1_catalog", "t1_catalog.cdc-heartbeat.v1"),
    ],
)
def test_every_record_goes_to_a_topic_of_the_table(topic: str, ours: str) -> None:
    assert routed(configuration(NAMES, URL), topic) == ours
    assert ours.removeprefix("t1_") in {one.name for one in TOPICS}


def test_only_rows_have_their_key_taken_out() -> None:
    settings = configuration(NAMES, URL)
    rows = re.compile(settings["predicates.row.pattern"])
    assert all(rows.fullmatch(f"t1_catalog.public.{table}") for table in (*BY_PRODUCT, *REFERENCE))
    assert not rows.fullmatch("__debezium-heartbeat.t1_catalog")
    assert not rows.fullmatch("t1_catalogXpublic.products")


def test_the_database_s_address_is_taken_apart() -> None:
    settings = configuration(NAMES, URL)
    assert [settings[f"database.{part}"] for part in ("hostname", "port", "user", "password", "dbname")] == [
        "db",
        "17432",
        "catalog_cdc",
        "p@ss",
        "t1_catalog",
    ]


@pytest.mark.parametrize("url", ["", "postgresql://db/catalog", "postgresql://user@db/catalog", "postgresql://u:p@db"])
def test_an_address_without_all_its_parts_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="needs a host, a user, a password and a database"):
        configuration(NAMES, url)


def test_two_runs_share_neither_slot_nor_connector_nor_topic() -> None:
    one, other = configuration(Names("a_"), URL), configuration(Names("b_"), URL)
    for name in ("slot.name", "topic.prefix", "transforms.products.replacement", "transforms.heartbeat.replacement"):
        assert one[name] != other[name]


def test_the_longest_prefix_still_makes_a_slot_s_name() -> None:
    assert re.fullmatch(r"[a-z0-9_]{1,63}", Names("x" * 40).slot)


def test_a_gap_is_never_passed_over() -> None:
    settings = configuration(NAMES, URL)
    assert settings["offset.mismatch.strategy"] == "trust_offset"
    assert settings["snapshot.mode"] == "initial"
    assert settings["publication.autocreate.mode"] == "disabled"


def test_no_tombstone_lets_compaction_forget_a_product_that_lives() -> None:
    assert configuration(NAMES, URL)["tombstones.on.delete"] == "false"


def test_the_publication_is_the_one_that_the_migration_makes() -> None:
    text = "".join(path.read_text() for path in MIGRATIONS.glob("0*.py"))
    assert f"CREATE PUBLICATION {PUBLICATION} " in text
    assert f"ALTER PUBLICATION {PUBLICATION} ADD TABLE brands, categories" in text
