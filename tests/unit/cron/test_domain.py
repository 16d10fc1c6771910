"""What becomes of each instant: every one decided exactly once, whatever the policy."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.cron.domain import (
    BLOCK,
    Concurrency,
    HttpTarget,
    Instant,
    Job,
    Misfire,
    MisfirePolicy,
    RunState,
    jitter,
    plan,
)
from services.cron.schedule import IntervalSchedule, cron_schedule

ANCHOR = datetime(2026, 1, 1, tzinfo=UTC)
GRACE = timedelta(seconds=10)


def job(every: int = 60, **changes: object) -> Job:
    schedule = IntervalSchedule(every, ANCHOR)
    made = Job(
        id=UUID(int=7),
        tenant_id="ten",
        name="job",
        schedule=schedule,
        target=HttpTarget("http://example.com", "{}"),
        misfire=MisfirePolicy(),
        concurrency=Concurrency.ALLOW,
        jitter_seconds=0,
        retries=0,
        timeout_seconds=15,
        enabled=True,
        version=1,
        turn=1,
        next_at=next(schedule.after(ANCHOR)),
        created_at=ANCHOR,
        updated_at=ANCHOR,
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # the names are the caller's


def counted(instants: tuple[Instant, ...]) -> Counter[tuple[str, str | None]]:
    return Counter((each.state.value, each.reason) for each in instants)


DAY = ANCHOR + timedelta(hours=24)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (MisfirePolicy(Misfire.SKIP), {("skipped", "misfire"): 1439, ("waiting", None): 1}),
        (MisfirePolicy(Misfire.ONCE), {("coalesced", "misfire"): 1438, ("waiting", None): 2}),
        (MisfirePolicy(Misfire.ALL, cap=100), {("skipped", "cap"): 1339, ("waiting", None): 101}),
        (
            MisfirePolicy(Misfire.ALL, cap=1000, deadline_seconds=600),
            {("skipped", "deadline"): 1429, ("waiting", None): 11},
        ),
        (MisfirePolicy(Misfire.ONCE, deadline_seconds=5), {("skipped", "deadline"): 1439, ("waiting", None): 1}),
    ],
)
def test_after_a_day_of_outage_each_of_1440_minutes_is_accounted(
    policy: MisfirePolicy, expected: dict[tuple[str, str | None], int]
) -> None:
    found = plan(job(misfire=policy), DAY, GRACE)
    assert counted(found.instants) == expected
    assert found.next_at == DAY + timedelta(minutes=1)


def test_the_newest_missed_instant_is_the_one_that_runs_once() -> None:
    found = plan(job(), ANCHOR + timedelta(minutes=5, seconds=30), GRACE)
    assert [each.state.value for each in found.instants] == ["coalesced"] * 4 + ["waiting"]


def test_several_instants_within_the_grace_all_run() -> None:
    found = plan(job(every=2), ANCHOR + timedelta(seconds=7), GRACE)
    assert [each.state.value for each in found.instants] == ["waiting"] * 3


def test_a_paused_job_has_a_row_for_each_instant_it_did_not_run() -> None:
    found = plan(job(enabled=False), DAY, GRACE)
    assert counted(found.instants) == {("skipped", "paused"): 1440}


def test_of_several_that_become_due_at_once_replace_runs_the_newest() -> None:
    found = plan(job(every=2, concurrency=Concurrency.REPLACE), ANCHOR + timedelta(seconds=7), GRACE)
    assert [(each.state.value, each.reason) for each in found.instants] == [
        ("skipped", "replaced"),
        ("skipped", "replaced"),
        ("waiting", None),
    ]


def test_a_job_that_is_not_due_has_nothing_to_decide() -> None:
    assert plan(job(), ANCHOR, GRACE).instants == ()


def test_a_schedule_that_ends_has_no_next_instant() -> None:
    schedule = cron_schedule("0 0 1 1 *", "UTC", ANCHOR)
    last = datetime(9999, 1, 1, tzinfo=UTC)
    found = plan(job(schedule=schedule, next_at=last), last + timedelta(seconds=1), GRACE)
    assert found.next_at is None
    assert len(found.instants) == 1


@given(
    every=st.sampled_from([1, 7, 60, 3600]),
    outage=st.integers(0, 30_000),
    policy=st.sampled_from(Misfire),
    cap=st.integers(1, 1000),
    deadline=st.none() | st.integers(1, 20_000),
    concurrency=st.sampled_from(Concurrency),
    jitter_seconds=st.sampled_from([0, 30]),
    enabled=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_every_due_instant_is_decided_exactly_once(
    every: int,
    outage: int,
    policy: Misfire,
    cap: int,
    deadline: int | None,
    concurrency: Concurrency,
    jitter_seconds: int,
    enabled: bool,
) -> None:
    now = ANCHOR + timedelta(seconds=outage)
    one = job(
        every,
        misfire=MisfirePolicy(policy, cap, deadline),
        concurrency=concurrency,
        jitter_seconds=jitter_seconds,
        enabled=enabled,
    )
    covered: list[datetime] = []
    rows = ran = 0
    while one.next_at is not None and one.next_at <= now:
        found = plan(one, now, GRACE)
        for each in found.instants:
            covered += [each.scheduled_for + timedelta(seconds=every * n) for n in range(each.covers)]
            ran += each.state is RunState.WAITING
            assert (
                each.due_at == each.scheduled_for + jitter(one.id, each.scheduled_for, jitter_seconds)
                or each.covers > 1
            )
            assert (each.reason is None) == (each.state is RunState.WAITING)
        rows += len(found.instants)
        one = replace(one, next_at=found.next_at)
    assert covered == [ANCHOR + timedelta(seconds=every * n) for n in range(1, outage // every + 1)]
    assert rows <= 2 * BLOCK + len(covered) // BLOCK
    assert enabled or ran == 0
    if concurrency is Concurrency.REPLACE:
        assert ran <= 1


@given(st.uuids(), st.datetimes(datetime(2020, 1, 1), datetime(2050, 1, 1)), st.integers(0, 86_400))  # noqa: DTZ001
def test_jitter_is_within_its_window_and_the_same_for_every_scheduler(one: UUID, at: datetime, seconds: int) -> None:
    instant = at.replace(tzinfo=UTC, microsecond=0)
    found = jitter(one, instant, seconds)
    assert timedelta() <= found <= timedelta(seconds=seconds)
    assert found == jitter(one, instant, seconds)


def test_jitter_spreads_many_jobs_over_the_whole_window() -> None:
    tenths = Counter(int(jitter(UUID(int=n), ANCHOR, 30).total_seconds() // 3) for n in range(10_000))
    assert set(tenths) == set(range(10))
    assert min(tenths.values()) > 850


@given(
    st.integers(0, 600),
    st.integers(1, 1200),
    st.integers(0, 3600),
    st.sampled_from([Misfire.ALL, Misfire.ONCE, Misfire.SKIP]),
)
def test_with_jitter_the_deadline_still_counts_from_each_jittered_instant(
    jitter_seconds: int, deadline: int, later: int, policy: Misfire
) -> None:
    now = ANCHOR + timedelta(seconds=1800 + later)
    made = job(misfire=MisfirePolicy(policy, cap=1000, deadline_seconds=deadline), jitter_seconds=jitter_seconds)
    for each in plan(made, now, GRACE).instants:
        late = now - each.due_at
        expired = late > GRACE and late > timedelta(seconds=deadline)
        assert (each.reason == "deadline") is expired, each
