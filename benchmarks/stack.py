"""A project `bench` of its own, without Toxiproxy: what a benchmark measures, and what its processes cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from infra import projects
from infra.choose import open_runtime
from infra.runtime import Runtime

PROJECT = "bench"
LAB_PREFIX = "bench_"


@contextmanager
def stack(
    services: Sequence[str], environment: dict[str, str] | None = None, *, timeout: float = 120.0
) -> Iterator[Runtime]:
    """Start the services on fresh databases, within `timeout` s; at the end stop everything and delete it, whatever happens."""
    projects.remove(PROJECT, say)  # of one that was killed
    runtime = open_runtime(PROJECT, edges=False, progress=say)
    try:
        runtime.up(services, env={"LAB_PREFIX": LAB_PREFIX} | (environment or {}), progress=say, timeout=timeout)
        yield runtime
    finally:
        projects.remove(PROJECT, say)


def say(line: str) -> None:
    print(line, flush=True)


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds (user and system) and resident bytes of a service's process tree, shared pages counted once."""

    cpu_seconds: float
    memory_bytes: int


def usage(runtime: Runtime, services: Sequence[str]) -> dict[str, Usage]:
    """Of each service now. Children that have ended are not counted."""
    found = {}
    for service in services:
        identity = runtime.identity(service)
        if identity is None:
            continue
        root = psutil.Process(identity.pid)
        tree = [root, *root.children(recursive=True)]
        cpu = memory = 0.0
        for process in tree:
            try:
                times = process.cpu_times()
                cpu += times.user + times.system
                memory += process.memory_full_info().pss
            except psutil.NoSuchProcess:
                continue
        found[service] = Usage(cpu, int(memory))
    return found
