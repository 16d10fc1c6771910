from __future__ import annotations

import pytest

from labs.faults import receivers
from labs.week02.day4_webhooks import LAB
from services.simulators.receivers.behaviours import KINDS
from services.simulators.receivers.signature import secret_of as of_the_simulator


def test_a_fault_strikes_a_range_of_receivers() -> None:
    fault = receivers.flapping(first=71, count=50, period_seconds=4)
    assert (fault.kind, dict(fault.parameters())) == (
        "receivers.flapping",
        {"first": 71, "count": 50, "period_seconds": 4, "down_share": 0.5},
    )


def test_a_count_of_zero_is_the_zero_of_intensity() -> None:
    assert receivers.dead(first=1, count=0).zero
    assert not receivers.dead(first=1, count=1).zero


@pytest.mark.parametrize(("first", "count"), [(0, 1), (1, -1)])
def test_impossible_ranges_are_refused(first: int, count: int) -> None:
    with pytest.raises(ValueError, match="numbered from 1"):
        receivers.hang(first=first, count=count)


def test_every_fault_is_one_that_the_simulator_knows_with_these_parameters() -> None:
    made = [
        receivers.dead(first=1, count=1),
        receivers.hang(first=1, count=1),
        receivers.slow(first=1, count=1, seconds=1),
        receivers.flapping(first=1, count=1, period_seconds=1),
        receivers.lying(first=1, count=1),
        receivers.endless(first=1, count=1),
        receivers.rate_limited(first=1, count=1),
        receivers.failing(first=1, count=1),
        receivers.redirect(first=1, count=1),
    ]
    for fault in made:
        assert set(fault.values) <= set(KINDS[fault.name].__struct_fields__)


def test_the_faults_of_day_4_strike_different_receivers() -> None:
    struck: list[int] = []
    for planned in LAB.faults:
        values = planned.fault.parameters()
        if planned.fault.role == receivers.ROLE:
            first, count = values["first"], values["count"]
            assert isinstance(first, int)
            assert isinstance(count, int)
            struck += range(first, first + count)
    assert len(struck) == len(set(struck)) > 0


def test_lab_and_simulator_derive_the_same_secret() -> None:
    from labs.week02.webhook_endpoints import secret_of

    assert secret_of(17, "master") == of_the_simulator(17, "master")
