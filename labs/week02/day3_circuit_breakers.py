"""Week 2, day 3: one of the bank's ten shards is dead. Who is still served?"""

from __future__ import annotations

from collections.abc import Sequence

from labs.engine import (
    Discriminates,
    Evidence,
    Figure,
    Lab,
    Load,
    Metric,
    Outcome,
    Scenario,
    Settled,
    StoryLine,
    Variant,
    VariantRole,
    at,
    error_rate,
    p99,
)
from labs.engine.model import Fault
from labs.faults import edge, network, together
from labs.invariants.breakers import (
    SHARDS,
    answered_share,
    first_refusal,
    hit_shards_refused,
    live_shards_answered,
    outage,
    recovered_soon,
    refused_was_not_charged,
    served_again,
    shard_of_operation,
    told_at_once,
)
from labs.invariants.payments import charged_exactly_once, still_unknown
from labs.week02.payment_story import bank_lines, our_lines

VICTIM = 3
SLOW = (3, 7)
LIVE = live_shards_answered(0.99)
HIT = hit_shards_refused(0.5)
TOLD = told_at_once(0.5)
RECOVERED = recovered_soon(0.95)
HISTORY = "client history, by the shard of the card"


def shard(number: int) -> network.EdgeName:
    """The link to one shard."""
    return edge(f"sut.shard{number}")


def two_shards_slow() -> Fault:
    """Everything is answered, 1.6 s later: below every timeout."""
    return together(*(network.latency(shard(number), ms=800) for number in SLOW))


def all_shards_dead() -> Fault:
    """Every link swallows what it is given: no refusal, no answer, until the caller's own timeout."""
    # Once a breaker is open, a shard may see nobody any more: that some have met traffic is proof enough.
    return together(*(network.blackhole(shard(number)) for number in range(SHARDS)), touched=SHARDS // 2)


async def figures(evidence: Evidence) -> Sequence[Figure]:
    """What the clients of each kind of shard saw."""
    found = outage(evidence)
    if found is None:
        return ()
    during = found.during(evidence.history)
    live = [one for one in during if shard_of_operation(one) not in found.shards]
    hit = [one for one in during if shard_of_operation(one) in found.shards]
    refused = first_refusal(evidence, found)
    after = [one for one in live if refused is not None and one.intended_at >= found.start + refused]
    return (
        Figure("answered, live shards", _percent(answered_share(live)), "%", HISTORY, 99.0),
        Figure("answered, live shards, from the first refusal on", _percent(answered_share(after)), "%", HISTORY),
        Figure("answered, dead or slow shards", _percent(answered_share(hit)), "%", HISTORY),
        Figure("first refusal after", refused, "s", "client history"),
        Figure("served again after the heal", served_again(evidence, found), "s", "client history, 95 % of a second"),
    )


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 1)


async def story(evidence: Evidence, reference: str) -> Sequence[StoryLine]:
    """Whose card it was, and what the bank and our tables hold of it."""
    own = next(one for one in evidence.history if one.key == reference)
    found = outage(evidence)
    number = shard_of_operation(own)
    hit = found is not None and number in found.shards
    whose = f"card of shard {number}, which is {'dead or slow' if hit else 'well'}"
    if own.outcome is Outcome.UNKNOWN:
        whose += f"; the client gave up: {own.error}"
    lines = [StoryLine(own.intended_at, "client", whose)]
    lines += await bank_lines(evidence, reference)
    lines += await our_lines(evidence, reference)
    return sorted(lines, key=lambda line: line.at)


def _naive(kind: str, title: str, *, hold: float, in_short: bool) -> Variant:
    return Variant(
        role=VariantRole.NAIVE,
        title=title,
        roles={"sut": f"week02-day3-{kind}", "bank": "sim-bank", "database": "postgres"},
        processes=("sim-bank", f"week02-day3-{kind}"),
        edges={f"sut.shard{number}": f"week02-day3-naive.shard{number}" for number in range(SHARDS)},
        in_short=in_short,
        hold=hold,
        short_hold=3,
    )


LAB = Lab(
    week=2,
    day=3,
    title="Circuit breakers",
    question="One of the bank's ten shards is dead. How many of the cards of the other nine can still pay?",
    hypothesis=(
        "One breaker for the whole bank that opens at 5 % failures turns a tenth of an outage into a whole one, and keeps it"
        " up after the bank is back. A breaker for each shard that opens at 50 % leaves the other nine alone."
    ),
    explanation=(
        "A breaker answers the question whether it is worth calling, and it must be asked of the thing that fails: the shard."
        " Ten percent of all calls failing means that one shard fails wholly; the global breaker sees a bank that is sick and"
        " refuses the nine shards that are well, where no breaker at all would have served them. Slow shards do it without a"
        " single failure: their calls hold what all share, here the ten connections of the database pool, and the others"
        " starve behind them, which a breaker that counts failures never sees. The engineered service holds nothing across"
        " the call to the bank, judges each shard by failures and by slow calls, refuses before anything is written, and asks"
        " again with three calls at a time."
    ),
    variants={
        "none": _naive("none", "no breaker; ten connections, each held during the call", hold=3, in_short=False),
        "global": _naive("global", "one breaker for the bank: opens at 5 % failures, for 10 s", hold=7, in_short=True),
        "keyed": Variant(
            role=VariantRole.ENGINEERED,
            title="services/payments: a breaker for each shard, 50 % failed or slow, three probes a second",
            roles={"sut": "payments-api", "resolver": "payments-resolver", "bank": "sim-bank", "database": "postgres"},
            processes=("sim-bank", "payments-migrate", "payments-api", "payments-resolver"),
            edges={f"sut.shard{number}": f"payments.shard{number}" for number in range(SHARDS)},
            hold=6.5,
            short_hold=3,
        ),
        "yours": Variant(
            role=VariantRole.ENGINEERED,
            title="labs/week02/yours_day3.py",
            roles={"sut": "week02-day3-yours", "bank": "sim-bank", "database": "postgres"},
            processes=("sim-bank", "week02-day3-yours"),
            edges={f"sut.shard{number}": f"week02-day3-naive.shard{number}" for number in range(SHARDS)},
            on_request=True,
            hold=6.5,
            short_hold=3,
        ),
    },
    environment={"PAYMENTS_SHARDED": "1"},
    share_processes=True,
    load=Load("loadtests/payments.py", rate=100, seconds=16, max_in_flight=1500, options=("--attempts", "1")),
    steady_state=(error_rate(below=0.01), p99(below_ms=500)),
    scenarios=(
        Scenario(
            name="one_dead",
            baseline_seconds=4,
            faults=(at(0, network.down(shard(VICTIM)), lasting=6),),
            short_faults=(at(0, network.down(shard(VICTIM)), lasting=7),),
            broken_by=("global",),
        ),
        # Nothing fails here, so the global breaker would never open: it is `none` once more, and is left out.
        Scenario(
            name="two_slow",
            baseline_seconds=4,
            faults=(at(0, two_shards_slow(), lasting=6),),
            variants=("none", "keyed", "yours"),
            broken_by=("none",),
            in_short=False,
        ),
        Scenario(
            name="all_dead",
            baseline_seconds=4,
            faults=(at(0, all_shards_dead(), lasting=6),),
            invariants=(TOLD, RECOVERED, refused_was_not_charged, charged_exactly_once),
            discriminates=Discriminates(RECOVERED, at_least=50),
            variants=("global", "keyed", "yours"),
            broken_by=("global",),
            in_short=False,
        ),
    ),
    settled=(Settled("no_unknown_payments", still_unknown, within=15),),
    invariants=(LIVE, HIT, refused_was_not_charged, charged_exactly_once),
    discriminates=Discriminates(LIVE, at_least=50),
    infrastructure=("postgres", "prometheus", "toxiproxy"),
    story=story,
    figures=figures,
    metrics=(
        Metric("refused_by_an_open_breaker", "sum(payments_bank_refused_total)", "commands"),
        Metric("calls_at_the_shards", "sum(sim_bank_shard_calls_total)", "calls"),
    ),
    try_next=(
        (
            "Let the global breaker open at 50 % (FAILURE_SHARE in naive_breaker.py). One dead shard of ten no longer opens"
            " it: what starves the other nine now?"
        ),
        (
            "Give the naive program's pool 100 connections (asyncpg.create_pool(url, max_size=100)). Which scenario is"
            " mended, and at which rate is it broken again?"
        ),
        (
            "Judge by failures only: slow_seconds=None in services/payments/bank.py. What does the slow shard cost the"
            " others when nothing is held across the call?"
        ),
    ),
)
