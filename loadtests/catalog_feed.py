"""A supplier's feed of prices and stocks: what is due within a moment goes out as one request, as such feeds do.

Each offer is an operation of its own, with its own intended time and its own outcome. A request without an answer leaves the
outcome of all its offers unknown.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle

import msgspec
from gevent.event import Event

from loadtests.catalog_client import Known, Patient, problem_type
from loadtests.client import Answer, Ending
from loadtests.history import Outcome, ShownWrite

KIND = "offer"
PATH = "/v1/offers"
GATHER_SECONDS = 0.2
MOST = 500
TAKEN = frozenset({"changed", "unchanged"})


class Offer(msgspec.Struct, frozen=True, omit_defaults=True):
    """As it is sent."""

    sku: str
    price: int
    stock: int | None = None


class _Offered(msgspec.Struct, frozen=True):
    outcome: str
    id: str | None = None
    version: int | None = None


class _Answer(msgspec.Struct, frozen=True):
    offers: list[_Offered]


@dataclass(slots=True)
class Batch:
    """Offers on their way. `full` and `answered` are set once, in this order; `endings` are there then."""

    offers: list[Offer] = field(default_factory=list)
    full: Event = field(default_factory=Event)
    answered: Event = field(default_factory=Event)
    endings: list[Ending] = field(default_factory=list)


@dataclass(slots=True)
class Feed:
    """Goes round over `products` in one drawn order. `size`: 1 to MOST offers in a request; none has a product twice."""

    patient: Patient
    products: Sequence[Known]
    draw: random.Random
    size: int
    _open: Batch | None = None
    _round: Iterator[Known] = field(init=False)

    def __post_init__(self) -> None:
        self._round = cycle(self.draw.sample(self.products, len(self.products)))

    def write(self, key: str) -> Ending:
        """The next offer. Blocks until its request has an answer, or has been given up; whoever began it sends it."""
        del key  # a value is set: sent twice it is harmless
        batch, first = (self._open, False) if self._open is not None else (Batch(), True)
        self._open = batch
        place = len(batch.offers)
        batch.offers.append(self._next())
        if len(batch.offers) >= min(self.size, len(self.products)):
            self._open = None
            batch.full.set()
        if first:
            batch.full.wait(GATHER_SECONDS)
            self._send(batch)
        batch.answered.wait()
        return batch.endings[place]

    def _send(self, batch: Batch) -> None:
        if self._open is batch:
            self._open = None
        answer, attempts = self.patient.send("POST", PATH, {"offers": batch.offers})
        batch.endings = endings(answer, attempts, len(batch.offers))
        batch.answered.set()

    def _next(self) -> Offer:
        product = next(self._round)
        stock = None if product.variants else self.draw.randrange(500)
        return Offer(product.sku, self.draw.randrange(100, 50_000), stock)


def endings(answer: Answer, attempts: int, offers: int) -> list[Ending]:
    """What the client knows of each offer of a request."""

    def all_of_them(outcome: Outcome, error: str | None) -> list[Ending]:
        return [Ending(outcome, attempts, answer.status, error, kind=KIND) for _ in range(offers)]

    if answer.status is None or answer.status >= 500:
        return all_of_them(Outcome.UNKNOWN, answer.error or problem_type(answer))
    if answer.status >= 400:
        return all_of_them(Outcome.FAIL, problem_type(answer))
    try:
        told = msgspec.json.decode(answer.body, type=_Answer).offers
    except (msgspec.DecodeError, UnicodeDecodeError):
        told = []
    if len(told) != offers:
        return all_of_them(Outcome.UNKNOWN, f"{answer.status} without an outcome for each offer")
    return [_ending(one, attempts, answer.status) for one in told]


def _ending(told: _Offered, attempts: int, status: int) -> Ending:
    if told.outcome not in TAKEN or told.id is None:
        return Ending(Outcome.FAIL, attempts, status, told.outcome, kind=KIND)
    return Ending(Outcome.OK, attempts, status, None, ShownWrite(told.id, str(told.version)), KIND)
