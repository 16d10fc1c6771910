"""Kafka clients with the settings that lose nothing, names with the lab's prefix, CloudEvents in the headers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from aiokafka import AIOKafkaProducer

Headers = list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class EventHead:
    """CloudEvents 1.0 attributes in binary mode (Kafka protocol binding: `ce_` headers). Consumers dedup by `id`."""

    id: str
    type: str
    source: str
    subject: str
    time: datetime
    traceparent: str | None = None

    def headers(self) -> Headers:
        """As Kafka headers."""
        pairs: Headers = [
            ("ce_specversion", b"1.0"),
            ("ce_id", self.id.encode()),
            ("ce_type", self.type.encode()),
            ("ce_source", self.source.encode()),
            ("ce_subject", self.subject.encode()),
            ("ce_time", self.time.isoformat().encode()),
            ("content-type", b"application/json"),
        ]
        if self.traceparent:
            pairs.append(("traceparent", self.traceparent.encode()))
        return pairs


def header(headers: Sequence[tuple[str, bytes]], name: str) -> str | None:
    """The last header of that name as text, None if it is missing or not UTF-8."""
    for key, value in reversed(headers):
        if key == name:
            try:
                return value.decode()
            except UnicodeDecodeError:
                return None
    return None


def producer(bootstrap: str, *, client_id: str, linger_ms: int = 5) -> AIOKafkaProducer:
    """acks=all and idempotent: a retry inside the client neither loses nor doubles nor reorders a partition."""
    return AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        client_id=client_id,
        acks="all",
        enable_idempotence=True,
        linger_ms=linger_ms,
        request_timeout_ms=10_000,
        retry_backoff_ms=100,
        metadata_max_age_ms=10_000,
    )
