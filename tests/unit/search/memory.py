"""Twins in memory of the engine and the catalogue's database, which let others have a turn at every call."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from services.search.documents import ProductRow
from services.search.engine import (
    Conflict,
    Document,
    EngineBusy,
    EngineDown,
    EngineRefused,
    Fate,
    Found,
    Health,
    Hit,
    Hits,
    NotThere,
    Total,
    Write,
    Written,
)
from services.search.snapshot import Snapshot
from services.search.store.catalog import State


class Naps:
    """Sleeps that take no time, on a clock that they move."""

    def __init__(self) -> None:
        self.taken: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.taken.append(seconds)

    def now(self) -> float:
        return sum(self.taken)


LAMP = ProductRow(
    id=UUID(int=1),
    sku="LAM-1",
    title="Lamp",
    description="It shines.",
    language="en",
    brand_id=1,
    brand="Castou",
    path="home/lighting",
    category_names=("Home", "Lighting"),
    model="X 1",
    attributes={"colour": "red"},
    price=100,
    currency="EUR",
    stock=1,
    popularity=0,
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
)


def product(number: int, **changes: Any) -> ProductRow:
    return replace(LAMP, **{"id": UUID(int=number), "sku": f"LAM-{number}", **changes})


@dataclass
class Turns:
    """Gives others up to three turns, by chance; none without a seed."""

    chance: random.Random | None = None

    async def __call__(self) -> None:
        for _ in range(self.chance.randrange(4) if self.chance else 0):
            await asyncio.sleep(0)


@dataclass
class MemoryDatabase:
    """Transactions that each change one product; a commit is in the log some turns before it is visible."""

    turns: Turns = field(default_factory=Turns)
    rows: dict[UUID, ProductRow] = field(default_factory=dict)
    next_xid: int = 100
    last_completed: int = 99
    running: set[int] = field(default_factory=set)
    log: list[tuple[int, UUID]] = field(default_factory=list)

    def put(self, row: ProductRow | None, product_id: UUID | None = None) -> int:
        """At once."""
        xid = self._begin()
        self._apply(xid, product_id or (row.id if row else UUID(int=0)), row)
        self.log.append((xid, product_id or row.id))  # type: ignore[union-attr]  # one of both is given
        return xid

    async def commit(self, product_id: UUID, row: ProductRow | None) -> None:
        """Logged first, visible later."""
        xid = self._begin()
        await self.turns()
        self.log.append((xid, product_id))
        for _ in range(4):
            await self.turns()
        self._apply(xid, product_id, row)

    def _begin(self) -> int:
        xid = self.next_xid
        self.next_xid += 1
        self.running.add(xid)
        return xid

    def _apply(self, xid: int, product_id: UUID, row: ProductRow | None) -> None:
        self.running.discard(xid)
        self.last_completed = max(self.last_completed, xid)
        if row is None:
            self.rows.pop(product_id, None)
        else:
            self.rows[product_id] = row

    def now(self) -> Snapshot:
        xmax = self.last_completed + 1
        return Snapshot(xmax, frozenset(each for each in self.running if each < xmax))

    async def snapshot(self) -> Snapshot:
        await self.turns()
        return self.now()

    async def begun(self, transaction: int) -> bool:
        return transaction < self.next_xid

    async def these(self, products: Sequence[UUID]) -> State:
        await self.turns()
        state = State(self.now(), {each: self.rows.get(each) for each in sorted(products)})
        await self.turns()
        return state

    async def after(self, last: UUID | None, limit: int) -> State | None:
        await self.turns()
        wanted = sorted(each for each in self.rows if last is None or each > last)[:limit]
        state = State(self.now(), {each: self.rows[each] for each in wanted})
        await self.turns()
        return state if wanted else None

    async def of_brand(self, brand: int, after: UUID, limit: int) -> list[UUID]:
        return sorted(each for each, row in self.rows.items() if row.brand_id == brand and each > after)[:limit]

    async def of_category(self, category: int, after: UUID, limit: int) -> list[UUID]:
        raise NotImplementedError


@dataclass
class Kept:
    version: int
    body: bytes | None


@dataclass
class MemoryIndex:
    body: dict[str, Any]
    documents: dict[str, Kept] = field(default_factory=dict)

    def sources(self) -> dict[str, dict[str, Any]]:
        alive = {name: kept.body for name, kept in sorted(self.documents.items()) if kept.body is not None}
        return {name: msgspec.json.decode(body) for name, body in alive.items()}


@dataclass
class MemoryEngine:
    """Versions and aliases as the engine has them. `busy` answers 429 so often, `poison` refuses documents with this text."""

    turns: Turns = field(default_factory=Turns)
    indices: dict[str, MemoryIndex] = field(default_factory=dict)
    alias: dict[str, set[str]] = field(default_factory=dict)
    busy: int = 0
    busy_items: int = 0
    down: int = 0
    poison: bytes | None = None
    spoiling: bytes | None = None
    bulks: list[int] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    merged: list[tuple[str, int]] = field(default_factory=list)
    too_busy_to_merge: bool = False

    async def bulk(
        self, writes: Sequence[Write], *, refresh: bool = False, within: float | None = None
    ) -> list[Written]:
        await self.turns()
        if self.busy:
            self.busy -= 1
            raise EngineBusy("too many requests")
        if self.down:
            self.down -= 1
            raise EngineDown("no answer")
        if self.spoiling and any(self.spoiling in (each.body or b"") for each in writes):
            raise EngineRefused("the request is malformed", "parsing_exception")
        self.bulks.append(len(writes))
        answers = [self._write(each) for each in writes]
        await self.turns()
        return answers

    def _write(self, write: Write) -> Written:
        if write.index not in self.indices:
            return Written(write.index, write.id, Fate.NO_INDEX, "index_not_found_exception", "no such index")
        if self.busy_items:
            self.busy_items -= 1
            return Written(write.index, write.id, Fate.BUSY, "es_rejected_execution_exception", "rejected")
        if self.poison and self.poison in (write.body or b""):
            return Written(write.index, write.id, Fate.REFUSED, "mapper_parsing_exception", "failed to parse")
        documents = self.indices[write.index].documents
        there = documents.get(write.id)
        if there is not None and there.version > write.version:
            return Written(write.index, write.id, Fate.NEWER_THERE, "version_conflict_engine_exception", "newer")
        documents[write.id] = Kept(write.version, write.body)
        return Written(write.index, write.id, Fate.DONE)

    async def mget(self, index: str, documents: Sequence[str], *, source: Any = True) -> list[Document]:
        await self.turns()
        found = []
        for name in documents:
            kept = self.indices[index].documents.get(name)
            if kept is None or kept.body is None:
                found.append(Document(name))
            else:
                found.append(
                    Document(name, found=True, index=index, version=kept.version, source=msgspec.json.decode(kept.body))
                )
        return found

    async def search(self, index: str, body: Mapping[str, Any], *, within: float | None = None) -> Found:
        await self.turns()
        (concrete,) = self.alias.get(index, {index})
        found = self._matching(concrete, body["query"])
        if "aggs" in body:
            total = sum(source["digest"] for source in found.values())
            hits = Hits(total=Total(len(found)))
            return Found(1, timed_out=False, hits=hits, aggregations={"digests": {"value": float(total)}})
        return Found(
            1, timed_out=False, hits=Hits([Hit(name, concrete, source=source) for name, source in found.items()])
        )

    def _matching(self, index: str, query: Any) -> dict[str, dict[str, Any]]:
        if index not in self.indices:
            raise NotThere("no such index")
        sources = self.indices[index].sources()
        if "term" in query:
            return {name: source for name, source in sources.items() if name == query["term"]["id"]}
        bounds = query["range"]["id"]
        return {name: source for name, source in sources.items() if bounds["gt"] < name <= bounds["lte"]}

    async def scan(self, index: str, query: Any, *, source: Any = True, page: int = 1_000) -> AsyncIterator[Hit]:
        for name, content in self._matching(index, query).items():
            yield Hit(name, index, source=content)

    async def aliases(self, alias: str) -> tuple[str, ...]:
        await self.turns()
        return tuple(sorted(self.alias.get(alias, ())))

    async def update_aliases(self, actions: Sequence[Any]) -> None:
        await self.turns()
        for action in actions:
            ((what, named),) = action.items()
            if named["index"] not in self.indices:
                raise NotThere("no such index")
            members = self.alias.setdefault(named["alias"], set())
            (members.add if what == "add" else members.discard)(named["index"])
        await self.turns()

    async def create_index(self, name: str, body: dict[str, Any]) -> None:
        await self.turns()
        if name in self.indices:
            raise Conflict("it is there", "resource_already_exists_exception")
        self.indices[name] = MemoryIndex(body)
        for alias in body.get("aliases", {}):
            self.alias.setdefault(alias, set()).add(name)

    async def delete_index(self, name: str) -> None:
        if self.indices.pop(name, None) is None:
            raise NotThere("no such index")
        for members in self.alias.values():
            members.discard(name)

    async def index_exists(self, name: str) -> bool:
        return name in self.indices or bool(self.alias.get(name))

    async def refresh(self, index: str) -> None:
        await self.turns()

    async def index_bytes(self, index: str) -> tuple[int, int]:
        documents = self.indices[index].documents.values()
        return len(documents), sum(len(each.body or b"") for each in documents)

    async def force_merge(self, index: str, segments: int, *, within: float | None = None) -> None:
        await self.turns()
        if self.too_busy_to_merge:
            raise EngineBusy("too many requests")
        self.merged.append((index, segments))

    async def mapping(self, index: str) -> dict[str, Any]:
        return deepcopy(dict(self.indices[index].body["mappings"]))

    async def put_mapping(self, index: str, mapping: Any) -> None:
        self.indices[index].body["mappings"]["properties"] |= mapping["properties"]

    async def put_settings(self, index: str, settings: Any) -> None:
        self.indices[index].body["settings"]["index"] |= settings

    async def put_cluster_settings(self, settings: Any) -> None:
        self.settings |= settings

    async def health(self, index: str | None = None, *, wait_for: str | None = None) -> Health:
        return Health("green", 1)
