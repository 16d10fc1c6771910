"""Week 2, day 2: the bank charged the card and its answer was lost."""

from __future__ import annotations

from labs.engine import (
    Discriminates,
    Lab,
    Load,
    Metric,
    Settled,
    Variant,
    VariantRole,
    at,
    error_rate,
    p99,
)
from labs.faults import bank, kill, kill_at_failpoint, pause
from labs.invariants.payments import (
    amounts_agree,
    charged_exactly_once,
    charges_by_reference,
    ledger_balances,
    no_charge_without_payment,
    no_unknown_left,
    nothing_contradicted,
    one_event_per_capture,
    still_unknown,
    still_unpublished,
)
from labs.week02.payment_story import story

LAB = Lab(
    week=2,
    day=2,
    title="Idempotency",
    question=(
        "The bank charged the card and its answer was lost. The client tries again. How often is the customer charged?"
    ),
    hypothesis=(
        "Retrying without a key that the bank knows charges once per attempt that reached it. With a reference that is stored"
        " before the call and sent again with every retry, the customer is charged exactly once, whatever dies in between."
    ),
    explanation=(
        "A timeout says nothing about the charge. The naive program takes it for a failure and asks again, and so does its"
        " client; to the bank each of these is a new order. The engineered service writes down what it is about to do,"
        " under a reference of its own, commits, and only then calls the bank. Every later attempt, by the client, by the"
        " restarted API or by the resolver, repeats that reference, so the bank answers with the charge that it made. Until"
        " the answer is certain the client is told `processing`, not `failed`."
    ),
    variants={
        "naive": Variant(
            role=VariantRole.NAIVE,
            title="insert, call the bank, save, publish, retry on timeout",
            roles={"sut": "week02-day2-naive", "bank": "sim-bank", "broker": "kafka", "database": "postgres"},
            processes=("kafka-topics", "sim-bank", "week02-day2-naive"),
            edges={
                "sut.bank": "week02-day2-naive.bank",
                "sut.database": "week02-day2-naive.postgres",
                "sut.broker": "week02-day2-naive.kafka",
            },
        ),
        "engineered": Variant(
            role=VariantRole.ENGINEERED,
            title="services/payments: idempotency keys, references, recovery points, outbox, resolver",
            roles={
                "sut": "payments-api",
                "relay": "payments-relay",
                "resolver": "payments-resolver",
                "bank": "sim-bank",
                "broker": "kafka",
                "database": "postgres",
            },
            processes=(
                "kafka-topics",
                "sim-bank",
                "payments-migrate",
                "payments-api",
                "payments-relay",
                "payments-resolver",
            ),
            edges={"sut.bank": "payments.bank", "sut.database": "payments.postgres", "sut.broker": "payments.kafka"},
        ),
        "yours": Variant(
            role=VariantRole.ENGINEERED,
            title="labs/week02/yours_day2.py",
            roles={"sut": "week02-day2-yours", "bank": "sim-bank", "broker": "kafka", "database": "postgres"},
            processes=("kafka-topics", "sim-bank", "week02-day2-yours"),
            on_request=True,
        ),
    },
    load=Load("loadtests/payments.py", rate=50, seconds=60, max_in_flight=1000),
    steady_state=(error_rate(below=0.01), p99(below_ms=500)),
    faults=(
        at(1, bank.loses_answer(share=0.05), lasting=40),
        at(1, bank.declines(share=0.03), lasting=40),  # so that somebody is told `failed`, and it can be contradicted
        at(20, kill_at_failpoint("sut", "payments.after_bank_answer", down=3)),
        at(28, pause("bank"), lasting=5),
        at(36, kill("broker", down=5)),
        at(40, kill("sut", down=3)),
    ),
    # The naive program needs a second to take an answer for lost and another moment to be told captured: 3 s for that first.
    short_faults=(
        at(0, bank.loses_answer(share=0.2), lasting=9),
        at(0, bank.declines(share=0.05), lasting=9),
        at(3, kill_at_failpoint("sut", "payments.after_bank_answer", down=0.5)),
        at(5.5, kill("broker", down=0.5)),
        at(6.5, pause("bank"), lasting=1.5),
    ),
    settled=(
        Settled("no_unknown_payments", still_unknown, within=30),
        Settled("outbox_is_empty", still_unpublished, within=30),
    ),
    invariants=(
        charged_exactly_once,
        no_charge_without_payment,
        amounts_agree,
        nothing_contradicted,
        ledger_balances,
        one_event_per_capture,
        no_unknown_left,
    ),
    discriminates=Discriminates(charged_exactly_once, at_least=5),
    found=charges_by_reference,
    story=story,
    metrics=(
        Metric("bank_charges", "sum(sim_bank_charges_total)", "charges"),
        Metric("answers_lost", 'sum(sim_bank_behaviour_hits_total{behaviour="loses_answer"})', "calls"),
    ),
    try_next=(
        "Lose no answers, only kill: set the share in day2_idempotency.py to 0. Does the naive program still charge twice?",
        "Give the naive program a reference: send `reference` to the bank (one line in naive_payments.py). What is left?",
        "Answer 502 at once instead of retrying inside the naive program: BANK_PAUSES = (). Who charges twice now?",
    ),
)
