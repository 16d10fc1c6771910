"""Sends recorded spans by OTLP over HTTP. A collector that is away costs neither time nor logs, only spans."""

from __future__ import annotations

import http.client
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from prometheus_client import Counter

log = logging.getLogger(__name__)

SPANS = Counter("tracing_spans_total", "Spans by what became of them: sent, or dropped", ["outcome"])

QUEUE = 4096
"""Spans that wait, some 2 KiB each. When it is full new ones are dropped: a request does not wait for its trace."""
BATCH = 512
EVERY_SECONDS = 1.0
TIMEOUT_SECONDS = 1.0
"""Of each step of a request: connect, send, answer."""
REST_SECONDS = 5.0
"""After a failure no request is made for so long, and what comes meanwhile is dropped."""
LOG_SECONDS = 60.0
SHUTDOWN_SECONDS = 3.0


class Collector:
    """One keep-alive connection. The proxies of the environment are not used."""

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("OTLP_ENDPOINT is http://host:port")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname, parts.port or 4318, timeout=TIMEOUT_SECONDS)
        self._path = parts.path.rstrip("/") + "/v1/traces"

    def post(self, body: bytes) -> int:
        """The status of the answer. Raises OSError, http.client.HTTPException."""
        kept = self._connection.sock is not None
        try:
            return self._post(body)
        except (ConnectionError, http.client.CannotSendRequest):
            # A collector that was started anew, or that closes idle connections, is there all the same.
            if not kept:
                raise
            return self._post(body)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def _post(self, body: bytes) -> int:
        try:
            self._connection.request("POST", self._path, body, {"Content-Type": "application/x-protobuf"})
            answer = self._connection.getresponse()
            answer.read(64 * 1024)
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise
        return answer.status


class BatchSender(SpanProcessor):
    """A bounded queue and one thread that empties it."""

    def __init__(
        self, endpoint: str, *, collector: Collector | None = None, clock: Callable[[], float] = monotonic
    ) -> None:
        self._endpoint = endpoint
        self._collector = collector or Collector(endpoint)
        self._clock = clock
        self._queue: deque[ReadableSpan] = deque()
        self._wake = threading.Event()
        self._stopping = False
        self._lost = 0
        self._again_at = self._quiet_until = float("-inf")
        self._thread = threading.Thread(target=self._run, name="trace-export", daemon=True)
        self._thread.start()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Nothing."""

    def on_end(self, span: ReadableSpan) -> None:
        """Never blocks."""
        if len(self._queue) >= QUEUE or self._stopping:
            SPANS.labels("dropped").inc()
            return
        self._queue.append(span)
        if len(self._queue) >= BATCH:
            self._wake.set()

    def shutdown(self) -> None:
        """Send what is left, for SHUTDOWN_SECONDS at most."""
        self._stopping = True
        self._wake.set()
        self._thread.join(SHUTDOWN_SECONDS)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Not needed: the queue is emptied each second."""
        return not self._queue

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(EVERY_SECONDS)
            self._wake.clear()
            self._empty()
        self._empty()
        self._collector.close()

    def _empty(self) -> None:
        while self._queue:
            batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
            self._send(batch)

    def _send(self, batch: Sequence[ReadableSpan]) -> None:
        if self._clock() < self._again_at:
            self._failed(len(batch))
            return
        try:
            status = self._collector.post(encode_spans(batch).SerializeToString())
        except (OSError, http.client.HTTPException) as error:
            self._failed(len(batch), type(error).__name__)
        else:
            if 200 <= status < 300:
                SPANS.labels("sent").inc(len(batch))
            else:
                self._failed(len(batch), f"status {status}")

    def _failed(self, spans: int, why: str | None = None) -> None:
        SPANS.labels("dropped").inc(spans)
        self._lost += spans
        if why is None:
            return
        now = self._clock()
        self._again_at = now + REST_SECONDS
        if now >= self._quiet_until:
            log.warning("spans are not taken", extra={"endpoint": self._endpoint, "error": why, "dropped": self._lost})
            self._quiet_until, self._lost = now + LOG_SECONDS, 0
