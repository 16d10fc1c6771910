"""Who is asked: the engine, by the very query that the API makes for a ranking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from services.search.engine import Engine
from services.search.evaluation.judged import Judged
from services.search.evaluation.measures import RECALL_DEPTH, scores
from services.search.evaluation.result import Row, row
from services.search.query.build import FIELDS, Asked, whole_query
from services.search.query.parser import parse
from services.search.query.synonyms import Synonyms
from services.search.ranking import Context, Ranking, Rule, effect_of, personal

ORDER = [{"_score": "desc"}, {"id": "asc"}]


class Finder(Protocol):
    """Product ids, best first."""

    async def find(self, judged: Judged, limit: int) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class EngineFinder:
    """Of one ranking. `now` stands still, so that an evaluation can be repeated; `rules` are in force if they are valid then."""

    engine: Engine
    index: str
    ranking: Ranking
    synonyms: Synonyms
    now: datetime
    rules: Sequence[Rule] = field(default=())

    async def find(self, judged: Judged, limit: int) -> list[str]:
        """Raises EngineError, and QueryError for a judged query that nobody can ask."""
        asked = Asked(parse(judged.query, FIELDS), judged.language)
        taste = personal(judged.interactions(self.now), self.now)
        query = whole_query(
            asked,
            self.ranking,
            Context(self.now, taste),
            self.synonyms,
            effect=effect_of(self.rules, judged.query, None, self.now),
        )
        body = {"query": query, "size": limit, "sort": ORDER, "_source": False, "track_total_hits": False}
        return [hit.id for hit in (await self.engine.search(self.index, body)).hits.hits]


async def newest(engine: Engine, index: str) -> datetime:
    """When the catalogue's newest product was made: the `now` of an evaluation. Raises EngineError; ValueError if it is empty."""
    body = {"size": 1, "sort": [{"created_at": "desc"}], "_source": ["created_at"], "track_total_hits": False}
    hits = (await engine.search(index, body)).hits.hits
    if not hits:
        raise ValueError("The index holds no product.")
    return datetime.fromisoformat(str(hits[0].source["created_at"])).astimezone(UTC)


async def measured(finder: Finder, queries: Sequence[Judged]) -> list[Row]:
    """Each query's scores, in their order. One at a time: nothing here is about speed."""
    rows = []
    for each in queries:
        found = await finder.find(each, RECALL_DEPTH)
        rows.append(row(each.query, each.form, each.language, scores(found, each.grades, each.wanted)))
    return rows
