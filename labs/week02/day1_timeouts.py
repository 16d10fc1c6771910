"""Day 1: the bank is slow for a moment. When does the chain before it work again?"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from labs.engine import (
    Discriminates,
    Evidence,
    Lab,
    Load,
    Metric,
    Settled,
    StoryLine,
    Variant,
    VariantRole,
    at,
    error_rate,
    p99,
)
from labs.faults import bank
from labs.invariants.payments import (
    charged_exactly_once,
    charges_by_reference,
    no_charge_without_payment,
    nothing_contradicted,
    still_unknown,
)
from labs.invariants.timeouts import (
    bank_is_not_amplified,
    edge_answers_within_budget,
    figures,
    recovers_within_10s_of_heal,
)

RATE = 24
"""Operations per second. 4 workers of 100 ms are then 60 % busy, as 20 workers would be at 120/s: naive retries make 650
requests per second of it, which two cores just carry."""
WORKERS = '{"workers": {"count": 4, "service_ms": 100}}'


CHARGES = "SELECT at, outcome FROM requests WHERE source = $1 AND path = '/v1/charges' ORDER BY at, id"


async def story(evidence: Evidence, reference: str) -> Sequence[StoryLine]:
    """Every request of one operation at the bank, as they came and as they were served."""
    lines, arrived, served = [], 0, 0
    for row in await evidence.sql("bank", CHARGES, f"tok_{reference}"):
        if not isinstance(moment := row["at"], datetime):
            raise TypeError("the bank's record has other columns than this story expects")
        if row["outcome"] == "arrived":
            arrived += 1
            what = f"request {arrived} to charge this card joins the queue"
        else:
            served += 1
            what = f"a worker is done with request {served}: {row['outcome']}"
        lines.append(StoryLine(evidence.since_start(moment), "bank", what))
    return lines


LAB = Lab(
    week=2,
    day=1,
    title="Timeouts and retries",
    question=(
        "A client calls checkout, checkout calls payments, payments calls the bank; each waits 1 s and tries three times."
        " For 20 s the bank is 20 times slower, then it is as fast as before. When does the chain work again?"
    ),
    hypothesis=(
        "Retries at each hop multiply: 3 × 3 × 3 = 27 requests at the bank for one operation, most of which nobody waits for any"
        " more. They keep the bank busy after it is healed, so that the chain stays down. With one deadline for the whole"
        " chain, one place that retries, and a budget for it, the bank gets no more requests than there are operations, and the"
        " chain works again within seconds."
    ),
    explanation=(
        "The bank finishes whatever it has begun to queue, whether anybody still waits or not. Once the queue is longer than the"
        " timeout, every answer comes too late; every late answer is three more requests, nine, twenty-seven; and the queue grows"
        " faster than the healthy bank can serve it. The trigger is gone, the overload feeds itself: a metastable failure. The"
        " engineered chain passes on how much time is left, gives up when it is over, retries only at the edge and from a budget"
        " that failures empty, and stops calling a bank that does not answer. So the queue at the bank stays short."
    ),
    variants={
        "naive": Variant(
            role=VariantRole.NAIVE,
            title="1 s and three attempts at each of three hops",
            roles={"sut": "week02-day1-naive-checkout", "payments": "week02-day1-naive-payments", "bank": "sim-bank"},
            processes=("sim-bank", "week02-day1-naive-payments", "week02-day1-naive-checkout"),
            load_options=("--client", "naive"),
            hold=60,
            short_hold=8.3,
        ),
        "engineered": Variant(
            role=VariantRole.ENGINEERED,
            title="services/checkout and services/payments: one deadline, a retry budget, a breaker",
            # No relay and no broker: nothing of this day is about events, which wait in the outbox.
            roles={
                "sut": "checkout-api",
                "payments": "payments-api",
                "resolver": "payments-resolver",
                "bank": "sim-bank",
            },
            processes=("sim-bank", "payments-migrate", "payments-api", "payments-resolver", "checkout-api"),
            load_options=("--client", "deadline"),
            hold=15,
            short_hold=8.3,
        ),
    },
    infrastructure=("postgres", "prometheus", "toxiproxy"),
    environment={"SIM_BANK_BEHAVIOURS": WORKERS},
    load=Load("loadtests/checkout.py", rate=RATE, seconds=30, max_in_flight=2000),
    baseline_seconds=7,
    steady_state=(error_rate(below=0.01), p99(below_ms=500)),
    faults=(at(0, bank.slower(20), lasting=20),),
    # Two seconds are enough: the queue is then longer than the timeout.
    short_faults=(at(0, bank.slower(20), lasting=2),),
    settled=(Settled("no_unknown_payments", still_unknown, within=30),),
    invariants=(
        recovers_within_10s_of_heal,
        bank_is_not_amplified,
        edge_answers_within_budget,
        charged_exactly_once,
        no_charge_without_payment,
        nothing_contradicted,
    ),
    discriminates=Discriminates(recovers_within_10s_of_heal, at_least=50),
    # While a charge takes 2 s, nobody can be served within 1 s: the claim is about afterwards.
    acknowledged_at_least=0,
    found=charges_by_reference,
    story=story,
    figures=figures,
    metrics=(Metric("bank_queue_at_the_end", "sum(sim_bank_queued_charges)", "charges"),),
    try_next=(
        "Take the retries out of the two inner hops: PAUSES = () in naive_chain.py. Are three requests per operation few enough?",
        "Keep all retries and make the fault shorter: lasting=1 in day1_timeouts.py. Where is the point of no return?",
        "Shed load until the naive chain recovers by itself; rate=8 is still too much. Compute the rate from 40 charges/s first.",
    ),
)
