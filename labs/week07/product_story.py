"""What happened to one product: the client's own changes of it, and what database and index hold in the end. Or to one query."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from labs.engine import Evidence, NotApplicableError, Operation, Outcome, StoryLine
from labs.invariants.search import ALIAS, FIELDS, as_object, queries
from services.kit import ids

HELD = "SELECT title, price, stock, version, updated_at FROM products WHERE id = $1"


async def story(evidence: Evidence, offender: str) -> Sequence[StoryLine]:
    """`<product> stale: price` or `<query's key> found nothing`, as the invariants name them."""
    name = offender.partition(" ")[0]
    query = next((one for one in evidence.history if one.key == name), None)
    if query is not None:
        return [line for one in _alike(evidence, query) for line in _query_lines(one)]
    product = UUID(name)
    known = ids.encode("prd", product)
    changes = [one for one in evidence.history if one.result.get("product") == known]
    lines = [line for one in changes for line in _client_lines(one)]
    end = evidence.window[1]
    rows = await evidence.sql("catalog", HELD, product)
    held = [f"price {row['price']}, stock {row['stock']}, version {row['version']}, {row['title']}" for row in rows]
    lines.append(StoryLine(end, "database", f"holds {held[0] if held else 'nothing'}"))
    lines.append(StoryLine(end, "index", f"holds {await _indexed(evidence, product)}"))
    return lines


def _alike(evidence: Evidence, query: Operation) -> list[Operation]:
    """The query, and what else was asked with the same words; of one that failed these are not known."""
    text = query.result.get("text")
    return [one for one in queries(evidence) if one is query or (text and one.result.get("text") == text)]


def _query_lines(one: Operation) -> list[StoryLine]:
    lines = [StoryLine(one.intended_at, "client", f"wants to search for {one.result.get('text') or 'something'}")]
    if one.done_at is not None:
        found = f"finds {one.result.get('hits')} products on the first page"
        told = found if one.outcome is Outcome.OK else f"is told {one.status or one.error}"
        lines.append(StoryLine(one.done_at, "client", told))
    return lines


def _client_lines(one: Operation) -> list[StoryLine]:
    if one.sent_at is None or one.done_at is None:
        return []
    told = "is told that it is done" if one.outcome is Outcome.OK else f"is told {one.status}: {one.error}"
    return [
        StoryLine(one.sent_at, "client", f"sends a change: {one.kind}"),
        StoryLine(one.done_at, "client", f"{told}, version {one.result.get('version') or '-'}"),
    ]


async def _indexed(evidence: Evidence, product: UUID) -> str:
    try:
        found = as_object(await evidence.engine(f"{ALIAS}/_doc/{product}"))
    except NotApplicableError:
        return "nothing"
    source = as_object(found["_source"])
    shown = ", ".join(f"{name} {source.get(name)}" for name in FIELDS if name in ("price", "stock"))
    return f"{shown}, {source.get('title')}"
