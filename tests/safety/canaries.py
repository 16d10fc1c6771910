"""Secrets that are planted and then looked for, in every form in which one may get out."""

from __future__ import annotations

import base64
import gzip
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, quote_plus

import msgspec

SHORTEST = 8
"""Bytes of a secret: a shorter text would be found by chance."""


def forms(secret: str) -> frozenset[bytes]:
    """As it is, and as logs, URLs, JSON and headers carry it."""
    raw = secret.encode()
    assert len(raw) >= SHORTEST, "too short to be looked for"
    turned = {raw, quote(secret, safe="").encode(), quote_plus(secret).encode(), msgspec.json.encode(secret)[1:-1]}
    turned |= {base64.b64encode(raw).rstrip(b"="), base64.urlsafe_b64encode(raw).rstrip(b"="), raw.hex().encode()}
    return frozenset(turned)


def leaks(secrets: Mapping[str, str], places: Iterable[tuple[str, bytes]]) -> list[str]:
    """One sentence for each secret in each place; says where, not what."""
    looked_for = [(name, form) for name, secret in secrets.items() for form in forms(secret)]
    found = {f"{name} is in {place}" for place, content in places for name, form in looked_for if form in content}
    return sorted(found)


@dataclass
class Collector:
    """Takes what is sent to it by OTLP over HTTP, and keeps it as it came."""

    received: list[bytes] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def content(self) -> bytes:
        """All spans; their texts stand in them as they are."""
        return b"\n".join(list(self.received))


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that listens until the block ends."""
    made = Collector()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            made.received.append(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # the base class names it so
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    made.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
