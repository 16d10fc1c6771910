"""The faults of a soak, drawn from its seed: the same seed and the same minutes draw the same faults. Pure.

Groups take turns in a shuffled order, each with a shuffled deck of its own cards, so that a short soak meets every group and a
long one every card. Each draw has a slot of time in which it begins, lasts, is healed, and its system recovers. A full disk comes
once and first, while the broker's data still fits on a small one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from infra.runtime import Runtime
from labs.engine.model import Fault, ScheduledFault, at
from labs.faults import bank, edge, kill, kill_at_failpoint, network, pause, receivers
from labs.faults.full_disk import full_disk
from labs.faults.process import restart
from labs.invariants.webhooks import ENDPOINTS

BEGINS_WITHIN_SECONDS = 1.5
COMPANION_AFTER_SECONDS = 1.0
COMPANION_SHARE = 0.35
DISK_MINUTES = 10
"""A shorter soak fills no disk: stopping, moving, starting and all of it backwards takes most of a minute."""


class Group(StrEnum):
    """What the issue asks for, by its words."""

    KILL = "kill"
    PAUSE = "pause"
    CUT = "cut"
    BANK = "bank's answers"
    RECEIVERS = "receivers"
    BROKER = "broker"
    DATABASE = "database"
    SEARCH = "search"
    DISK = "full disk"


LIGHT = frozenset({Group.KILL, Group.CUT, Group.BANK, Group.RECEIVERS})
"""Of these, two may last at the same time if they touch different systems."""

Build = Callable[[random.Random], Fault]


@dataclass(frozen=True, slots=True)
class Card:
    """A fault that can be drawn. `lasting` is drawn between its two numbers; `slot` is the time that it gets, seconds.

    `touches` are the systems whose traffic it needs as its receipt: two cards that share one are never drawn together.
    """

    name: str
    group: Group
    touches: frozenset[str]
    build: Build
    lasting: tuple[float, float]
    slot: float = 15.0
    alone: bool = False
    least_minutes: float = 0.0


@dataclass(frozen=True, slots=True)
class Drawn:
    """A card with its time: `at` seconds from the start of inject."""

    card: Card
    fault: Fault
    at: float
    lasting: float

    @property
    def scheduled(self) -> ScheduledFault:
        """For the engine."""
        return at(self.at, self.fault, lasting=self.lasting)


def _card(
    name: str,
    group: Group,
    touches: str,
    build: Build,
    lasting: tuple[float, float],
    *,
    slot: float = 15.0,
    alone: bool = False,
    least_minutes: float = 0.0,
) -> Card:
    return Card(name, group, frozenset(touches.split()), build, lasting, slot, alone, least_minutes)


def _kill(role: str, touches: str) -> Card:
    return _card(f"kill {role}", Group.KILL, touches, lambda _: kill(role), (0.5, 3.0))


def _dies_at(role: str, failpoint: str, touches: str) -> Card:
    return _card(
        f"kill {role} at {failpoint}", Group.KILL, touches, lambda _: kill_at_failpoint(role, failpoint), (0.5, 2.0)
    )


def _pause(role: str, touches: str) -> Card:
    return _card(f"pause {role}", Group.PAUSE, touches, lambda _: pause(role), (3.0, 5.0))


def _cut(link: str, kind: str, touches: str) -> Card:
    cuts = {"down": network.down, "blackhole": network.blackhole, "one_way": network.one_way}
    return _card(f"{kind} {link}", Group.CUT, touches, lambda _: cuts[kind](edge(link)), (2.0, 5.0), slot=16.0)


def _bank(name: str, build: Build) -> Card:
    return _card(f"bank {name}", Group.BANK, "payments", build, (7.0, 10.0), slot=17.0)


def _receivers(name: str, build: Callable[[int, int], Fault]) -> Card:
    def drawn(draw: random.Random) -> Fault:
        count = draw.randrange(100, 201, 10)
        return build(draw.randrange(1, ENDPOINTS - count + 1), count)

    return _card(f"receivers {name}", Group.RECEIVERS, "webhooks", drawn, (6.0, 9.0), slot=16.0)


def _server(name: str, group: Group, build: Build, lasting: tuple[float, float], slot: float) -> Card:
    return _card(name, group, "all", build, lasting, slot=slot, alone=True)


def _leader(name: str, group: Group, build: Build, lasting: tuple[float, float]) -> Card:
    """How long nobody fires is judged for 15 s from its beginning: nothing else is to go wrong then."""
    return _card(name, group, "cron", build, lasting, slot=20.0, alone=True)


def cards(disk_of: Callable[[Runtime, str], Path]) -> tuple[Card, ...]:
    """All of them. `disk_of` finds the folder of a service's volume."""
    return (
        _kill("payments-api", "payments"),
        _kill("payments-relay", "payments"),
        _kill("payments-resolver", "payments"),
        _kill("payments-reconciler", "payments"),
        _kill("checkout-api", "payments"),
        _kill("webhooks-api", "webhooks"),
        _kill("webhooks-dispatcher", "webhooks"),
        _kill("webhooks-source", "webhooks"),
        _kill("webhooks-keeper", "webhooks"),
        _kill("cron-api", "cron"),
        _kill("catalog-api", "search"),
        _kill("catalog-sales", "payments search"),
        _kill("search-api", "search"),
        _kill("redis", "redis"),
        _dies_at("payments-api", "payments.after_bank_answer", "payments"),
        _dies_at("webhooks-dispatcher", "webhooks.before_attempt", "webhooks"),
        _dies_at("webhooks-dispatcher", "webhooks.after_response", "webhooks"),
        _leader("kill leader", Group.KILL, lambda _: kill("leader"), (1.0, 3.0)),
        _pause("bank", "payments"),
        _pause("receivers", "webhooks"),
        _pause("webhooks-dispatcher", "webhooks"),
        _pause("payments-api", "payments"),
        _pause("search-indexer", "search"),
        _pause("catalog-api", "search"),
        _leader("pause leader", Group.PAUSE, lambda _: pause("leader"), (5.0, 6.0)),
        _cut("payments.bank", "down", "payments"),
        _cut("payments.bank", "one_way", "payments"),
        _cut("payments.postgres", "down", "payments"),
        _cut("payments.postgres", "one_way", "payments"),
        _cut("payments.kafka", "down", "payments"),
        _cut("checkout.payments", "blackhole", "payments"),
        _cut("webhooks.postgres", "down", "webhooks"),
        _cut("webhooks.kafka", "down", "webhooks"),
        _leader("one_way leader.store", Group.CUT, lambda _: network.one_way(edge("leader.store")), (5.0, 6.0)),
        _bank("loses answers", lambda draw: bank.loses_answer(share=round(draw.uniform(0.1, 0.3), 2))),
        _bank("loses answers", lambda draw: bank.loses_answer(share=round(draw.uniform(0.1, 0.3), 2))),
        _bank("fails after the charge", lambda draw: bank.error_after(share=round(draw.uniform(0.1, 0.3), 2))),
        _bank("fails before the charge", lambda draw: bank.error_before(share=round(draw.uniform(0.1, 0.3), 2))),
        _bank("declines", lambda draw: bank.declines(share=round(draw.uniform(0.1, 0.2), 2))),
        _receivers("dead", lambda first, count: receivers.dead(first=first, count=count)),
        _receivers("hang", lambda first, count: receivers.hang(first=first, count=count)),
        _receivers("slow", lambda first, count: receivers.slow(first=first, count=count, seconds=0.7)),
        _receivers("flapping", lambda first, count: receivers.flapping(first=first, count=count, period_seconds=4)),
        _receivers("lying", lambda first, count: receivers.lying(first=first, count=count)),
        _receivers("rate limited", lambda first, count: receivers.rate_limited(first=first, count=count)),
        _server("kill kafka", Group.BROKER, lambda _: kill("kafka"), (1.0, 3.0), 20.0),
        _server("restart kafka", Group.BROKER, lambda _: restart("kafka"), (0.0, 0.0), 22.0),
        _server("kill postgres", Group.DATABASE, lambda _: kill("postgres"), (1.0, 2.0), 22.0),
        _server("restart postgres", Group.DATABASE, lambda _: restart("postgres"), (0.0, 0.0), 22.0),
        _server("kill search-engine", Group.SEARCH, lambda _: kill("search-engine"), (1.0, 2.0), 24.0),
        _server("kill connect", Group.SEARCH, lambda _: kill("connect"), (1.0, 2.0), 24.0),
        _server("kill search-indexer", Group.SEARCH, lambda _: kill("search-indexer"), (0.5, 2.0), 15.0),
        _server("kill catalog-connector", Group.SEARCH, lambda _: kill("catalog-connector"), (0.5, 2.0), 18.0),
        _card("full disk of kafka", Group.DISK, "all", lambda _: full_disk("kafka", disk_of), (8.0, 12.0), slot=70.0,
              alone=True, least_minutes=DISK_MINUTES),
    )  # fmt: skip


@dataclass(slots=True)
class _Turns:
    """Groups in turn, and from each its next card."""

    draw: random.Random
    cards: Sequence[Card]
    order: list[Group] = field(default_factory=list)
    left: dict[Group, list[Card]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        groups = list(dict.fromkeys(card.group for card in self.cards))
        self.order = self.draw.sample(groups, len(groups))

    def take(self, group: Group, fits: Callable[[Card], bool] = lambda _: True) -> Card | None:
        """The group's next card that fits; a new shuffle when all are used. None if none of the rest fits."""
        if not self.left.get(group):
            own = [card for card in self.cards if card.group is group]
            self.left[group] = self.draw.sample(own, len(own))
        found = next((card for card in self.left[group] if fits(card)), None)
        if found is not None:
            self.left[group].remove(found)
        return found

    def rounds(self) -> Iterator[Group]:
        """Without end."""
        while True:
            yield from self.order
            self.order = self.draw.sample(self.order, len(self.order))


def drawn(all_cards: Sequence[Card], *, seed: int, seconds: float, minutes: float) -> tuple[Drawn, ...]:
    """The faults of `seconds` of inject, in order of time; all are over by then. `minutes` are those of the whole soak."""
    draw = random.Random(seed)  # noqa: S311  to be repeated, not to be secret
    possible = [card for card in all_cards if minutes >= card.least_minutes]
    turns = _Turns(draw, [card for card in possible if card.group is not Group.DISK])
    found: list[Drawn] = []
    start = 0.0
    for card in possible:
        if card.group is Group.DISK:
            found.append(_timed(draw, card, start))
            start += card.slot
    for group in turns.rounds():
        taken = turns.take(group)
        if taken is None or start + taken.slot > seconds:
            break
        found.append(_timed(draw, taken, start))
        if not taken.alone and taken.group in LIGHT and draw.random() < COMPANION_SHARE:
            found += _companion(draw, turns, taken, start)
        start += taken.slot
    return tuple(sorted(found, key=lambda one: one.at))


def _timed(draw: random.Random, card: Card, start: float) -> Drawn:
    begin = start + draw.uniform(0.0, BEGINS_WITHIN_SECONDS)
    return Drawn(card, card.build(draw), round(begin, 1), round(draw.uniform(*card.lasting), 1))


def _companion(draw: random.Random, turns: _Turns, first: Card, start: float) -> list[Drawn]:
    """A second fault in the slot of the first one, of another group and on other systems."""
    group = draw.choice(sorted(LIGHT - {first.group}))

    def fits(card: Card) -> bool:
        return not card.alone and not card.touches & first.touches and card.slot <= first.slot

    card = turns.take(group, fits)
    return [] if card is None else [_timed(draw, card, start + COMPANION_AFTER_SECONDS)]
