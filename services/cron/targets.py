"""Calls of targets, HTTP or Kafka. Each effect carries run id and epoch; foreign errors become outcomes here."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic, perf_counter
from typing import Protocol
from uuid import UUID

import aiohttp
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from services.cron import metrics
from services.cron.domain import (
    JOB_PREFIX,
    RUN_PREFIX,
    Delivered,
    HttpTarget,
    KafkaTarget,
    Outcome,
    Target,
    Undelivered,
)
from services.cron.settings import CronSettings
from services.kit import ids, kafka, tracing
from services.kit.ssrf import ForbiddenAddressError, Policy, check_url, guarded_connector

ANSWER_BYTES = 4096
"""So much of an answer is read, so that its connection can be used again; the rest is not waited for."""
KAFKA_START_SECONDS = 10.0
TOPICS_SECONDS = 1.0
"""A topic that is not known is looked for at most this often."""
KNOWN_SECONDS = 30.0
"""After this long it is looked whether a known topic is still there."""
SOURCE = "/cron"
EVENT_TYPE = "cron.run.due"


@dataclass(frozen=True, slots=True)
class Effect:
    """What a target is told: it applies `run_id` once and refuses an epoch below the highest it has seen.

    `expires_at` travels with a Kafka message, which may lie for hours: a consumer drops a command that is too late.
    """

    run_id: UUID
    job_id: UUID
    scheduled_for: datetime
    epoch: int
    attempt: int
    timeout_seconds: float
    expires_at: datetime | None = None

    @property
    def instant(self) -> str:
        """RFC 3339 in UTC."""
        return self.scheduled_for.astimezone(UTC).isoformat().replace("+00:00", "Z")

    def http_headers(self) -> dict[str, str]:
        """Of the call. `Idempotency-Key` is the run id, for targets that know this header and not ours."""
        run = ids.encode(RUN_PREFIX, self.run_id)
        headers = {
            "Cron-Run-Id": run,
            "Cron-Job-Id": ids.encode(JOB_PREFIX, self.job_id),
            "Cron-Scheduled-For": self.instant,
            "Cron-Epoch": str(self.epoch),
            "Cron-Attempt": str(self.attempt),
            "Idempotency-Key": run,
            "Request-Timeout-Ms": str(round(self.timeout_seconds * 1000)),
            "Content-Type": "application/json",
            "User-Agent": "backend-lab-cron",
        }
        if traceparent := tracing.current_traceparent():
            headers["traceparent"] = traceparent
        return headers

    def kafka_headers(self) -> kafka.Headers:
        """CloudEvents; `cronepoch`, `cronscheduledfor` and `cronattempt` are extension attributes."""
        head = kafka.EventHead(
            ids.encode(RUN_PREFIX, self.run_id),
            EVENT_TYPE,
            SOURCE,
            ids.encode(JOB_PREFIX, self.job_id),
            self.scheduled_for.astimezone(UTC),
            tracing.current_traceparent(),
            None if self.expires_at is None else self.expires_at.astimezone(UTC),
        )
        return [
            *head.headers(),
            ("ce_cronscheduledfor", self.instant.encode()),
            ("ce_cronepoch", str(self.epoch).encode()),
            ("ce_cronattempt", str(self.attempt).encode()),
        ]


class Targets(Protocol):
    """Whatever can be fired at."""

    async def fire(self, target: Target, effect: Effect) -> Outcome:
        """One call, within its time. Raises nothing but cancellation."""


@dataclass(slots=True)
class LiveTargets:
    """The real ones. Make it with `open_targets`."""

    session: aiohttp.ClientSession
    policy: Policy
    bootstrap: str
    prefix: str
    topics: re.Pattern[str]
    _producer: AIOKafkaProducer | None = field(default=None, repr=False)
    _starting: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)
    _known: frozenset[str] = frozenset()
    _looked_at: float = float("-inf")
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)

    async def fire(self, target: Target, effect: Effect) -> Outcome:
        """As Targets."""
        started = perf_counter()
        kind = "http" if isinstance(target, HttpTarget) else "kafka"
        with self._span(target, effect) as span:
            try:
                async with asyncio.timeout(effect.timeout_seconds):
                    if isinstance(target, HttpTarget):
                        outcome = await self._call(target, effect, span)
                    else:
                        outcome = await self._publish(target, effect)
            except TimeoutError:
                outcome = Undelivered("timeout", again=True)
            _tell(span, outcome)
        said = "delivered" if isinstance(outcome, Delivered) else "undelivered"
        metrics.TARGET_CALLS.labels(kind, said).observe(perf_counter() - started)
        return outcome

    def _span(self, target: Target, effect: Effect) -> AbstractContextManager[tracing.Span]:
        if isinstance(target, KafkaTarget):
            topic = self.prefix + target.topic
            run = ids.encode(RUN_PREFIX, effect.run_id)
            return tracing.span(f"send {topic}", "producer", attributes=tracing.message("send", topic, id=run))
        return tracing.span("POST", "client")

    async def _call(self, target: HttpTarget, effect: Effect, span: tracing.Span) -> Outcome:
        try:
            url = check_url(target.url, self.policy)
            tracing.describe_request(span, "POST", url.host or "", url.port)
            async with self.session.post(
                url, data=target.body.encode(), headers=effect.http_headers(), allow_redirects=False
            ) as response:
                with suppress(aiohttp.ClientError):
                    await response.content.read(ANSWER_BYTES)
                return outcome_of(response.status)
        except ForbiddenAddressError:
            return Undelivered("forbidden_address", again=False)
        except (aiohttp.ClientError, OSError):
            return Undelivered("connection", again=True)

    async def _publish(self, target: KafkaTarget, effect: Effect) -> Outcome:
        if self.topics.fullmatch(target.topic) is None:
            return Undelivered("forbidden_topic", again=False)
        key = target.key or ids.encode(JOB_PREFIX, effect.job_id)
        topic = self.prefix + target.topic
        try:
            producer = await self._started()
            if not await self._exists(producer, topic):
                return Undelivered("no_such_topic", again=False)
            await producer.send_and_wait(topic, target.body.encode(), key=key.encode(), headers=effect.kafka_headers())
        except MessageSizeTooLargeError:
            return Undelivered("too_large", again=False)
        except (KafkaError, OSError):
            return Undelivered("broker", again=True)
        return Delivered()

    async def _exists(self, producer: AIOKafkaProducer, topic: str) -> bool:
        """Asked before the producer hears of the topic: a missing one makes it fetch metadata without pause, and the
        messages of all other jobs wait behind that.
        """
        async with self._looking:
            age = monotonic() - self._looked_at
            if age > KNOWN_SECONDS or (topic not in self._known and age > TOPICS_SECONDS):
                self._known = frozenset((await producer.client.fetch_all_metadata()).topics())
                self._looked_at = monotonic()
            return topic in self._known

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = kafka.producer(self.bootstrap, client_id="cron-scheduler")
                await kafka.start(producer, within=KAFKA_START_SECONDS)
                self._producer = producer
            return self._producer

    async def close(self) -> None:
        """Hang up."""
        if self._producer is not None:
            await kafka.stop(self._producer)


def _tell(span: tracing.Span, outcome: Outcome) -> None:
    if outcome.status is not None:
        tracing.describe_answer(span, outcome.status)
    if isinstance(outcome, Undelivered):
        span.fail(outcome.reason)


def outcome_of(status: int) -> Outcome:
    """2xx is delivered. 408, 425, 429 and 5xx are worth another try; a redirect is not followed and is a failure."""
    if 200 <= status < 300:
        return Delivered(status)
    if status in (408, 425, 429) or status >= 500:
        return Undelivered("target_error", again=True, status=status)
    return Undelivered("redirected" if 300 <= status < 400 else "refused", again=False, status=status)


def policy_of(settings: CronSettings, *, lab_profile: bool) -> Policy:
    """What may be called. Raises ValueError for an exception outside the lab profile."""
    return Policy(
        lab_profile=lab_profile,
        allow_loopback=settings.allow_loopback,
        trusted_hosts=frozenset(filter(None, settings.trusted_hosts.split(","))),
    )


@asynccontextmanager
async def open_targets(settings: CronSettings, *, lab_profile: bool, prefix: str) -> AsyncIterator[LiveTargets]:
    """Opened and closed with the process."""
    policy = policy_of(settings, lab_profile=lab_profile)
    connector = guarded_connector(policy, limit=settings.concurrency)
    async with aiohttp.ClientSession(
        connector=connector, trust_env=False, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
    ) as session:
        targets = LiveTargets(session, policy, settings.kafka_bootstrap, prefix, re.compile(settings.kafka_topics))
        try:
            yield targets
        finally:
            await targets.close()
