"""`evaluate` and its gate against a real engine that holds the catalogue which the hand-judged queries are about."""

from __future__ import annotations

import asyncio
import json
from argparse import ArgumentParser
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from labs.week07.generated import fill
from services.kit import ids
from services.search.engine import Engine
from services.search.evaluation.command import NOT_MEASURED, WORSE, add_arguments, run
from services.search.evaluation.judged import HAND, read
from services.search.evaluation.result import kept
from services.search.ranking import RANKINGS, Context, Interaction, Kind, Signals, personal, ranked
from tests.servers import SearchServer

pytestmark = pytest.mark.integration

INDEX = "evaluation"
PRODUCTS = 5_000
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def filled(search_server: SearchServer) -> SearchServer:
    async def make() -> None:
        async with Engine([search_server.url], timeout=60) as engine:
            await fill(engine, INDEX, 1, PRODUCTS, lambda _: None)

    asyncio.run(make())
    return search_server


def evaluate(server: SearchServer, *arguments: str) -> int:
    parser = ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args(arguments), nodes=[server.url], alias=INDEX)


def test_the_table_names_every_ranking_and_form(filled: SearchServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(filled) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in RANKINGS)
    assert all(form in shown for form in {each.form for each in read(HAND)})


def test_the_ranking_in_use_finds_what_people_mean(filled: SearchServer, tmp_path: Path) -> None:
    assert evaluate(filled, "--variant", "boosted", "--save", str(tmp_path / "result.json")) == 0
    rows = kept(tmp_path / "result.json").rankings["boosted"]
    assert len(rows) == len(read(HAND))
    assert sum(each.ndcg for each in rows) / len(rows) > 0.6
    assert all(each.reciprocal_rank == 1.0 for each in rows if each.form == "code")


def test_the_gate_lets_the_same_through_and_refuses_a_promotion(
    filled: SearchServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result, rules = str(tmp_path / "result.json"), tmp_path / "rules.jsonl"
    assert evaluate(filled, "--variant", "boosted", "--save", result) == 0
    assert evaluate(filled, "--variant", "boosted", "--against", result) == 0
    wanted = [ids.encode("prd", each) for each in products_of("chef's knife", 10)]
    queries = [each.query for each in read(HAND) if each.form in ("brand", "traits")]
    rules.write_text(
        "".join(
            json.dumps({"id": f"sale-{number}", "action": "pin", "products": wanted, "query": query}) + "\n"
            for number, query in enumerate(queries)
        )
    )
    capsys.readouterr()
    assert evaluate(filled, "--variant", "boosted", "--against", result, "--rules", str(rules)) == WORSE
    told = capsys.readouterr().err
    assert "refused: boosted lost" in told
    assert any(query in told for query in queries)


def products_of(word: str, count: int) -> list[UUID]:
    from services.catalog.generate import products

    return [each.id for each in products(1, PRODUCTS) if word in each.title][:count]


def test_another_catalogue_is_not_measured(
    filled: SearchServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.jsonl"
    grades = {"0190c0de-0000-7000-8000-000000000001": 3}
    other.write_text(json.dumps({"query": "lamp", "form": "noun", "language": "en", "grades": grades}) + "\n")
    assert evaluate(filled, "--judged", str(other)) == NOT_MEASURED
    assert "it is another catalogue" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--judged", "none.jsonl"), "cannot be read"),
        (("--against", "none.json"), "cannot be read"),
        (("--index", "no-such-index"), "Nothing was measured"),
        (("--rules", __file__), "line 1"),
    ],
)
def test_what_cannot_be_measured_is_said_in_a_sentence(
    filled: SearchServer, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str
) -> None:
    assert evaluate(filled, "--variant", "bm25", *arguments) == NOT_MEASURED
    assert says in capsys.readouterr().err


async def test_the_engine_multiplies_as_our_own_arithmetic_says(filled: SearchServer) -> None:
    events = [Interaction(Kind.PURCHASE, 1, "fashion/shoes/running", NOW - timedelta(days=3))]
    context = Context(NOW, personal(events, NOW))
    text = {"match": {"title": "running shoes bastou"}}
    async with Engine([filled.url], timeout=30) as engine:
        for ranking in RANKINGS.values():
            plain = (await engine.search(INDEX, {"query": text, "size": 200})).hits.hits
            found = await engine.search(INDEX, {"query": ranked(text, ranking, context), "size": 10_000})
            boosted = {hit.id: hit.score for hit in found.hits.hits}
            for hit in plain:
                signals = Signals(
                    popularity=hit.source["popularity"],
                    created_at=datetime.fromisoformat(hit.source["created_at"]),
                    in_stock=hit.source["in_stock"],
                    brand_id=hit.source["brand_id"],
                    categories=hit.source["categories"],
                )
                assert hit.score is not None
                assert boosted[hit.id] == pytest.approx(hit.score * ranking.factor(signals, context), rel=1e-4)
