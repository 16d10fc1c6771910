from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from services.patterns.outbox import first_of_each


@dataclass(frozen=True)
class Row:
    entity: str
    sequence: int


def test_the_second_event_of_an_entity_waits_for_the_next_batch() -> None:
    rows = [Row("a", 1), Row("b", 1), Row("a", 2), Row("b", 2), Row("c", 1)]
    assert first_of_each(rows) == [Row("a", 1), Row("b", 1), Row("c", 1)]


@given(st.lists(st.sampled_from("abc"), max_size=30), st.data())
def test_whatever_fails_in_between_each_entity_is_sent_in_order(entities: list[str], data: st.DataObject) -> None:
    counts: dict[str, int] = {}
    left = []
    for entity in entities:
        counts[entity] = counts.get(entity, 0) + 1
        left.append(Row(entity, counts[entity]))
    sent: list[Row] = []
    while left:
        batch = first_of_each(left)
        acknowledged = data.draw(st.lists(st.sampled_from(batch), unique=True, min_size=1))
        sent += batch
        left = [row for row in left if row not in acknowledged]
    for entity, count in counts.items():
        # Without repetitions the order is 1, 2, 3 ...; a repetition never comes after its successor.
        sequences = [row.sequence for row in sent if row.entity == entity]
        assert sequences == sorted(sequences)
        assert set(sequences) == set(range(1, count + 1))
