"""Each checker of growth sees the growth that was planted, and nothing where there is none."""

from __future__ import annotations

import msgspec
import pytest

from labs.engine.model import Finding, Status
from labs.soak import growth
from labs.soak.bounds import DEAD_LETTERS, TABLES
from labs.soak.growth import MIB
from labs.soak.samples import Sample
from labs.soak.sizes import Sizes, Table, Topic, bound_of

LOAD = (100.0, 1900.0)
MINUTES = 30
SENT = {"payments": 1000, "checkout": 500, "webhooks": 500, "cron": 30, "search": 1000}


def samples(
    service: str,
    *,
    mib: float = 50.0,
    leak_per_hour: float = 0.0,
    files: int = 20,
    files_per_hour: float = 0.0,
    restarts: int = 0,
) -> list[Sample]:
    """Every 15 s from the start of the run to the end of the load."""
    found = []
    length = LOAD[1] / (restarts + 1)
    for at in range(0, int(LOAD[1]), 15):
        life = int(at // length)
        age = (at - life * length) / 3600
        found.append(
            Sample(
                at=float(at),
                service=service,
                pid=100 + life,
                started_at=life * length,
                memory_bytes=int((mib + leak_per_hour * age) * MIB),
                descriptors=int(files + files_per_hour * age),
            )
        )
    return found


def flat(*parts: list[Sample], minutes: float = MINUTES) -> Finding:
    return growth.memory_is_flat(growth.figures([one for part in parts for one in part], LOAD, minutes))


# --- memory -----------------------------------------------------------------------------------------------------------


def test_a_process_that_leaks_is_named_with_its_slope() -> None:
    found = flat(samples("payments-api"), samples("search-api", leak_per_hour=90))
    assert found.status is Status.BROKEN
    assert found.offenders == ("search-api: 90 MiB/h",)


def test_a_leak_shows_through_restarts() -> None:
    assert flat(samples("payments-api", leak_per_hour=120, restarts=5)).status is Status.BROKEN


def test_a_restart_is_no_leak() -> None:
    assert flat(samples("payments-api", restarts=5)).status is Status.HELD


def test_what_grew_in_the_first_half_and_stands_still_is_flat() -> None:
    middle = sum(LOAD) / 2
    warmed = [
        msgspec.structs.replace(one, memory_bytes=int((50 + 60 * min(one.at / middle, 1.0)) * MIB))
        for one in samples("payments-api")
    ]
    assert flat(warmed).status is Status.HELD


def test_a_server_that_fills_its_heap_is_shown_and_not_judged() -> None:
    kafka = samples("kafka", mib=300, leak_per_hour=200)
    (figures,) = growth.figures(kafka, LOAD, MINUTES)
    assert figures.trend is not None
    assert figures.trend.per_hour / MIB == pytest.approx(200, rel=0.01)
    assert not figures.judged
    assert flat(samples("payments-api"), kafka).status is Status.HELD


def test_below_twenty_minutes_no_slope_is_judged() -> None:
    (figures,) = growth.figures(samples("payments-api", leak_per_hour=500), LOAD, growth.JUDGED_FROM_MINUTES - 1)
    assert not figures.judged
    (figures,) = growth.figures(samples("payments-api", leak_per_hour=500), LOAD, growth.JUDGED_FROM_MINUTES)
    assert figures.judged


def test_nobody_who_lived_long_enough_is_no_proof_of_flatness() -> None:
    assert flat([]).status is Status.UNKNOWN
    assert flat(samples("payments-api")[:1]).status is Status.UNKNOWN


def test_more_than_six_gibibytes_at_one_moment_is_too_much() -> None:
    small = [*samples("kafka", mib=3000), *samples("postgres", mib=3000)]
    assert growth.memory_fits(small).status is Status.HELD
    found = growth.memory_fits([*small, *samples("search-engine", mib=200)])
    assert found.status is Status.BROKEN
    assert "6200 MiB" in found.offenders[0]
    assert growth.memory_fits([]).status is Status.UNKNOWN


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_process_that_leaks_descriptors_is_named_with_its_slope() -> None:
    found = growth.descriptors_do_not_grow([*samples("a"), *samples("b", files_per_hour=400)], LOAD, MINUTES)
    assert found.status is Status.BROKEN
    assert found.offenders[0].startswith("b: 400 an hour")
    assert found.count == 1


def test_a_leak_of_descriptors_shows_through_restarts() -> None:
    found = growth.descriptors_do_not_grow(samples("b", files_per_hour=400, restarts=3), LOAD, MINUTES)
    assert found.status is Status.BROKEN


def test_who_leaks_at_each_operation_is_seen_in_a_short_soak_too() -> None:
    found = growth.descriptors_do_not_grow(samples("b", files_per_hour=4000), LOAD, 3)
    assert found.status is Status.BROKEN
    assert found.offenders[0].startswith("b: ")


@pytest.mark.parametrize("minutes", [3, 30])
@pytest.mark.parametrize("after", [600, 1100, 1350, 1600])
def test_a_pool_that_fills_once_is_no_leak(minutes: float, after: float) -> None:
    pool = [
        msgspec.structs.replace(one, descriptors=16 if one.at < LOAD[0] + after else 130)
        for one in samples("scheduler")
    ]
    assert growth.descriptors_do_not_grow(pool, LOAD, minutes).status is Status.HELD


def test_a_few_more_files_are_noise() -> None:
    assert growth.descriptors_do_not_grow(samples("a", files_per_hour=60), LOAD, MINUTES).status is Status.HELD


def test_descriptors_that_nobody_could_read_are_unknown() -> None:
    hidden = [msgspec.structs.replace(one, descriptors=None) for one in samples("a", files_per_hour=900)]
    assert growth.descriptors_do_not_grow(hidden, LOAD, MINUTES).status is Status.UNKNOWN


# --- stores -----------------------------------------------------------------------------------------------------------


def sizes(at: float, **changes: dict[str, object]) -> Sizes:
    tables = {name: Table(0, 8192) for name in TABLES}
    topics = {name: Topic(0, 0, "336 h") for name in DEAD_LETTERS} | {"payments.payment.v1": Topic(0, 0, "24 h")}
    found = Sizes(at=at, tables=tables, topics=topics, slots={"catalog": 0}, logs={"payments-api": 0})
    return msgspec.structs.replace(
        found, **{part: {**getattr(found, part), **changed} for part, changed in changes.items()}
    )


START = sizes(0)


def test_a_table_that_grows_with_the_work_is_bounded() -> None:
    end = sizes(1800, tables={"payments.payments": Table(1500, 1), "payments.ledger_entries": Table(6000, 1)})
    assert growth.tables_are_bounded(START, end, SENT).status is Status.HELD


def test_a_table_that_grows_beyond_the_work_is_named() -> None:
    end = sizes(1800, tables={"payments.payments": Table(4000, 1)})
    found = growth.tables_are_bounded(START, end, SENT)
    assert found.offenders == ("payments.payments: 4000 rows more, 1550 are explained",)


def test_a_table_that_nobody_has_written_about_may_not_grow() -> None:
    end = sizes(1800, tables={"payments.scratch": Table(1, 1)})
    found = growth.tables_are_bounded(START, end, SENT)
    assert found.offenders == ("payments.scratch: 1 rows more, and nobody says what bounds it",)


def test_a_topic_that_keeps_everything_for_good_is_named() -> None:
    end = sizes(1800, topics={"payments.payment.v1": Topic(10, 10, "")})
    assert growth.topics_are_bounded(START, end, SENT).offenders == ("payments.payment.v1: keeps everything for good",)


def test_a_topic_that_is_written_in_a_loop_is_named() -> None:
    end = sizes(1800, topics={"payments.payment.v1": Topic(100_000, 100_000, "24 h")})
    assert growth.topics_are_bounded(START, end, SENT).count == 1
    assert growth.topics_are_bounded(START, sizes(1800), SENT).status is Status.HELD


@pytest.mark.parametrize(
    ("configuration", "said"),
    [
        ({"cleanup.policy": "delete", "retention.ms": "86400000", "retention.bytes": "-1"}, "24 h"),
        ({"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "268435456"}, "256 MiB a partition"),
        ({"cleanup.policy": "compact", "retention.ms": "86400000"}, "compacted"),
        ({"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}, ""),
        ({}, ""),
    ],
)
def test_what_bounds_a_topic_is_read_from_its_configuration(configuration: dict[str, str], said: str) -> None:
    assert bound_of(configuration) == said


@pytest.mark.parametrize(
    ("rest", "named"),
    [
        (sizes(1830, tables={"payments.payments": Table(100, 1)}), "payments.payments: 100 rows"),
        (sizes(1830, topics={"payments.payment.v1": Topic(90, 90, "24 h")}), "payments.payment.v1: 90 records"),
        (sizes(1830, logs={"payments-api": 1 << 20}), "log of payments-api: 34 KiB a second"),
        (sizes(1830, tables={"payments.scratch": Table(100, 1)}), "payments.scratch: 100 rows"),
    ],
)
def test_who_goes_on_without_load_is_named(rest: Sizes, named: str) -> None:
    assert growth.nothing_grows_at_rest(sizes(1800), rest).offenders == (named,)


def test_what_ticks_by_itself_may_tick_at_rest() -> None:
    rest = sizes(1830, tables={"cron.runs": Table(400, 1), "target.effects": Table(400, 1)})
    assert growth.nothing_grows_at_rest(sizes(1800), rest).status is Status.HELD


def test_an_event_that_was_never_published_is_seen() -> None:
    assert growth.outboxes_are_empty(sizes(0)).status is Status.HELD
    found = growth.outboxes_are_empty(sizes(0, tables={"webhooks.outbox": Table(2, 1)}))
    assert found.offenders == ("webhooks.outbox: 2 rows",)
    without = msgspec.structs.replace(sizes(0), tables={})
    assert growth.outboxes_are_empty(without).status is Status.UNKNOWN


def test_a_dead_letter_is_not_passed_over() -> None:
    assert growth.dead_letters_are_explained(sizes(0), []).status is Status.HELD
    parked = sizes(0, topics={DEAD_LETTERS[0]: Topic(3, 3, "336 h")})
    assert growth.dead_letters_are_explained(parked, []).offenders == (f"{DEAD_LETTERS[0]}: 3 records",)
    assert growth.dead_letters_are_explained(sizes(0), ["e -> 5: dead"]).offenders == ("e -> 5: dead",)


def test_a_log_beyond_its_cap_is_named() -> None:
    assert growth.logs_are_bounded(sizes(0, logs={"a": 60 * MIB})).status is Status.HELD
    assert growth.logs_are_bounded(sizes(0, logs={"a": 100 * MIB})).offenders == ("a: 100 MiB",)


def test_a_slot_that_holds_the_log_back_is_named() -> None:
    assert growth.slots_keep_little(sizes(0)).status is Status.HELD
    assert growth.slots_keep_little(sizes(0, slots={"catalog": 300 * MIB})).offenders == ("catalog: 300 MiB",)
    assert growth.slots_keep_little(msgspec.structs.replace(sizes(0), slots={})).status is Status.UNKNOWN
