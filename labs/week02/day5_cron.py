"""Week 2, day 5: three nodes, one calendar, and a leader that comes back from the dead."""

from __future__ import annotations

from collections.abc import Sequence

from labs.engine import (
    Discriminates,
    Evidence,
    Figure,
    Lab,
    Load,
    Settled,
    Variant,
    VariantRole,
    at,
    error_rate,
    p99,
)
from labs.faults import clock, edge, kill_at_failpoint, leader, network, stop_at_failpoint, target
from labs.invariants.cron import (
    DEDUP_ONLY,
    FAILOVER_SECONDS,
    FENCING_ONLY,
    GUARDED,
    deposed,
    doubled_effects,
    each_check_alone_fails,
    effects_agree_with_rows,
    effects_of,
    every_instant_has_one_row,
    failover_gaps,
    failover_in_time,
    fair_weather_skips_nothing,
    jobs_by_key,
    jobs_of,
    no_double_effect,
    no_effect_of_a_deposed_leader,
    nothing_fired_early,
    still_open,
)
from labs.week02.cron_story import story

NODES = ("node1", "node2", "node3")
RESOLVERS = {"leader": leader.leader(*NODES, gauge="cron_leader")}


async def figures(evidence: Evidence) -> Sequence[Figure]:
    """How long nobody fired, and what each target was fooled into."""
    jobs, effects = jobs_of(evidence), await effects_of(evidence)
    gaps = [gap.seconds for gap in await failover_gaps(evidence)]
    record = "target's record"
    return (
        Figure("longest_failover", max(gaps, default=None), "s", record, FAILOVER_SECONDS),
        Figure("effects", float(sum(one.applied for one in effects)), "effects", record),
        Figure("leaders_seen", float(len({one.epoch for one in effects} - {None})), "epochs", record),
        *(
            Figure(f"double_{name}", float(len(doubled_effects(jobs, effects, target))), "instants", record, limit)
            for name, target, limit in (
                ("with_both_checks", GUARDED, 0.0),
                ("with_dedup_alone", DEDUP_ONLY, None),
                ("with_fencing_alone", FENCING_ONLY, None),
            )
        ),
        Figure("deposed_leader_obeyed_by_dedup_alone", float(len(deposed(effects, DEDUP_ONLY))), "effects", record),
        Figure("refused", float(sum(not one.applied for one in effects)), "effects", record),
    )


LAB = Lab(
    week=2,
    day=5,
    title="Distributed cron",
    question=(
        "Three nodes share a calendar and a lock decides who fires. The leader stands still for longer than the lock lasts,"
        " and then goes on where it was. How often does the job run?"
    ),
    hypothesis=(
        "A lock that expires is not mutual exclusion: the leader that comes back fires what it had read, and so did its"
        " successor. With a run id per job and instant and an epoch that the target compares, each instant has its effect"
        " once and its row once, whatever dies, stands still or has a wrong clock."
    ),
    explanation=(
        "No check by the leader can help: the pause may come right after it. Only the target sees both leaders, so the target"
        " decides, with two numbers that come along with every call. The run id stops a dead leader's successor, which"
        " must fire again what may not have happened. The epoch stops a deposed leader, which may come back after any"
        " time, also later than run ids are remembered. Each alone is fooled by what the other one stops."
    ),
    variants={
        "naive": Variant(
            role=VariantRole.NAIVE,
            title="APScheduler on every node, a Redis lock with an expiry",
            roles={
                "sut": "week02-day5-naive-api",
                "node1": "week02-day5-naive-1",
                "node2": "week02-day5-naive-2",
                "node3": "week02-day5-naive-3",
                "target": "sim-target",
            },
            processes=(
                "sim-target",
                "week02-day5-naive-api",
                "week02-day5-naive-1",
                "week02-day5-naive-2",
                "week02-day5-naive-3",
            ),
            edges={
                "node1.store": "week02-day5-naive-1.redis",
                "node2.store": "week02-day5-naive-2.redis",
                "node3.store": "week02-day5-naive-3.redis",
            },
            resolvers=RESOLVERS,
        ),
        "engineered": Variant(
            role=VariantRole.ENGINEERED,
            title="services/cron: a lease with epochs, run ids, one row per instant",
            roles={
                "sut": "cron-api",
                "node1": "cron-scheduler-1",
                "node2": "cron-scheduler-2",
                "node3": "cron-scheduler-3",
                "target": "sim-target",
            },
            processes=(
                "kafka-topics",
                "sim-target",
                "cron-migrate",
                "cron-api",
                "cron-scheduler-1",
                "cron-scheduler-2",
                "cron-scheduler-3",
            ),
            edges={
                "node1.store": "cron-scheduler-1.postgres",
                "node2.store": "cron-scheduler-2.postgres",
                "node3.store": "cron-scheduler-3.postgres",
            },
            resolvers=RESOLVERS,
        ),
        "yours": Variant(
            role=VariantRole.ENGINEERED,
            title="labs/week02/yours_day5.py",
            roles={
                "sut": "week02-day5-yours-api",
                "node1": "week02-day5-yours-1",
                "node2": "week02-day5-yours-2",
                "node3": "week02-day5-yours-3",
                "target": "sim-target",
            },
            processes=(
                "sim-target",
                "week02-day5-yours-api",
                "week02-day5-yours-1",
                "week02-day5-yours-2",
                "week02-day5-yours-3",
            ),
            edges={
                "node1.store": "week02-day5-yours-1.postgres",
                "node2.store": "week02-day5-yours-2.postgres",
                "node3.store": "week02-day5-yours-3.postgres",
            },
            resolvers=RESOLVERS,
            on_request=True,
        ),
    },
    load=Load(
        "loadtests/cron.py",
        rate=3,
        seconds=56,
        max_in_flight=100,
        options=("--target-url", "http://${SIM_TARGET_HOST}:${SIM_TARGET_PORT}"),
    ),
    # Everything of a real day, shrunk: leases of 10 s to 3, memories of a day to 8 s, so that a call of 15 s outlives both.
    environment={"CRON_LEASE_SECONDS": "3", "SIM_TARGET_REMEMBERS_SECONDS": "8"},
    steady_state=(error_rate(below=0.01), p99(below_ms=500)),
    faults=(
        at(0.5, target.holds_request(DEDUP_ONLY, seconds=15), lasting=16),
        at(2, stop_at_failpoint("leader", "cron.before_effect"), lasting=13),
        at(17, kill_at_failpoint("leader", "cron.after_effect", subject=FENCING_ONLY, down=3)),
        at(23, stop_at_failpoint("leader", "cron.after_due_list"), lasting=6),
        at(31, network.one_way(edge("leader.store")), lasting=6),
        at(39, clock.ahead("leader"), lasting=5),
    ),
    short_faults=(
        at(0, stop_at_failpoint("leader", "cron.after_due_list"), lasting=5),
        at(5.2, kill_at_failpoint("leader", "cron.after_effect", subject=FENCING_ONLY, down=0.5)),
    ),
    settled=(Settled("every_instant_is_accounted_for", still_open, within=12),),
    invariants=(
        no_double_effect,
        every_instant_has_one_row,
        effects_agree_with_rows,
        fair_weather_skips_nothing,
        nothing_fired_early,
        no_effect_of_a_deposed_leader,
        failover_in_time,
        each_check_alone_fails,
    ),
    discriminates=Discriminates(no_double_effect, at_least=5),
    infrastructure=("postgres", "redis", "kafka", "prometheus", "toxiproxy"),
    found=jobs_by_key,
    story=story,
    figures=figures,
    try_next=(
        "Turn one check off: PUT /lab/behaviours/without_fencing at sim-target while the lab runs. Which invariant breaks?",
        "Set SIM_TARGET_REMEMBERS_SECONDS to 60 in day5_cron.py, longer than any pause. What is the epoch still needed for?",
        "Set CRON_LEASE_SECONDS to 10 in day5_cron.py. Which pause doubles nothing now, and what does a dead leader cost?",
    ),
)
