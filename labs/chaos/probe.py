"""One question to a server over a link, and how long its answer took: evidence that needs no load.

As a program, which runs by its text in a container's network (so it needs the standard library only): HOST PORT SERVER COUNT
TIMEOUT; writes one JSON line.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import time
from dataclasses import asdict, dataclass

NO_ANSWER = "no answer"
_POSTGRES = struct.pack("!II", 8, 80877103)  # SSLRequest: answered by one byte, whoever asks
_KAFKA = struct.pack("!IHHIh", 10, 18, 0, 1, -1)  # ApiVersions 0, correlation 1, no client id
_REDIS = b"PING\r\n"
_HTTP = b"GET /metrics HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n"
TOTAL_SECONDS = 5.0
_PACING_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class Trips:
    """Round trips over one link. `slowest` in seconds; `received` bytes of all answers; `error` of the last that failed."""

    answered: int
    asked: int
    slowest: float
    total: float
    received: int
    error: str

    @property
    def ok(self) -> bool:
        """Whether each was answered."""
        return self.answered == self.asked

    def told(self) -> str:
        """For a sentence."""
        slowest = f"{1000 * self.slowest:.0f} ms"
        if self.asked > 1:
            return f"{self.answered} of {self.asked} were answered, the slowest took {slowest}"
        return f"took {slowest}" if self.ok else f"got {self.error}"


def question(server: str) -> bytes:
    """What a server of this name (the end of a link's name) answers to anybody."""
    return {"postgres": _POSTGRES, "kafka": _KAFKA, "redis": _REDIS}.get(server, _HTTP)


def ask(host: str, port: int, server: str, *, count: int = 1, timeout: float = 2.0) -> Trips:
    """Up to `count` questions within TOTAL_SECONDS. Never raises for the network's sake: a failure is a finding."""
    answered = received = 0
    slowest = 0.0
    error = ""
    begun = time.monotonic()
    asked = 0
    while asked < count and (asked == 0 or time.monotonic() - begun < TOTAL_SECONDS):
        asked += 1
        at = time.monotonic()
        try:
            received += _one(host, port, question(server), timeout)
            answered += 1
        except TimeoutError:
            error = f"{NO_ANSWER} within {timeout:g} s"
        except OSError as problem:
            error = f"'{problem.strerror or problem}'"
        slowest = max(slowest, time.monotonic() - at)
        time.sleep(_PACING_SECONDS)
    return Trips(answered, asked, slowest, time.monotonic() - begun, received, error)


def _one(host: str, port: int, text: bytes, timeout: float) -> int:
    with socket.create_connection((host, port), timeout=timeout) as connection:
        connection.sendall(text)
        received = 0
        while piece := connection.recv(1 << 16):
            received += len(piece)
            if text is not _HTTP:
                break
        if not received:
            raise ConnectionResetError(0, "connection closed without an answer")
        return received


def main(arguments: list[str]) -> int:
    """One line."""
    host, port, server, count, timeout = arguments
    print(json.dumps(asdict(ask(host, int(port), server, count=int(count), timeout=float(timeout)))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
