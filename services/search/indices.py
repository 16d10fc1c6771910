"""The indices of one installation and the two aliases that say what they are for.

`products` is what queries read: one index. `products-write` is where changes go: one index, or two from the moment a reindex
begins until the old one is dropped, so that a rollback finds an index that is as fresh as the other. Both live in the engine,
which changes several aliases at one instant; a record of our own beside them could disagree with them.

The engine would make an index out of any bulk request for a name that is gone, with a mapping it guessed. `install` forbids
that for our names, in the whole cluster.
"""

from __future__ import annotations

import logging
import re
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from services.search import mappings
from services.search.engine import Engine, EngineBusy, EngineDown
from services.search.mappings import Mapping

log = logging.getLogger(__name__)

READ = "products"
WRITE = "products-write"
WHILE_COPYING = {"refresh_interval": "-1", "number_of_replicas": 0, "translog.flush_threshold_size": "512mb"}
"""Of an index that nobody reads yet. What an engine replays when it was killed is its translog since the last flush: seconds
for the 16 MB of the mapping, and half a minute for the engines' own 512 MB, during which the index is not there.
"""
LARGEST_SEGMENT_BYTES = 2_500_000_000
"""Half of what the engines merge to by themselves: a larger one keeps its deleted documents for long."""
FEW_SEGMENTS = 4
"""Not one: several cores search several segments of one query at once."""
MERGE_SECONDS = 1800.0
AUTO_CREATE = "-*products-v*,-*products-write,-*products,+*"
_NAME = re.compile(r"[a-z0-9_]*products-v([1-9][0-9]{0,3})-[0-9]{8}t[0-9]{9}")


class IndexProblem(Exception):
    """What was asked for cannot be done with the indices as they are; the message is one sentence that says why."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a new index: shards (0: as its mapping says) and replicas (None: as its mapping says)."""

    shards: int = 0
    replicas: int | None = None


def version_of(index: str) -> int:
    """The mapping version in a concrete index's name. Raises IndexProblem for another name."""
    found = _NAME.fullmatch(index)
    if found is None:
        raise IndexProblem(f"{index} is no name of an index of ours, such as products-v1-20260131t235959123.")
    return int(found[1])


@lru_cache
def fields_of(index: str) -> frozenset[str]:
    """What documents of this index may hold. Raises IndexProblem, mappings.UnknownMapping."""
    return mappings.load(version_of(index)).fields


class Indices:
    """`prefix` is the lab's. All methods raise the engine's errors."""

    def __init__(self, engine: Engine, prefix: str, shape: Shape | None = None) -> None:
        self._engine = engine
        self._prefix = prefix
        self._shape = shape or Shape()
        self.read_alias = prefix + READ
        self.write_alias = prefix + WRITE

    async def reading(self) -> str | None:
        """The index that queries read."""
        found = await self._engine.aliases(self.read_alias)
        return found[0] if found else None

    async def writing(self) -> tuple[str, ...]:
        """The indices that changes go to."""
        return await self._engine.aliases(self.write_alias)

    async def writable(self) -> bool:
        """A readiness check: there is an index for changes, and its shards can take them."""
        return await self._engine.answers(self.write_alias)

    async def install(self, now: datetime) -> str:
        """Have an index for reading and writing; return its name. Idempotent, but not for two at once."""
        await self._engine.put_cluster_settings({"action.auto_create_index": AUTO_CREATE})
        if (there := await self.reading()) is not None:
            return there
        mapping = mappings.load()
        name = self.name(mapping.version, now)
        body = self._body(mapping)
        await self._engine.create_index(name, {**body, "aliases": {self.read_alias: {}, self.write_alias: {}}})
        return name

    async def create_for_copy(self, name: str, mapping: Mapping) -> None:
        """A new index, without refresh and replicas until `open_for_queries`; changes go to it from now on.

        When this returns every node knows so: whoever reads the write alias later finds it there. Goes on where a killed
        process was.
        """
        if not await self._engine.index_exists(name):
            body = self._body(mapping)
            body["settings"]["index"] |= WHILE_COPYING
            await self._engine.create_index(name, body)
        await self._engine.update_aliases([_add(name, self.write_alias)])

    async def merge(self, name: str) -> None:
        """To few segments: a query looks its words up in each. Without it, if the engine does not get it done.

        Of 300,000 products in ten segments a query took 10.7 ms, in four 8.6, in one 8.3. With 1,000,000 one was worse than
        23: nothing could be searched at once. Changes make small ones again, which the engine merges as ever.
        """
        try:
            _, size = await self._engine.index_bytes(name)
            segments = max(FEW_SEGMENTS, 1 + size // LARGEST_SEGMENT_BYTES)
            await self._engine.force_merge(name, segments, within=MERGE_SECONDS)
        except (EngineDown, EngineBusy) as error:
            log.warning("the index is not merged", extra={"index": name, "reason": error.reason})

    async def open_for_queries(self, name: str) -> None:
        """As its mapping says, with everything visible and every primary in place. Raises IndexProblem if it is not."""
        wanted = self._body(mappings.load(version_of(name)))["settings"]["index"]
        await self._engine.put_settings(name, {key: wanted[key] for key in WHILE_COPYING if key in wanted})
        await self._engine.refresh(name)
        health = await self._engine.health(name, wait_for="yellow")
        if health.status == "red":
            raise IndexProblem(f"{name} has lost a shard; see the engine's log.")

    async def swap(self, name: str) -> str | None:
        """Queries read `name` from now on; return what they read before, which goes on getting changes."""
        if name not in await self.writing():
            raise IndexProblem(f"{name} gets no changes, so queries must not read it.")
        before = await self.reading()
        if before == name:
            return None
        gone = [] if before is None else [_remove(before, self.read_alias)]
        await self._engine.update_aliases([*gone, _add(name, self.read_alias)])
        return before

    async def rollback(self) -> tuple[str, str]:
        """Queries read the index before; return (which, what they read until now). Raises IndexProblem."""
        now = await self.reading()
        others = [each for each in await self.writing() if each != now]
        if now is None or not others:
            raise IndexProblem("There is no other index that gets changes; what was dropped needs a reindex.")
        if len(others) > 1:
            raise IndexProblem(f"Several are possible: {', '.join(others)}; say which with swap --index NAME.")
        await self.swap(others[0])
        return others[0], now

    async def drop(self, name: str) -> None:
        """Delete an index that no query reads. Raises IndexProblem."""
        version_of(name)
        if not name.startswith(self._prefix):
            raise IndexProblem(f"{name} belongs to another installation.")
        if name == await self.reading():
            raise IndexProblem(f"Queries read {name}; swap first.")
        if name in await self.writing():
            await self._engine.update_aliases([_remove(name, self.write_alias)])
        await self._engine.delete_index(name)

    async def update(self) -> list[str]:
        """Add the fields that the newest mapping has and the indices of its version lack; return them.

        Raises IndexProblem where queries read another version, EngineRefused for a change that cannot be made in place.
        """
        mapping, current = mappings.load(), await self.reading()
        if current is None or version_of(current) != mapping.version:
            raise IndexProblem(f"Queries read {current}; to version {mapping.version} leads a reindex.")
        new: set[str] = set()
        for name in await self.writing():
            if version_of(name) == mapping.version:
                has = (await self._engine.mapping(name))["properties"]
                await self._engine.put_mapping(name, {"properties": mapping.body["mappings"]["properties"]})
                new |= mapping.fields - has.keys()
        return sorted(new)

    def name(self, version: int, now: datetime) -> str:
        """`products-v1-20260131t235959123`."""
        return f"{self._prefix}{READ}-v{version}-{now:%Y%m%dt%H%M%S}{now.microsecond // 1000:03}"

    def _body(self, mapping: Mapping) -> dict[str, Any]:
        body = deepcopy(mapping.body)
        settings = body.setdefault("settings", {}).setdefault("index", {})
        if self._shape.shards:
            settings["number_of_shards"] = self._shape.shards
        if self._shape.replicas is not None:
            settings["number_of_replicas"] = self._shape.replicas
        return body


def _add(index: str, alias: str) -> dict[str, Any]:
    return {"add": {"index": index, "alias": alias}}


def _remove(index: str, alias: str) -> dict[str, Any]:
    # must_exist is not known to all versions; removing an alias that is gone is refused by each.
    return {"remove": {"index": index, "alias": alias}}
