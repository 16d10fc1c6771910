"""Locust with a feed against a real catalogue: what each offer was told is what the database holds."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from labs.engine.load import HistoryRecord
from services.catalog.domain import PREFIX
from services.kit import ids
from tests.integration.catalog.conftest import running
from tests.integration.catalog.stack import Stack
from tests.integration.catalog.test_products import fresh
from tests.servers import ROOT

__all__ = ["running"]

pytestmark = [pytest.mark.integration, pytest.mark.slow]


async def test_each_offer_of_a_feed_is_an_operation_with_its_own_outcome(running: Stack, tmp_path: Path) -> None:
    for _ in range(30):
        await running.create(fresh(), stock=1)
    history = tmp_path / "history.jsonl"
    command = [
        sys.executable, "-m", "locust", "-f", "loadtests/catalog.py", "--headless", "--host", running.processes[0].url,
        "--rate", "150", "--seconds", "4", "--seed", "5", "--history", str(history), "--max-in-flight", "2000",
        "--products", "30", "--feed-share", "0.8", "--feed-size", "10",
    ]  # fmt: skip
    run = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said, _ = await asyncio.wait_for(run.communicate(), 120)
    assert run.returncode == 0, said.decode()[-2000:]
    records = [msgspec.json.decode(line, type=HistoryRecord) for line in history.read_bytes().splitlines()]
    offers = [one for one in records if one.kind == "offer"]
    assert Counter(one.outcome for one in offers) == {"ok": len(offers)}
    assert 0.7 < len(offers) / len(records) < 0.9
    newest: dict[str, int] = {}
    for one in offers:
        assert one.result is not None
        newest[one.result["product"]] = max(int(one.result["version"]), newest.get(one.result["product"], 0))
    assert len(newest) == 15, "every second product is the feed's"
    rows = await running.sql("SELECT id, version FROM products WHERE id = ANY($1::uuid[])", [*map(uuid_of, newest)])
    assert {ids.encode(PREFIX, row["id"]): row["version"] for row in rows} == newest, "nobody else changes these"


def uuid_of(product: str) -> object:
    return ids.decode(PREFIX, product)


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--feed-share", "1.5", "--feed-share is 0 to 1"),
        ("--feed-size", "0", "--feed-size is 1 to 500"),
        ("--feed-size", "501", "--feed-size is 1 to 500"),
        ("--products", "0", "--products is 1 to 100000"),
    ],
)
async def test_an_option_that_makes_no_sense_is_refused_with_what_is_allowed(
    option: str, value: str, sentence: str
) -> None:
    command = [
        sys.executable,
        "-m",
        "locust",
        "-f",
        "loadtests/catalog.py",
        "--headless",
        "--host",
        "http://127.0.0.1:1",
    ]
    run = await asyncio.create_subprocess_exec(
        *command, option, value, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    said, _ = await asyncio.wait_for(run.communicate(), 60)
    assert run.returncode != 0
    assert sentence in said.decode()
