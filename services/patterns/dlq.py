"""Dead letters: what cannot be worked on is set aside with its reason, so that it neither blocks the rest nor is lost.

A message is parked for what it *is* (it cannot be read, it breaks a rule), never for what happened around it: a database that
is away parks nothing, or an outage would empty the topic into the dead letters.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_DETAIL = 200


class Unprocessable(Exception):
    """No retry will help. `reason` is a stable word (a metric label), `detail` one sentence without the message's content."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail[:MAX_DETAIL]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message as it came (`key`, `value`, `headers` byte by byte), where it stood, and why it was parked."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    topic: str
    partition: int
    offset: int
    reason: str
    detail: str

    def parked_headers(self) -> list[tuple[str, bytes]]:
        """Its own headers, then where it came from and why; the names are those of Kafka Connect's dead letter queue."""
        return [
            *self.headers,
            ("dlq_topic", self.topic.encode()),
            ("dlq_partition", str(self.partition).encode()),
            ("dlq_offset", str(self.offset).encode()),
            ("dlq_reason", self.reason.encode()),
            ("dlq_detail", self.detail.encode()),
        ]
