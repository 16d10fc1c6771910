"""The table of edges is sound, its checker sees each one missing, and the page shows it as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.contracts import trace_edges
from services.contracts.topics import TOPICS
from services.contracts.trace_edges import (
    EDGES,
    ONE_PAYMENT,
    SEARCH_EDGES,
    STORY_EDGES,
    Kind,
    Relation,
    SpanSeen,
    TraceEdge,
    missing,
)

TABLE = (*EDGES, *SEARCH_EDGES, *STORY_EDGES)
ROOT = Path(__file__).resolve().parents[3]


def example(edge: TraceEdge, number: int) -> list[SpanSeen]:
    """Two spans that show this edge and nothing else."""
    if edge.relation is Relation.CHILD:
        return [
            SpanSeen(f"t{number}", "a", "", edge.earlier),
            SpanSeen(f"t{number}", "b", "a", edge.later),
        ]
    return [
        SpanSeen(f"t{number}", "a", "", edge.earlier),
        SpanSeen(f"u{number}", "b", "", edge.later, ((f"t{number}", "a"),)),
    ]


def test_spans_that_show_every_edge_miss_none() -> None:
    assert missing(TABLE, [span for n, edge in enumerate(TABLE) for span in example(edge, n)]) == []


@pytest.mark.parametrize("lost", TABLE, ids=str)
def test_an_edge_that_no_span_shows_is_named(lost: TraceEdge) -> None:
    others = [span for n, edge in enumerate(TABLE) if edge != lost for span in example(edge, n)]
    assert missing(TABLE, others) == [lost]
    assert lost.earlier.process in str(lost)
    assert lost.later.process in str(lost)


@pytest.mark.parametrize("lost", TABLE, ids=str)
def test_two_spans_without_the_reference_between_them_are_no_edge(lost: TraceEdge) -> None:
    earlier, later = example(lost, 0)
    alone = SpanSeen(later.trace_id, later.span_id, "", later.end)
    other_trace = SpanSeen("v", later.span_id, later.parent, later.end, (("v", "a"),))
    assert missing([lost], [earlier, alone, other_trace]) == [lost]


def test_no_edge_stands_twice_and_topics_are_known() -> None:
    assert len({(edge.earlier, edge.later, edge.relation) for edge in TABLE}) == len(TABLE)
    names = {topic.name for topic in TOPICS}
    ends = {end for edge in TABLE for end in (edge.earlier, edge.later)}
    assert {end.name.partition(" ")[2] for end in ends if end.kind in (Kind.PRODUCER, Kind.CONSUMER)} <= names


def test_one_payment_goes_from_the_till_to_the_receiver() -> None:
    reached = {trace_edges.CHECKOUT}
    for edge in ONE_PAYMENT:
        assert edge.earlier in reached
        reached.add(edge.later)
    assert trace_edges.RECEIVER in reached


def test_the_page_shows_the_table_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    trace_edges.main()
    assert capsys.readouterr().out in (ROOT / "docs" / "traces.md").read_text()
