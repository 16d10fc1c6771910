"""Free TCP ports on 127.0.0.1."""

from __future__ import annotations

import atexit
import fcntl
import functools
import itertools
import os
import secrets
import socket
import tempfile
from pathlib import Path
from typing import BinaryIO

LOWEST, HIGHEST = 20_000, 32_000
"""Below what Linux gives to outgoing connections (32768 on), so that none of those takes a port before its server listens."""
KEPT = 500
"""The ports given out last stay this process's own; older ones may go to others, so that several processes can share them.
More than twice the ports of the compose file, all of which may be asked for at once, each with the one of a shifted project."""

_next = itertools.count(secrets.randbelow(HIGHEST - LOWEST))
_kept: dict[int, None] = {}


def free_ports(count: int, below: int = HIGHEST) -> list[int]:
    """`count` different ports less than `below` that nobody listens on and no process of this user was given lately. Raises OSError.

    Nobody listens on a port between this call and the start of its server, so whoever looks then would be given it too: each
    is reserved for the calling process, until that ends, by a lock on a byte of a file that all processes share.
    """
    found: list[int] = []
    for number in itertools.islice(_next, HIGHEST - LOWEST):
        port = LOWEST + number % (HIGHEST - LOWEST)
        if port < below and reserve(port):
            found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"No {count} ports between {LOWEST} and {HIGHEST} are free on 127.0.0.1.")


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def reserve(port: int) -> bool:
    """Keep a port that is free and nobody's for this process, as `free_ports` does; False if it is not to be had."""
    return is_free(port) and _reserve(port)


def _reserve(port: int) -> bool:
    """A POSIX lock: the kernel frees it when this process ends in whatever way, and no child inherits it."""
    file = _reservations()
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except BlockingIOError:
        return False
    _kept.pop(port, None)
    _kept[port] = None
    if len(_kept) > KEPT:
        oldest = next(iter(_kept))
        del _kept[oldest]
        fcntl.lockf(file, fcntl.LOCK_UN, 1, oldest)
    return True


@functools.cache
def _reservations() -> BinaryIO:
    """Opened once: closing any handle of it would end all locks of this process."""
    file = (Path(tempfile.gettempdir()) / f"lab-ports-{os.getuid()}").open("ab")
    atexit.register(file.close)
    return file
