"""What of ranking lives while the API runs: the rules, the click log, what people like, which experiment they are in."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from uuid import UUID

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from services.contracts.topics import SEARCH_CLICKS
from services.kit import kafka, postgres
from services.kit.clock import Clock
from services.kit.http import Tasks
from services.patterns.backoff import Backoff
from services.search.clicks import ClickLog, Place
from services.search.engine import EngineError
from services.search.guard import SearchEngine
from services.search.ranking import RANKINGS, Arm, Experiment
from services.search.rulebook import RuleBook, keep_rules
from services.search.settings import RelevanceSettings
from services.search.store.rules import RuleStore
from services.search.taste import Tastes, follow

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Relevance:
    """`store` and `clicks` are None where they are not set up: their routes then say so."""

    book: RuleBook
    tastes: Tastes
    settings: RelevanceSettings
    store: RuleStore | None = None
    clicks: ClickLog | None = None


def experiment_of(text: str) -> Experiment | None:
    """`autumn:bm25=1,boosted=3`; None for nothing. Raises ValueError for a ranking that is not known."""
    if not text:
        return None
    name, _, rest = text.partition(":")
    arms = []
    for each in rest.split(","):
        ranking, _, share = each.partition("=")
        if ranking not in RANKINGS:
            raise ValueError(f"SEARCH_EXPERIMENT names no ranking {ranking}; there are {', '.join(sorted(RANKINGS))}")
        arms.append(Arm(ranking, float(share)))
    return Experiment(name, tuple(arms))


@asynccontextmanager
async def relevance(
    settings: RelevanceSettings, prefix: str, alias: str, engine: SearchEngine, clock: Clock, tasks: Tasks
) -> AsyncIterator[Relevance]:
    """Everything that is set up, with its loops among `tasks`. Raises ValueError for a wrong experiment."""
    experiment = experiment_of(settings.experiment)
    found = Relevance(RuleBook(), Tastes(settings.taste_people, clock.now, experiment), settings)
    async with AsyncExitStack() as opened:
        if settings.database_url is not None:
            # No connection until the first use: searches are answered while Postgres is away.
            url = settings.database_url.get_secret_value()
            pool = await postgres.create_pool(url, name="search-rules", minimum=0, maximum=3)
            opened.push_async_callback(pool.close)
            found.store = RuleStore(pool)
            tasks.start("rules", keep_rules(found.book, found.store, settings.rules_seconds))
        if settings.kafka_bootstrap:
            producer = Patient(kafka.producer(settings.kafka_bootstrap, client_id="search-clicks"))
            opened.push_async_callback(producer.stop)
            found.clicks = _click_log(settings, prefix, alias, engine, producer)
            tasks.start("clicks", found.clicks.run())
            topic = prefix + SEARCH_CLICKS.name
            back = timedelta(hours=settings.taste_hours)
            tasks.start("taste", follow(found.tastes, settings.kafka_bootstrap, topic, back))
        yield found


@dataclass(slots=True)
class Patient:
    """A producer that is started by its first use, so that a broker that is away does not keep the API from starting."""

    producer: AIOKafkaProducer
    started: bool = False

    async def send_and_wait(self, topic: str, value: bytes, *, key: bytes | None, headers: kafka.Headers) -> object:
        """Raises aiokafka's errors."""
        return await self.producer.send_and_wait(topic, value, key=key, headers=headers)

    async def ready(self) -> None:
        """Start it, once. Raises aiokafka's errors."""
        if not self.started:
            await self.producer.start()
            self.started = True

    async def stop(self) -> None:
        """What is not acknowledged by now is given up."""
        try:
            await self.producer.stop()
        except KafkaError as error:
            log.warning("the click log's producer did not stop cleanly", extra={"error": type(error).__name__})


def _click_log(
    settings: RelevanceSettings, prefix: str, alias: str, engine: SearchEngine, producer: Patient
) -> ClickLog:
    async def places(products: Sequence[UUID]) -> Mapping[UUID, Place]:
        """From the index: a click on what is not there any more has no place."""
        ids = [str(each) for each in products]
        body = {"query": {"terms": {"id": ids}}, "size": len(ids), "_source": ["brand_id", "category"]}
        try:
            hits = (await engine.search(alias, body)).hits.hits
        except EngineError as error:
            log.info("clicks go without brand and category", extra={"reason": error.reason})
            return {}
        return {UUID(hit.id): Place(hit.source["brand_id"], hit.source["category"]) for hit in hits}

    chance = Random()  # noqa: S311  not for secrets
    return ClickLog(producer, places, prefix, settings.click_buffer, Backoff(0.2, 5.0), chance)
