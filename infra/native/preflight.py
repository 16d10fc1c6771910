"""Looks before anything starts: ports, memory, disk. One sentence for the first thing that is wrong."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

from infra.native.free_ports import is_free
from infra.runtime import RuntimeProblem

_FREE_DISK = 1 << 30


def require_ports(ports: Iterable[tuple[str, int]], variable: Callable[[int], str | None]) -> None:
    """`ports` are (service, port). Raises RuntimeProblem that names the port, its holder and how to change it."""
    for service, port in ports:
        if not _is_free_soon(port):
            name = variable(port)
            remedy = f"stop that process or set {name} to another port in .env" if name else "stop that process"
            raise RuntimeProblem(f"Port {port} of {service} is in use by {holder_of(port)}; {remedy}.")


def _is_free_soon(port: int, bound: float = 1.0) -> bool:
    """A process that has just been killed holds its sockets until its last thread is gone."""
    deadline = time.monotonic() + bound
    while not is_free(port):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def holder_of(port: int) -> str:
    """Name and pid of who listens on a local port, as far as this user may know."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:  # macOS tells only root
        return "another process"
    for connection in connections:
        listens = connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
        if listens and connection.pid is not None:
            try:
                return f"'{psutil.Process(connection.pid).name()}' (pid {connection.pid})"
            except psutil.NoSuchProcess:
                continue
    return "a process of another user"


def require_memory(limits: Iterable[int | None]) -> None:
    """Half of the limits must be free: they are ceilings, and measured use is well below. Raises RuntimeProblem."""
    needed = sum(limit or 0 for limit in limits) // 2
    available = int(psutil.virtual_memory().available)
    if available < needed:
        raise RuntimeProblem(
            f"About {needed >> 20} MiB of free memory are needed and {available >> 20} MiB are available; "
            "stop other programs, or 'make down' what runs already."
        )


def require_disk(folder: Path) -> None:
    """Raises RuntimeProblem."""
    free = shutil.disk_usage(folder).free
    if free < _FREE_DISK:
        raise RuntimeProblem(f"1 GiB of free disk is needed at {folder} and {free >> 20} MiB are free.")
