"""The set-up of days 2, 3 and 5: the index holds the whole generated catalogue before the load begins.

Day 2 fills it for each variant. Days 3 and 5 only read it, so it is built once for each size and kept under a prefix of its
own, `data<products>x<mapping>_`, until `make clean`; each variant gets a clone, which the engine makes of hard links.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote_plus

import aiohttp
import msgspec

from labs.engine.blocking import blocking
from labs.engine.model import (
    FaultContext,
    InjectFailedError,
    Json,
    KnowsVariables,
    Prepare,
    PrepareFailedError,
    Receipt,
)
from labs.faults.zero import NOTHING

POLL_SECONDS = 0.25
CALL = aiohttp.ClientTimeout(total=20)
WARM_SECONDS, WARM_QUERIES, FAST_SECONDS = 15.0, 40, 0.1
MOST_WARMING = 2000
QUERIES = Path(__file__).resolve().parents[2] / "loadtests" / "queries.txt"
SLOWEST_PER_SECOND = 250
"""Products generated, written, read and indexed, all in all."""
MAPPINGS = Path(__file__).resolve().parents[2] / "services" / "search" / "mappings"


class EngineAnswerError(Exception):
    """The engine refused, and how."""


async def ask(ctx: FaultContext, role: str, method: str, path: str, body: Mapping[str, Json] | None = None) -> Json:
    """What the node that plays `role` answers. Raises EngineAnswerError, aiohttp.ClientError, TimeoutError."""
    data = None if body is None else msgspec.json.encode(body)
    headers = {"Content-Type": "application/json"}
    async with ctx.session.request(
        method, f"{ctx.url(role)}/{path}", data=data, headers=headers, timeout=CALL
    ) as answer:
        text = await answer.read()
        if answer.status >= 400:
            raise EngineAnswerError(f"{method} {path} was answered with {answer.status}: {text[:200]!r}")
    found: Json = msgspec.json.decode(text)
    return found


def variables_of(ctx: FaultContext) -> Mapping[str, str]:
    """What the processes were started with. Raises PrepareFailedError."""
    if not isinstance(ctx, KnowsVariables):
        raise PrepareFailedError("nobody knows how many products there should be")
    return ctx.variables


async def count(ctx: FaultContext, role: str, alias: str) -> int:
    """Refreshed documents; 0 while there is no such alias."""
    try:
        found = await ask(ctx, role, "GET", f"{alias}/_count")
    except EngineAnswerError:
        return 0
    number = found["count"] if isinstance(found, Mapping) else 0
    return number if isinstance(number, int) else 0


def index_is_full(role: str) -> Prepare:
    """Waits until the alias `products` of this run has all products; the engine's node that plays `role` is asked."""

    async def index_is_full(ctx: FaultContext) -> str:
        """The lab's bound ends it."""
        variables = variables_of(ctx)
        wanted, alias = int(variables["CATALOG_PRODUCTS"]), f"{variables['LAB_PREFIX']}products"
        while True:
            there = await count(ctx, role, alias)
            if there >= wanted:
                return f"{there:,} products are in the index"
            await asyncio.sleep(POLL_SECONDS)

    return index_is_full


def warmed(first: Prepare, role: str = "sut") -> Prepare:
    """After `first`, queries one after the other until WARM_QUERIES in a row are fast, for WARM_SECONDS at most.

    A virtual machine that has just started compiles first, and that is not what is to be seen here.
    """

    async def warmed(ctx: FaultContext) -> str:
        """Nothing that is refused or late here is held against anybody."""
        said = await first(ctx)
        loop = asyncio.get_running_loop()
        until = loop.time() + WARM_SECONDS
        texts = QUERIES.read_text("utf-8").splitlines()[:MOST_WARMING]
        asked = fast = 0
        for text in texts:
            began = loop.time()
            if began > until or fast >= WARM_QUERIES:
                break
            with suppress(aiohttp.ClientError, TimeoutError):
                async with ctx.session.get(
                    f"{ctx.url(role)}/v1/search?q={quote_plus(text)}", headers={"X-Client-Id": "warm"}, timeout=CALL
                ) as answer:
                    await answer.read()
            asked += 1
            fast = fast + 1 if loop.time() - began < FAST_SECONDS else 0
        return f"{said}; warmed up by {asked} queries"

    return warmed


# --- a catalogue that is built once -----------------------------------------------------------------------------------


def kept_prefix(products: int, kept: str = "") -> str:
    """Of the catalogue that is kept; another mapping makes another one. `kept` tells engines apart that share a database."""
    mapping = b"".join(path.read_bytes() for path in sorted(MAPPINGS.glob("*.json")))
    return f"data{products}x{hashlib.sha256(mapping).hexdigest()[:8]}{kept}_"


def cloned_catalogue(role: str, builders: Sequence[str], *, replicas: int = 0, kept: str = "") -> Prepare:
    """`builders` are the one-shots that fill a database and an index; the last of them needs the others."""

    async def cloned_catalogue(ctx: FaultContext) -> str:
        """Raises PrepareFailedError."""
        variables = variables_of(ctx)
        products = int(variables["CATALOG_PRODUCTS"])
        prefix = kept_prefix(products, kept)
        try:
            built = await _built(ctx, role, builders, prefix, products)
            index = await clone(ctx, role, f"{prefix}products", variables["LAB_PREFIX"], replicas)
        except EngineAnswerError as error:
            raise PrepareFailedError(str(error)) from error
        there = await count(ctx, role, f"{variables['LAB_PREFIX']}products")
        if there < products:
            raise PrepareFailedError(f"{index} has {there} products of {products}")
        return f"{there:,} products are in {index}{built}"

    return cloned_catalogue


async def _built(ctx: FaultContext, role: str, builders: Sequence[str], kept: str, products: int) -> str:
    if await count(ctx, role, f"{kept}products") >= products:
        return ", cloned from those of an earlier run"
    variables = {**variables_of(ctx), "LAB_PREFIX": kept}
    for service in builders:
        await blocking(ctx.runtime.forget, service)
    await blocking(ctx.runtime.up, builders, env=variables, timeout=60 + products / SLOWEST_PER_SECOND)
    return ", generated for this run and kept"


async def behind(ctx: FaultContext, role: str, alias: str) -> str:
    """The one index of an alias. Raises EngineAnswerError."""
    found = await ask(ctx, role, "GET", f"_alias/{alias}")
    if not isinstance(found, Mapping) or len(found) != 1:
        raise EngineAnswerError(f"{alias} stands for {len(found) if isinstance(found, Mapping) else 'no'} indices")
    return next(iter(found))


async def clone(ctx: FaultContext, role: str, source_alias: str, prefix: str, replicas: int = 0) -> str:
    """A clone of what `source_alias` reads becomes the index that `<prefix>products` reads; its name.

    Raises EngineAnswerError.
    """
    source = await behind(ctx, role, source_alias)
    name = f"{prefix}products-v{_version(source)}-{datetime.now(UTC):%Y%m%dt%H%M%S%f}"[:-3]
    await ask(ctx, role, "PUT", f"{source}/_settings", {"index.blocks.write": True})
    settings: dict[str, Json] = {"index.blocks.write": None, "index.number_of_replicas": replicas}
    await ask(ctx, role, "PUT", f"{source}/_clone/{name}", {"settings": settings})
    wanted = "green" if replicas else "yellow"
    await ask(ctx, role, "GET", f"_cluster/health/{name}?wait_for_status={wanted}&timeout=15s")
    await ask(ctx, role, "POST", "_aliases", {"actions": list(await _actions(ctx, role, prefix, name))})
    return name


def _version(index: str) -> str:
    return index.rpartition("products-v")[2].partition("-")[0]


async def _actions(ctx: FaultContext, role: str, prefix: str, name: str) -> list[Json]:
    """Both aliases go from what they stand for to `name`, at one instant."""
    actions: list[Json] = []
    for alias in (f"{prefix}products", f"{prefix}products-write"):
        try:
            old = await behind(ctx, role, alias)
            actions.append({"remove": {"index": old, "alias": alias}})
        except EngineAnswerError:
            pass
        actions.append({"add": {"index": name, "alias": alias}})
    return actions


@dataclass(frozen=True, slots=True)
class Swap:
    """A new index with the same products takes over the alias, in one step: what a reindex ends with."""

    role: str
    times: int = 1
    lasting: float = 5.0
    kind: str = "swap"
    heals_first: bool = False

    def parameters(self) -> Mapping[str, Json]:
        """`times` is 0 in a control run."""
        return {"times": self.times}

    def target(self, ctx: FaultContext) -> str:
        """The engine's service."""
        return ctx.service(self.role)

    async def inject(self, ctx: FaultContext) -> tuple[str, str] | None:
        """Which index was read before, and which is now. Raises InjectFailedError."""
        if not self.times:
            return None
        prefix = variables_of(ctx)["LAB_PREFIX"]
        try:
            before = await behind(ctx, self.role, f"{prefix}products")
            now = await clone(ctx, self.role, f"{prefix}products", prefix)
        except EngineAnswerError as error:
            raise InjectFailedError(str(error)) from error
        return before, now

    async def receipt(self, ctx: FaultContext, handle: object) -> Receipt:
        """The alias has moved."""
        if not isinstance(handle, tuple):
            return NOTHING
        before, wanted = handle
        now = await behind(ctx, self.role, f"{variables_of(ctx)['LAB_PREFIX']}products")
        return Receipt(now == wanted, f"queries read {now} instead of {before}", {"before": before, "now": now})

    async def heal(self, ctx: FaultContext) -> None:
        """The new index stays."""
        del ctx


def swap(role: str, *, times: int = 1) -> Swap:
    """`times=0` changes nothing."""
    return Swap(role, times)
