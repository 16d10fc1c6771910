"""Rules are kept as they were last read, and a rule at the edge is a rule inside or a clear sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest

from services.kit import ids
from services.kit.store import StoreUnavailable
from services.search.ranking import Action, Rule
from services.search.relevance import experiment_of
from services.search.rule_schemas import RuleBody, RuleWrong, rule_of, rules_in, view_of
from services.search.rulebook import NO_EFFECT, RuleBook

NOW = datetime(2026, 3, 1, tzinfo=UTC)
PRODUCT = ids.encode("prd", UUID(int=5))


@dataclass
class Source:
    rules: Sequence[Rule] = ()
    number: int = 0
    away: bool = False
    reads: list[int] = field(default_factory=list)

    async def generation(self) -> int:
        if self.away:
            raise StoreUnavailable("gone")
        return self.number

    async def all(self) -> Sequence[Rule]:
        self.reads.append(self.number)
        return self.rules


def pin(query: str) -> Rule:
    return Rule("pin", Action.PIN, (UUID(int=5),), query=query)


async def test_rules_are_read_when_they_have_changed_and_only_then() -> None:
    book, source = RuleBook(), Source()
    assert await book.refresh(source)
    assert not await book.refresh(source)
    source.rules, source.number = (pin("lamp"),), 1
    assert await book.refresh(source)
    assert source.reads == [0, 1]
    assert book.effect("Lamp", None, NOW).pinned == (UUID(int=5),)
    assert book.effect("other", None, NOW) == NO_EFFECT


async def test_a_database_that_is_away_leaves_the_rules_in_force() -> None:
    book, source = RuleBook(), Source((pin("lamp"),), 1)
    await book.refresh(source)
    source.away = True
    with pytest.raises(StoreUnavailable):
        await book.refresh(source)
    assert book.effect("lamp", None, NOW).pinned


async def test_rules_without_a_query_count_for_every_query() -> None:
    book = RuleBook()
    book.take([Rule("x", Action.EXCLUDE, (UUID(int=9),)), pin("lamp")], 1)
    assert book.effect("anything", None, NOW).excluded == (UUID(int=9),)
    assert book.effect("lamp", None, NOW).by == ("pin", "x")


def body(**more: Any) -> RuleBody:
    return msgspec.convert({"action": "pin", "products": [PRODUCT], "query": " Desk  LAMP ", **more}, RuleBody)


def test_a_rule_is_shown_as_it_is_kept() -> None:
    rule = rule_of("sale", body(note="autumn"), NOW)
    assert rule.query == "desk lamp"
    view = view_of(rule, 3)
    assert (view.id, view.version, view.query, view.products) == ("sale", 3, "desk lamp", [PRODUCT])
    told = {name: value for name, value in msgspec.to_builtins(view).items() if name in RuleBody.__struct_fields__}
    assert rule_of("sale", msgspec.convert(told, RuleBody), NOW) == rule


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"products": ["prd_nonsense"]}, "begins with prd_"),
        ({"products": [str(UUID(int=5))]}, "begins with prd_"),
        ({"products": []}, "names at least one product"),
        ({"brands": [1]}, "Only products can be pinned"),
        ({"query": None}, "A pin is for a query or a category"),
        ({"query": "\x00"}, "zero character"),
        ({"query": "   "}, "not empty"),
        ({"category": "home"}, "not for both"),
    ],
)
def test_a_rule_without_sense_is_refused_with_a_sentence(more: dict[str, Any], says: str) -> None:
    with pytest.raises(RuleWrong, match=says):
        rule_of("sale", body(**more))


@pytest.mark.parametrize(
    "wrong",
    [
        {"action": "praise"}, {"products": "x"}, {"brands": [0]}, {"brands": [2**40]}, {"priority": 1001},
        {"starts_at": "2026-01-01T00:00:00"}, {"category": "/home"}, {"category": "Home"}, {"note": "x" * 501},
        {"query": "x" * 513}, {"unknown": 1}, {"products": [PRODUCT] * 101},
    ],
)  # fmt: skip
def test_bad_bodies_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        body(**wrong)


@pytest.mark.parametrize("line", [b"nonsense", b"\xff", b"{}", b'{"id": "X", "action": "pin"}'])
def test_a_file_of_rules_names_the_line_that_is_wrong(line: bytes) -> None:
    good = b'{"id": "sale", "action": "exclude", "brands": [1]}\n\n'
    with pytest.raises(RuleWrong, match="line 3"):
        rules_in(good + line)
    assert [each.id for each in rules_in(good)] == ["sale"]


def test_an_experiment_is_read_from_its_setting() -> None:
    assert experiment_of("") is None
    split = experiment_of("autumn:bm25=1,boosted=3")
    assert split is not None
    assert [(arm.ranking, arm.share) for arm in split.arms] == [("bm25", 1.0), ("boosted", 3.0)]
    with pytest.raises(ValueError, match="names no ranking tfidf"):
        experiment_of("autumn:tfidf=1")
