"""A collector that is away, refuses or restarts costs spans, and neither waiting nor a flood of log lines."""

from __future__ import annotations

import http.client
import logging
import socket
import threading
import time
from dataclasses import dataclass, field

import pytest
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import REGISTRY

from infra.native.free_ports import free_ports
from services.kit import trace_export
from services.kit.trace_export import QUEUE, REST_SECONDS, BatchSender, Collector


@dataclass
class FakeCollector(Collector):
    """Answers with `status`, or fails with `error`, or waits for `gate`."""

    status: int = 200
    error: Exception | None = None
    gate: threading.Event | None = None
    bodies: list[bytes] = field(default_factory=list)

    def post(self, body: bytes) -> int:
        if self.gate is not None:
            self.gate.wait(10)
        self.bodies.append(body)
        if self.error is not None:
            raise self.error
        return self.status

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def spans(provider: TracerProvider, number: int) -> None:
    tracer = provider.get_tracer("test")
    for _ in range(number):
        tracer.start_span("work").end()


def provider_of(sender: BatchSender) -> TracerProvider:
    made = TracerProvider(shutdown_on_exit=False)
    made.add_span_processor(sender)
    return made


def counted(outcome: str) -> float:
    return REGISTRY.get_sample_value("tracing_spans_total", {"outcome": outcome}) or 0.0


def emptied(sender: BatchSender) -> None:
    """Wait until the thread has taken all."""
    until = time.monotonic() + 10
    while sender._queue and time.monotonic() < until:
        sender._wake.set()
        time.sleep(0.01)
    assert not sender._queue


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_export, "EVERY_SECONDS", 0.01)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "broken", [FakeCollector(status=503), FakeCollector(error=ConnectionRefusedError()), FakeCollector(error=http.client.BadStatusLine("?"))]
)  # fmt: skip
def test_a_collector_that_does_not_take_spans_is_told_of_once_a_minute(
    broken: FakeCollector, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    dropped = counted("dropped")
    sender = BatchSender("http://collector:4318", collector=broken, clock=clock)
    provider = provider_of(sender)
    with caplog.at_level(logging.WARNING, trace_export.__name__):
        for step in range(12):
            clock.now = step * (REST_SECONDS - 1)
            spans(provider, 3)
            emptied(sender)
        sender.shutdown()
        assert len(caplog.records) == 1
    assert counted("dropped") - dropped == 36
    assert 1 <= len(broken.bodies) <= 7
    assert not sender._thread.is_alive()


@pytest.mark.usefixtures("quick")
def test_spans_go_out_again_after_the_rest(clock: Clock) -> None:
    collector = FakeCollector(error=ConnectionRefusedError())
    sender = BatchSender("http://collector:4318", collector=collector, clock=clock)
    provider = provider_of(sender)
    sent = counted("sent")
    spans(provider, 1)
    emptied(sender)
    until = time.monotonic() + 10
    while sender._again_at < 0 and time.monotonic() < until:
        time.sleep(0.01)
    collector.error = None
    clock.now = REST_SECONDS + 1
    spans(provider, 2)
    sender.shutdown()
    assert counted("sent") - sent == 2


def test_a_full_queue_drops_and_never_waits() -> None:
    gate = threading.Event()
    sender = BatchSender("http://collector:4318", collector=FakeCollector(gate=gate))
    provider = provider_of(sender)
    dropped = counted("dropped")
    spans(provider, QUEUE + trace_export.BATCH + 100)
    assert len(sender._queue) <= QUEUE
    assert counted("dropped") - dropped >= 100
    gate.set()
    sender.shutdown()


def test_shutdown_is_bounded_when_the_collector_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_export, "SHUTDOWN_SECONDS", 0.1)
    gate = threading.Event()
    sender = BatchSender("http://collector:4318", collector=FakeCollector(gate=gate))
    spans(provider_of(sender), 1)
    sender.shutdown()
    assert sender._thread.is_alive()
    gate.set()
    sender._thread.join(10)
    assert not sender._thread.is_alive()


def test_a_collector_that_is_not_there_is_an_error() -> None:
    (port,) = free_ports(1)
    with pytest.raises(ConnectionRefusedError):
        Collector(f"http://127.0.0.1:{port}").post(b"")


def test_a_kept_connection_that_the_collector_has_closed_loses_nothing() -> None:
    answered: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer_once_a_connection() -> None:
            for _ in range(2):
                connection, _ = server.accept()
                with connection:
                    request = b""
                    while not request.endswith(b"spans"):
                        request += connection.recv(4096)
                    answered.append(request)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=answer_once_a_connection)
        thread.start()
        collector = Collector(f"http://127.0.0.1:{server.getsockname()[1]}/base/")
        assert [collector.post(b"spans"), collector.post(b"spans")] == [200, 200]
        thread.join()
        collector.close()
    assert all(request.startswith(b"POST /base/v1/traces HTTP/1.1") for request in answered)


@pytest.mark.parametrize("wrong", ["collector:4318", "ftp://collector", "http://", "nonsense"])
def test_an_endpoint_that_is_no_url_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="OTLP_ENDPOINT is http"):
        Collector(wrong)
