"""Which faults a seed draws: the same ones again, all groups in a short soak, all cards in a long one, none beyond the time."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import pytest

from infra.runtime import Runtime
from labs.soak.deck import DISK_MINUTES, Card, Drawn, Group, cards, drawn
from labs.soak.systems import HOUSE
from labs.soak.timing import SoakTiming


def nowhere(_runtime: Runtime, service: str) -> Path:
    return Path("/nowhere") / service


ALL = cards(nowhere)


def of(seed: int, minutes: float) -> tuple[Drawn, ...]:
    return drawn(ALL, seed=seed, seconds=SoakTiming(minutes).inject, minutes=minutes)


def told(faults: tuple[Drawn, ...]) -> list[object]:
    return [(one.at, one.lasting, one.fault.kind, one.fault.role, dict(one.fault.parameters())) for one in faults]


@pytest.mark.parametrize("minutes", [3, 30])
def test_the_same_seed_draws_the_same_faults_at_the_same_times(minutes: float) -> None:
    again = drawn(cards(nowhere), seed=7, seconds=SoakTiming(minutes).inject, minutes=minutes)
    assert told(of(7, minutes)) == told(again)


def test_another_seed_draws_other_faults() -> None:
    assert told(of(7, 3)) != told(of(8, 3))


@pytest.mark.parametrize("seed", range(40))
def test_three_minutes_meet_seven_of_the_eight_groups_at_least(seed: int) -> None:
    met = {one.card.group for one in of(seed, 3)}
    assert Group.DISK not in met
    assert len(met) >= len(Group) - 2


@pytest.mark.parametrize("seed", range(10))
def test_thirty_minutes_draw_nearly_every_card(seed: int) -> None:
    met = {one.card.name for one in of(seed, 30)}
    missing = {card.name for card in ALL} - met
    assert len(missing) <= 8


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("minutes", [2, 3, 30])
def test_every_fault_is_over_before_the_time_is(seed: int, minutes: float) -> None:
    for one in of(seed, minutes):
        assert one.at >= 0
        assert one.at + one.lasting <= SoakTiming(minutes).inject


@pytest.mark.parametrize("seed", range(20))
def test_what_must_be_alone_has_its_whole_slot_to_itself(seed: int) -> None:
    faults = of(seed, 30)
    for one in faults:
        if not one.card.alone:
            continue
        for other in faults:
            if other is not one:
                apart = other.at >= one.at + one.card.slot - 2 or other.at + other.lasting <= one.at
                assert apart, f"{other.card.name} while {one.card.name} lasts"


@pytest.mark.parametrize("seed", range(20))
def test_faults_at_the_same_time_touch_different_systems(seed: int) -> None:
    for one, other in pairwise(of(seed, 30)):
        if other.at < one.at + one.lasting:
            assert not one.card.touches & other.card.touches


@pytest.mark.parametrize("seed", range(5))
def test_a_disk_is_filled_once_first_and_only_where_there_is_time(seed: int) -> None:
    disks = [number for number, one in enumerate(of(seed, DISK_MINUTES)) if one.card.group is Group.DISK]
    assert disks == [0]
    assert not [one for one in of(seed, DISK_MINUTES - 1) if one.card.group is Group.DISK]


def role_of(card: Card) -> str:
    return card.build(random.Random(1)).role


@pytest.mark.parametrize("card", ALL, ids=lambda one: one.name)
def test_every_card_names_a_role_or_a_link_of_the_house_or_who_leads(card: Card) -> None:
    role = role_of(card)
    assert role in HOUSE.roles or role in HOUSE.edges or role.partition(".")[0] in HOUSE.resolvers


def test_what_strikes_the_leader_is_judged_by_how_long_nobody_fires_and_so_is_alone() -> None:
    leading = [card for card in ALL if role_of(card).startswith("leader")]
    assert leading
    assert all(card.alone and card.slot >= 20 for card in leading)
