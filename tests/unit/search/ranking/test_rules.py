"""Which rule wins is a stated order, and what rules do to a query is the same whatever the query is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.search.ranking.rules import (
    BURIED,
    MOST_PINNED,
    PIN,
    Action,
    Effect,
    Rule,
    apply_rules,
    effect_of,
    normal,
    without,
)

NOW = datetime(2026, 3, 1, tzinfo=UTC)
TEXT = {"match": {"title": "lamp"}}


def number(value: int) -> UUID:
    return UUID(int=value)


def rule(identity: int, action: Action, *products: int, **more: Any) -> Rule:
    if action is Action.PIN and "category" not in more:
        more.setdefault("query", "desk lamp")
    return Rule(f"rule-{identity}", action, tuple(map(number, products)), **more)


def test_exclusion_beats_a_pin_and_a_pin_beats_burial() -> None:
    rules = [rule(1, Action.PIN, 10, 11), rule(2, Action.BURY, 11, 12), rule(3, Action.EXCLUDE, 10)]
    effect = effect_of(rules, "desk lamp", None, NOW)
    assert effect.pinned == (number(11),)
    assert effect.buried == (number(12),)
    assert effect.excluded == (number(10),)


def test_pins_stand_by_scope_then_priority_then_age_then_id() -> None:
    old, new = NOW - timedelta(days=9), NOW - timedelta(days=1)
    rules = [
        rule(1, Action.PIN, 1, category="home", priority=9),
        rule(2, Action.PIN, 2, priority=1, changed_at=old),
        rule(3, Action.PIN, 3, priority=1, changed_at=new),
        rule(4, Action.PIN, 4, priority=5),
        rule(6, Action.PIN, 6, changed_at=old),
        rule(5, Action.PIN, 5, changed_at=old),
    ]
    effect = effect_of(rules, "Desk  LAMP", "home/lighting", NOW)
    assert [each.int for each in effect.pinned] == [4, 3, 2, 5, 6, 1]


@given(st.permutations([1, 2, 3, 4, 5]))
def test_the_order_in_which_rules_are_read_does_not_matter(order: list[int]) -> None:
    rules = [rule(each, Action.PIN, each, 9) for each in order]
    assert [each.int for each in effect_of(rules, "desk lamp", None, NOW).pinned] == [1, 9, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("starts", "ends", "counts"),
    [
        (None, None, True),
        (NOW, None, True),
        (NOW + timedelta(seconds=1), None, False),
        (None, NOW, False),
        (None, NOW + timedelta(seconds=1), True),
    ],
)
def test_a_rule_counts_from_its_start_up_to_its_end(
    starts: datetime | None, ends: datetime | None, counts: bool
) -> None:
    dated = rule(1, Action.EXCLUDE, 1, starts_at=starts, ends_at=ends)
    assert bool(effect_of([dated], "anything", None, NOW)) is counts


@pytest.mark.parametrize(
    ("asked", "counts"), [("home", True), ("home/lighting", True), ("homes", False), (None, False), ("tools", False)]
)
def test_a_category_rule_counts_for_all_below_it_and_nothing_beside_it(asked: str | None, counts: bool) -> None:
    assert bool(effect_of([rule(1, Action.BURY, 1, category="home")], "lamp", asked, NOW)) is counts


def test_a_query_rule_counts_for_that_query_only() -> None:
    pin = rule(1, Action.PIN, 1)
    assert effect_of([pin], " desk\tLAMP ", None, NOW).pinned
    assert not effect_of([pin], "desk lamps", None, NOW)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"action": Action.BURY}, "at least one product"),
        ({"action": Action.PIN, "brands": (1,), "query": "x"}, "Only products can be pinned"),
        ({"action": Action.PIN, "products": (number(1),)}, "A pin is for a query or a category"),
        ({"action": Action.BURY, "products": (number(1), number(1))}, "names a product once"),
        ({"action": Action.BURY, "products": tuple(map(number, range(101)))}, "at most 100"),
        ({"action": Action.BURY, "products": (number(1),), "query": "x", "category": "y"}, "not for both"),
        ({"action": Action.BURY, "products": (number(1),), "query": "X"}, "lower case"),
        ({"action": Action.BURY, "products": (number(1),), "query": ""}, "not empty"),
        ({"action": Action.BURY, "products": (number(1),), "category": ""}, "not empty"),
        (
            {"action": Action.BURY, "products": (number(1),), "starts_at": NOW, "ends_at": NOW},
            "starts before it ends",
        ),
    ],
)
def test_a_rule_without_sense_is_refused_with_a_sentence(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Rule("wrong", **wrong)


def test_without_rules_the_query_stays_as_it_is() -> None:
    assert apply_rules(TEXT, Effect()) == TEXT


def test_pins_stand_above_every_score_in_their_order() -> None:
    query = apply_rules(TEXT, Effect(pinned=(number(1), number(2)), by=("promotion",)))
    text, first, second = query["bool"]["should"]
    assert text == TEXT
    assert first["constant_score"]["boost"] == 2 * PIN
    assert second["constant_score"] == {"filter": {"term": {"id": str(number(2))}}, "boost": PIN}


def test_scores_of_pins_differ_in_32_bits() -> None:
    assert PIN * MOST_PINNED < 1 << 25
    assert PIN % 2 == 0


def test_no_more_than_so_many_are_pinned() -> None:
    many = [rule(1, Action.PIN, *range(1, 51))]
    assert len(effect_of(many, "desk lamp", None, NOW).pinned) == MOST_PINNED


def test_burial_multiplies_and_exclusion_leaves_out() -> None:
    rules = [rule(1, Action.BURY, 5, brands=(7,)), rule(2, Action.EXCLUDE, 6, categories=("tools",))]
    effect = effect_of(rules, "lamp", None, NOW)
    query = apply_rules(TEXT, effect)
    (buried,) = query["bool"]["should"]
    assert buried["function_score"]["functions"][0]["weight"] == BURIED
    assert query["bool"]["must_not"] == without(effect)
    assert without(effect) == [{"terms": {"id": [str(number(6))]}}, {"terms": {"categories": ["tools"]}}]


@given(st.text())
def test_normal_twice_is_normal_once(text: str) -> None:
    assert normal(normal(text)) == normal(text)
