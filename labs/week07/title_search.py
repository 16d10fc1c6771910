"""Four ways to search the same titles: LIKE, Postgres full text, the engine, and the index of tiny_index.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import quote

import asyncpg
import msgspec

from labs.engine import FaultContext
from labs.week07 import yours_day1
from labs.week07.tiny_index import TinyIndex, terms
from services.search.engine import Engine, Fate, Write

DEPTH = 10
STATEMENT_SECONDS = 120.0
PORTION = 5_000
MOST_COMPARED = 200_000
"""Titles up to which the engine's scores are held against those of tiny_index.py."""
INDEX = {
    "settings": {
        "index": {"number_of_shards": 1, "number_of_replicas": 0, "refresh_interval": "-1"},
        "analysis": {
            "tokenizer": {"words": {"type": "pattern", "pattern": "([A-Za-z0-9]+)", "group": 1}},
            "analyzer": {"tiny": {"type": "custom", "tokenizer": "words", "filter": ["lowercase"]}},
        },
    },
    "mappings": {"dynamic": "strict", "properties": {"title": {"type": "text", "analyzer": "tiny"}}},
}
"""The analyser of tiny_index.py, so that both have the same words."""


class NotFilled(OSError):
    """The titles could not be put in place."""


@dataclass(frozen=True, slots=True)
class Found:
    """Products by number, best first. `scores` are the engine's, and `ours` those of tiny_index.py, where there are both."""

    numbers: list[int]
    scores: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)


class TitleSearch(Protocol):
    """One way. `fill` replaces what was there."""

    async def fill(self, titles: Sequence[str]) -> int:
        """Bytes that it takes. Raises OSError and its store's errors."""
        ...

    async def ask(self, text: str) -> Found: ...

    async def explained(self, text: str, found: Found) -> Found:
        """The same with what is only of interest afterwards, and not timed."""
        ...


@dataclass(slots=True)
class Table:
    """Titles in Postgres. `create` makes table `titles` (number, title) with whatever helps, `search` reads it."""

    connection: asyncpg.Connection[asyncpg.Record]
    create: str
    search: str

    async def fill(self, titles: Sequence[str]) -> int:
        """See TitleSearch."""
        await self.connection.execute("DROP TABLE IF EXISTS titles")
        await self.connection.execute(self.create)
        await self.connection.copy_records_to_table(
            "titles", columns=("number", "title"), records=enumerate(titles), timeout=STATEMENT_SECONDS
        )
        await self.connection.execute("ANALYZE titles")
        return int(await self.connection.fetchval("SELECT pg_total_relation_size('titles')"))

    async def ask(self, text: str) -> Found:
        """See TitleSearch."""
        rows = await self.connection.fetch(self.search, self.parameter(text), timeout=STATEMENT_SECONDS)
        return Found([row["number"] for row in rows])

    def parameter(self, text: str) -> str:
        """What was typed, for the statement."""
        return text

    async def explained(self, text: str, found: Found) -> Found:
        """See TitleSearch."""
        del text
        return found


class Like(Table):
    """What one writes first. No index helps: the pattern begins with a wildcard."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        super().__init__(
            connection,
            "CREATE TABLE titles (number integer PRIMARY KEY, title text NOT NULL)",
            f"SELECT number FROM titles WHERE title ILIKE $1 LIMIT {DEPTH}",
        )

    def parameter(self, text: str) -> str:
        """Whatever holds it."""
        escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        return f"%{escaped}%"


class FullText(Table):
    """Postgres' own: a GIN index finds the rows, ts_rank reads each of them to rank it. It knows no rare words."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        super().__init__(
            connection,
            """
            CREATE TABLE titles (
                number integer PRIMARY KEY, title text NOT NULL,
                words tsvector GENERATED ALWAYS AS (to_tsvector('simple', title)) STORED
            );
            CREATE INDEX titles_words ON titles USING gin (words) WITH (fastupdate = off)
            """,
            f"""
            SELECT number FROM titles, to_tsquery('simple', $1) AS query
            WHERE words @@ query ORDER BY ts_rank(words, query) DESC, number LIMIT {DEPTH}
            """,
        )

    def parameter(self, text: str) -> str:
        """Any of the words."""
        return " | ".join(f"'{each}'" for each in dict.fromkeys("".join(_letters(text)).split()))


def _letters(text: str) -> list[str]:
    return [letter.lower() if letter.isalnum() else " " for letter in text]


@dataclass(slots=True)
class Tiny:
    """tiny_index.py, in this process."""

    index: TinyIndex = field(default_factory=TinyIndex)

    async def fill(self, titles: Sequence[str]) -> int:
        """See TitleSearch."""
        self.index = await asyncio.to_thread(built, titles)
        return self.index.size()

    async def ask(self, text: str) -> Found:
        """See TitleSearch."""
        return Found([hit.document for hit in self.index.search(text, DEPTH)])

    async def explained(self, text: str, found: Found) -> Found:
        """See TitleSearch."""
        del text
        return found


def built(titles: Sequence[str]) -> TinyIndex:
    """An index of them, in their order."""
    index = TinyIndex()
    for title in titles:
        index.add(title)
    return index


@dataclass(slots=True)
class InEngine:
    """The search engine by a plain `match`, beside tiny_index.py over the same titles."""

    engine: Engine
    name: str
    tiny: TinyIndex = field(default_factory=TinyIndex)

    async def fill(self, titles: Sequence[str]) -> int:
        """See TitleSearch. The size is that of one segment, as a quiet index ends up."""
        if await self.engine.index_exists(self.name):
            await self.engine.delete_index(self.name)
        await self.engine.create_index(self.name, INDEX)
        for first in range(0, len(titles), PORTION):
            writes = [
                Write(self.name, str(number), 1, msgspec.json.encode({"title": title}))
                for number, title in enumerate(titles[first : first + PORTION], first)
            ]
            refused = [
                each for each in await self.engine.bulk(writes, within=STATEMENT_SECONDS) if each.fate is not Fate.DONE
            ]
            if refused:
                raise NotFilled(f"the engine refused {len(refused)} titles: {refused[0].reason}")
        await self.engine.refresh(self.name)
        self.tiny = await asyncio.to_thread(built, titles if len(titles) <= MOST_COMPARED else ())
        return (await self.engine.index_bytes(self.name))[1]

    async def ask(self, text: str) -> Found:
        """See TitleSearch."""
        body = {"query": {"match": {"title": text}}, "size": DEPTH, "_source": False, "track_total_hits": False}
        hits = (await self.engine.search(self.name, body, within=STATEMENT_SECONDS)).hits.hits
        return Found([int(hit.id) for hit in hits], [hit.score or 0.0 for hit in hits])

    async def explained(self, text: str, found: Found) -> Found:
        """With the scores of tiny_index.py for the same products; 0 where it would not find one."""
        if not terms(text) or not len(self.tiny):
            return found
        ours = {hit.document: hit.score for hit in self.tiny.search(text, len(self.tiny))}
        return Found(found.numbers, found.scores, [ours.get(number, 0.0) for number in found.numbers])


class Yours(InEngine):
    """Ranked by what a learner writes in yours_day1.py; the engine says only what it thinks of the same titles."""

    async def ask(self, text: str) -> Found:
        """See TitleSearch."""
        hits = yours_day1.search(self.tiny, text, DEPTH)
        return Found([hit.document for hit in hits], ours=[hit.score for hit in hits])

    async def explained(self, text: str, found: Found) -> Found:
        """With the engine's scores; 0 where it would not find one."""
        these = {"ids": {"values": [str(number) for number in found.numbers]}}
        query = {"bool": {"must": [{"match": {"title": text}}], "filter": [these]}}
        answer = await self.engine.search(self.name, {"query": query, "size": DEPTH, "_source": False})
        scores = {int(hit.id): hit.score or 0.0 for hit in answer.hits.hits}
        return Found(found.numbers, [scores.get(number, 0.0) for number in found.numbers], found.ours)


@asynccontextmanager
async def connected(ctx: FaultContext, database: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """To a new database of that name. Raises asyncpg's errors as OSError."""
    host, port = ctx.runtime.address("postgres")
    password = quote(ctx.runtime.variable("POSTGRES_PASSWORD"), safe="")
    url = f"postgresql://postgres:{password}@{host}:{port}"
    try:
        admin = await asyncpg.connect(f"{url}/postgres", timeout=10)
        try:
            await admin.execute(f'DROP DATABASE IF EXISTS "{database}"')
            await admin.execute(f'CREATE DATABASE "{database}"')
        finally:
            await admin.close()
        connection = await asyncpg.connect(f"{url}/{database}", timeout=10, server_settings={"jit": "off"})
        try:
            yield connection
        finally:
            await connection.close()
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise NotFilled(f"Postgres refused it: {error}") from error


@asynccontextmanager
async def search_of(kind: str, ctx: FaultContext, prefix: str) -> AsyncIterator[TitleSearch]:
    """By the name of a variant of day 1. Raises ValueError for another."""
    match kind:
        case "like" | "postgres":
            async with connected(ctx, f"{prefix}titles") as connection:
                yield Like(connection) if kind == "like" else FullText(connection)
        case "tiny":
            yield Tiny()
        case "engine" | "yours":
            host, port = ctx.runtime.address("search-engine")
            async with Engine([f"http://{host}:{port}"], timeout=STATEMENT_SECONDS) as engine:
                name = f"{prefix}titles"
                yield InEngine(engine, name) if kind == "engine" else Yours(engine, name)
        case _:
            raise ValueError(f"nobody searches titles by {kind}")
