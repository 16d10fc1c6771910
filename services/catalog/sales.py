"""Paid orders from Kafka: stock goes down and popularity up, once for each payment's event.

A payment that says nothing of an article, or is another merchant's, is none of ours. One that names an article which nobody
has, or an impossible quantity, is parked in `catalog.sales.dlq` with its reason. Stock is never below zero: what was paid and
is not there is kept as short, for people to solve.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

import msgspec
from fastapi import FastAPI

from services.catalog import domain, metrics
from services.catalog.domain import Sale
from services.catalog.schemas import Sku
from services.catalog.settings import SalesSettings
from services.catalog.store.sales import SaleStore, Taken
from services.contracts.payments import QUANTITY, SKU, PaymentEvent
from services.contracts.topics import CATALOG_SALES_DLQ, PAYMENT_EVENTS
from services.kit import consumer, kafka, postgres
from services.kit.consumer import Observer, Reading, Record, TopicConsumer
from services.kit.current import Current
from services.kit.http import Tasks, service_app
from services.kit.kafka import dead_letter
from services.kit.settings import ProcessSettings
from services.kit.store import StoreUnavailable
from services.patterns.dlq import DeadLetter, Unprocessable

log = logging.getLogger(__name__)

GROUP = "catalog.sales"
PAID: Literal["payments.payment.captured"] = "payments.payment.captured"
LONGEST_ID = 100
SWEEP_SECONDS = 60.0
SWEEP_BATCH = 500
_EVENT = msgspec.json.Decoder(PaymentEvent)
_TYPE = re.compile(r"(?=.{1,128}\Z)[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*", re.ASCII)
_NO_ARTICLE = Unprocessable("no_such_article", "No product and no variant has the SKU that was paid for.")


def read(record: Record, merchant: str) -> Sale | None:
    """None for what is none of ours. Raises Unprocessable."""
    event, kind = kafka.header(record.headers, "ce_id"), kafka.header(record.headers, "ce_type")
    if event is None or kind is None:
        raise Unprocessable("no_cloudevent", "ce_id and ce_type must be there.")
    if not _is_id(event) or not _TYPE.fullmatch(kind):
        raise Unprocessable("malformed_head", "ce_id or ce_type has not the form of a payment event's.")
    if kind != PAID:
        return None  # also of a type that payments did not have when this was written
    if record.value is None:
        raise Unprocessable("no_body", "The record has no body.")
    try:
        payment = _EVENT.decode(record.value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Unprocessable("malformed_body", "The body is not a payment event.") from None
    if payment.merchant_id != merchant or SKU not in payment.metadata:
        return None
    if not _is_id(payment.payment_id):
        raise Unprocessable("malformed_body", "The payment's id has not the form of one.")
    return Sale(event, payment.payment_id, _sku(payment.metadata[SKU]), _quantity(payment.metadata.get(QUANTITY, "1")))


def _is_id(text: str) -> bool:
    return 0 < len(text) <= LONGEST_ID and text.isascii() and text.isprintable()


def _sku(text: str) -> str:
    try:
        return msgspec.convert(text, Sku)
    except msgspec.ValidationError:
        raise Unprocessable("malformed_order", "The metadata's sku has not the form of one.") from None


def _quantity(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(domain.LARGEST_SALE))):
        raise Unprocessable("malformed_order", "The metadata's quantity is no whole number.")
    if not 1 <= int(text) <= domain.LARGEST_SALE:
        raise Unprocessable("malformed_order", f"The metadata's quantity is not between 1 and {domain.LARGEST_SALE}.")
    return int(text)


@dataclass(frozen=True, slots=True)
class Sales:
    """What the consumer does with its batches. `merchant`: whose payments buy from this catalogue."""

    store: SaleStore
    merchant: str
    group: str

    async def take(self, records: Sequence[Record]) -> list[DeadLetter]:
        """Each sale in a commit of its own; return what is set aside. Raises StoreUnavailable."""
        parked: list[DeadLetter] = []
        for record in records:
            try:
                outcome = await self._one(record)
            except Unprocessable as why:
                parked.append(dead_letter(record, why))
                outcome = "parked"
            metrics.SALES.labels(outcome).inc()
        return parked

    async def _one(self, record: Record) -> str:
        sale = read(record, self.merchant)
        if sale is None:
            return "unrelated"
        with consumer.processing(record, self.group) as span:
            taken = await self.store.take(sale, domain.sold)
            span.set("catalog.sale.outcome", taken.value)
            if taken is Taken.NO_SUCH_ARTICLE:
                raise _NO_ARTICLE
        if taken is Taken.OVERSOLD:
            log.warning("sold more than there is", extra={"payment": sale.payment_id, "sku": sale.sku})
        return taken.value


class SalesObserver(Observer):
    """Keeps the metrics of the feed."""

    def waiting(self, records: int) -> None:
        metrics.SALES_LAG.set(records)


async def sweep_forever(store: SaleStore, days: int) -> None:
    """Forget old sales, again and again."""
    while True:
        try:
            while await store.forget(days, SWEEP_BATCH) == SWEEP_BATCH:
                pass
        except StoreUnavailable as error:
            log.warning("old sales stay for now", extra={"error": str(error)})
        await asyncio.sleep(SWEEP_SECONDS)


def create_worker(process: ProcessSettings, settings: SalesSettings) -> tuple[FastAPI, Tasks]:
    """The process catalog-sales; any number of it may run."""
    tasks, stored, feed = Tasks(), Current[SaleStore](), Current[TopicConsumer]()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with await postgres.create_pool(
            settings.database_url.get_secret_value(), name="catalog-sales", minimum=1, maximum=3
        ) as pool:
            store, group = SaleStore(pool), process.lab_prefix + GROUP
            reading = Reading(
                "catalog-sales",
                settings.kafka_bootstrap,
                process.lab_prefix + PAYMENT_EVENTS.name,
                process.lab_prefix + CATALOG_SALES_DLQ.name,
                group,
                batch=settings.sales_batch,
            )
            effect = Sales(store, settings.sales_merchant, group).take
            selling = TopicConsumer(reading, effect, away=(StoreUnavailable,), observer=SalesObserver())
            with stored.holding(store), feed.holding(selling):
                tasks.start("sales", selling.run())
                tasks.start("sweeper", sweep_forever(store, settings.sales_days))
                yield
                await tasks.stop()

    checks = {
        "database": stored.ready(lambda it: it.answers()),
        "broker": feed.ready(lambda it: it.broker_ok),
    }
    return service_app("catalog-sales", process, lifespan=lifespan, checks=checks), tasks
