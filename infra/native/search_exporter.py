"""A search engine's health for Prometheus, by the metric and label names of prometheus-community/elasticsearch_exporter.

`python -m infra.native.search_exporter --es.uri=http://HOST:PORT --es.all --web.listen-address=HOST:PORT`. Asks the engine at
each scrape, and answers `elasticsearch_cluster_health_up 0` while it is away. Only what the lab's dashboard and rules ask for.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import aiohttp
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

ASK_SECONDS = 2.0
"""Both questions of one scrape; Prometheus gives up after 2.5 s."""
COLOURS = ("green", "yellow", "red")
POOLS = frozenset({"search", "write", "get", "refresh"})
SESSION = web.AppKey("session", aiohttp.ClientSession)

Json = Mapping[str, Any]


def exposition(health: Json | None, nodes: Json | None) -> bytes:
    """As text for Prometheus. None: the engine did not answer."""
    registry = CollectorRegistry()
    up = Gauge("elasticsearch_cluster_health_up", "1 if the cluster answered", registry=registry)
    up.set(health is not None and nodes is not None)
    if health is not None:
        _health(health, registry)
    if nodes is not None:
        _nodes(nodes, registry)
    return generate_latest(registry)


def _health(health: Json, registry: CollectorRegistry) -> None:
    status = Gauge("elasticsearch_cluster_health_status", "1 for the colour it has", ["color"], registry=registry)
    for colour in COLOURS:
        status.labels(colour).set(health["status"] == colour)
    for name, text in (
        ("number_of_nodes", "Nodes of the cluster"),
        ("unassigned_shards", "Shards that no node holds"),
        ("number_of_pending_tasks", "Changes of the cluster that are not worked on yet"),
    ):
        Gauge(f"elasticsearch_cluster_health_{name}", text, registry=registry).set(health[name])


def _nodes(nodes: Json, registry: CollectorRegistry) -> None:
    def gauge(name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"elasticsearch_{name}", text, ["name", *labels], registry=registry)

    used = gauge("jvm_memory_used_bytes", "Memory in use", "area")
    most = gauge("jvm_memory_max_bytes", "Memory that may be used", "area")
    rejected = gauge("thread_pool_rejected_count", "Tasks refused since the start", "type")
    queue = gauge("thread_pool_queue_count", "Tasks that wait", "type")
    free = gauge("filesystem_data_available_bytes", "Disk that is left", "mount")
    size = gauge("filesystem_data_size_bytes", "Disk in all", "mount")
    documents = gauge("indices_docs", "Documents, with those of copies")
    stored = gauge("indices_store_size_bytes", "Size of the indices")
    queries = gauge("indices_search_query_total", "Searches of a shard since the start")
    seconds = gauge("indices_search_query_time_seconds", "Time in them")
    for node in nodes["nodes"].values():
        name = node["name"]
        used.labels(name, "heap").set(node["jvm"]["mem"]["heap_used_in_bytes"])
        most.labels(name, "heap").set(node["jvm"]["mem"]["heap_max_in_bytes"])
        for pool in POOLS & node["thread_pool"].keys():
            rejected.labels(name, pool).set(node["thread_pool"][pool]["rejected"])
            queue.labels(name, pool).set(node["thread_pool"][pool]["queue"])
        for disk in node["fs"]["data"]:
            free.labels(name, disk["mount"]).set(disk["available_in_bytes"])
            size.labels(name, disk["mount"]).set(disk["total_in_bytes"])
        indices = node["indices"]
        documents.labels(name).set(indices["docs"]["count"])
        stored.labels(name).set(indices["store"]["size_in_bytes"])
        queries.labels(name).set(indices["search"]["query_total"])
        seconds.labels(name).set(indices["search"]["query_time_in_millis"] / 1000)


async def look(session: aiohttp.ClientSession, address: str) -> tuple[Json | None, Json | None]:
    """Health and statistics of the nodes; (None, None) if the engine does not answer both in time."""
    try:
        async with asyncio.timeout(ASK_SECONDS):
            health = await _get(session, f"{address}/_cluster/health")
            return health, await _get(session, f"{address}/_nodes/stats/jvm,thread_pool,fs,indices")
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        return None, None


async def _get(session: aiohttp.ClientSession, url: str) -> Json:
    async with session.get(url) as answer:
        answer.raise_for_status()
        found: Json = await answer.json()
        return found


def application(address: str) -> web.Application:
    """`/metrics`, and `/` for a health check."""

    async def metrics(request: web.Request) -> web.Response:
        seen = await look(request.app[SESSION], address)
        return web.Response(body=exposition(*seen), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def root(_: web.Request) -> web.Response:
        return web.Response(text="search exporter; see /metrics\n")

    async def life(app: web.Application) -> AsyncIterator[None]:
        async with aiohttp.ClientSession() as app[SESSION]:
            yield

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics), web.get("/", root)])
    app.cleanup_ctx.append(life)
    return app


def main(arguments: Sequence[str]) -> int:
    """Until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m infra.native.search_exporter", allow_abbrev=False)
    parser.add_argument("--es.uri", dest="engine", required=True)
    parser.add_argument("--es.all", action="store_true", help="every node, which is what this does anyway")
    parser.add_argument("--web.listen-address", dest="listen", default="127.0.0.1:9114")
    options = parser.parse_args(arguments)
    host, _, port = options.listen.rpartition(":")
    if not port.isdigit():
        parser.error(f"--web.listen-address must be HOST:PORT, not '{options.listen}'")
    asyncio.run(_serve(options.engine.rstrip("/"), host or "127.0.0.1", int(port)))
    return 0


async def _serve(address: str, host: str, port: int) -> None:
    runner = web.AppRunner(application(address), access_log=None)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        await stopped.wait()
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
