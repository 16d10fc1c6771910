"""The client's history against the stores."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from labs.engine.model import Operation, Outcome, Phase
from labs.engine.reconcile import reconcile


def operation(key: str, outcome: Outcome) -> Operation:
    return Operation(key, key, "payment", Phase.INJECT, 1.0, 1.0, 1.1, 1, 201, outcome, None, {})


def test_each_kind_of_difference_is_counted_and_named() -> None:
    history = [
        operation("fine", Outcome.OK),
        operation("lost", Outcome.OK),
        operation("double", Outcome.OK),
        operation("recovered", Outcome.UNKNOWN),
        operation("never", Outcome.UNKNOWN),
        operation("contradicted", Outcome.FAIL),
        operation("refused", Outcome.FAIL),
    ]
    result = reconcile(history, {"fine": 1, "double": 2, "recovered": 1, "contradicted": 1, "stranger": 1, "none": 0})
    assert (result.attempted, result.acknowledged, result.found) == (7, 3, 5)
    assert result.lost.ids == ("lost",)
    assert result.duplicated.ids == ("double",)
    assert result.recovered.ids == ("recovered",)
    assert result.unexpected.ids == ("stranger",)
    assert result.contradicted.ids == ("contradicted",)


def test_a_key_that_was_acknowledged_once_counts_as_acknowledged() -> None:
    result = reconcile([operation("a", Outcome.UNKNOWN), operation("a", Outcome.OK)], {"a": 1})
    assert (result.acknowledged, result.recovered.count, result.contradicted.count) == (1, 0, 0)


def test_ten_are_named_and_all_are_counted() -> None:
    result = reconcile([operation(f"k{number:02}", Outcome.OK) for number in range(30)], {})
    assert (result.lost.count, len(result.lost.ids), result.lost.ids[0]) == (30, 10, "k00")


keys = st.sampled_from([f"k{number}" for number in range(8)])


@given(st.lists(st.tuples(keys, st.sampled_from(list(Outcome)))), st.dictionaries(keys, st.integers(0, 3)))
def test_every_found_key_is_acknowledged_recovered_contradicted_or_unexpected(
    told: list[tuple[str, Outcome]], found: dict[str, int]
) -> None:
    result = reconcile([operation(key, outcome) for key, outcome in told], found)
    kept = result.acknowledged - result.lost.count
    assert result.found == kept + result.recovered.count + result.contradicted.count + result.unexpected.count
