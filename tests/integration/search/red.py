"""An index whose primary finds no node: what of another run is still recovering, or lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.search.engine import Engine


@asynccontextmanager
async def red_index(engine: Engine, name: str) -> AsyncIterator[None]:
    """The whole cluster is red meanwhile."""
    settings = {"number_of_replicas": 0, "routing.allocation.require._name": "no-node-of-this-name"}
    body = {"settings": {"index": settings}}
    # Not to be had by the service: it waits for the primaries of what it makes.
    await engine._call("PUT", f"/{name}", body, {"wait_for_active_shards": "0"})
    try:
        assert (await engine.health()).status == "red"
        yield
    finally:
        await engine.delete_index(name)
