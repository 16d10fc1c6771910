"""The house: which processes run at once, which load each system gets, and what must hold of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from labs.engine import Invariant, Load, Settled, Variant, VariantRole
from labs.engine.model import Found
from labs.faults import leader
from labs.invariants import breakers, cron, payments, sales, search, timeouts, webhooks

PRODUCTS = 1_000
FIRST_JOBS_SECONDS = 40.0
LATER_JOBS = 0.01
"""Jobs stay and go on firing, so few are added later: r jobs a second for t seconds fire 0.36 r t times a second."""

INFRASTRUCTURE = ("postgres", "redis", "kafka", "search-engine", "prometheus", "toxiproxy")
SIMULATORS = ("sim-bank", "sim-receivers", "sim-target")
STARTS: tuple[tuple[str, ...], ...] = (
    ("kafka-topics", *SIMULATORS),
    ("payments-migrate", "payments-api", "payments-relay", "payments-resolver", "payments-reconciler", "checkout-api"),
    (
        "webhooks-migrate",
        "webhooks-api",
        "webhooks-dispatcher",
        "webhooks-source",
        "webhooks-keeper",
        "week02-day4-feed",
    ),
    ("cron-migrate", "cron-api", "cron-scheduler-1", "cron-scheduler-2", "cron-scheduler-3"),
    ("catalog-migrate", "catalog-fill", "connect", "catalog-connector", "catalog-api", "catalog-sales"),
    ("search-migrate", "search-indexer", "search-canary", "search-api"),
)
"""One system after the other: each may take as long as a week's lab does."""
PROCESSES = tuple(service for group in STARTS for service in group)
EDGES = (
    "payments.bank", "payments.postgres", "payments.kafka", "checkout.payments", "webhooks.postgres", "webhooks.kafka",
)  # fmt: skip

HOUSE = Variant(
    role=VariantRole.ENGINEERED,
    title="all services of weeks 2 and 7",
    roles={
        **{name: name for name in (*INFRASTRUCTURE, *PROCESSES)},
        "sut": "webhooks-api",  # whose endpoints labs.week02.webhook_endpoints registers
        "bank": "sim-bank",
        "receivers": "sim-receivers",
        "target": "sim-target",
        "dispatcher": "webhooks-dispatcher",
        "node1": "cron-scheduler-1",
        "node2": "cron-scheduler-2",
        "node3": "cron-scheduler-3",
    },
    processes=PROCESSES,
    edges={
        **{name: name for name in EDGES},
        # "leader.store" is looked up by the service that leads.
        **{f"cron-scheduler-{number}.store": f"cron-scheduler-{number}.postgres" for number in (1, 2, 3)},
    },
    # Leases, timeouts and the schedule are those of week 2, shrunk from hours: an outage of half a minute is outlasted.
    environment={
        "CRON_LEASE_SECONDS": "3",
        "SIM_TARGET_REMEMBERS_SECONDS": "8",
        "WEBHOOKS_SCHEDULE_FACTOR": "0.0005",
        "WEBHOOKS_TIMEOUT_SECONDS": "1",
        "WEBHOOKS_LEASE_MARGIN_SECONDS": "1",
        "SEARCH_CLIENT_HEADER": "X-Client-Id",
        # Full after three minutes, where the 64 MiB of the default would look like a leak for an hour.
        "SEARCH_CACHE_BYTES": str(4 << 20),
        "CATALOG_PRODUCTS": str(PRODUCTS),
    },
    resolvers={"leader": leader.leader("node1", "node2", "node3", gauge="cron_leader")},
)


@dataclass(frozen=True, slots=True)
class Source:
    """One load generator. `to` is the service that it calls; `run` begins its keys and has no hyphen."""

    name: str
    to: str
    run: str
    load: Load


def _source(name: str, to: str, run: str, script: str, rate: float, *options: str, grows: bool = False) -> Source:
    load = Load(f"loadtests/{script}.py", rate=rate, max_in_flight=200, options=("--run", run, *options), grows=grows)
    return Source(name, to, run, load)


SOURCES: tuple[Source, ...] = (
    _source("payments", "payments-api", "soakpay", "payments", 5,
            "--articles-url", "http://127.0.0.1:${CATALOG_PORT}"),
    _source("checkout", "checkout-api", "soakout", "checkout", 8, "--client", "deadline"),
    _source("webhooks", "webhooks-api", "soakhook", "webhooks", 3,
            "--types", str(webhooks.GROUPS), "--feed-url", "http://127.0.0.1:${WEEK02_DAY4_FEED_PORT}"),
    _source("cron", "cron-api", "soakjob", "cron", 0.75,
            "--target-url", "http://${SIM_TARGET_HOST}:${SIM_TARGET_PORT}", grows=True),
    _source("search", "catalog-api", "soakcat", "catalog", 10,
            "--products", str(PRODUCTS), "--query-share", "0.5", "--search-url", "http://127.0.0.1:${SEARCH_PORT}"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class System:
    """What is judged on its own. `sources` are the loads whose operations its invariants must see."""

    name: str
    title: str
    sources: tuple[str, ...]
    invariants: tuple[Invariant, ...]
    settled: tuple[Settled, ...] = ()
    found: Found | None = None


SYSTEMS: tuple[System, ...] = (
    System(
        name="payments",
        title="payments and the bank",
        sources=("payments", "checkout"),
        invariants=(
            payments.charged_exactly_once,
            payments.no_charge_without_payment,
            payments.amounts_agree,
            payments.nothing_contradicted,
            payments.ledger_balances,
            payments.one_event_per_capture,
            payments.no_unknown_left,
            breakers.refused_was_not_charged,
        ),
        settled=(
            Settled("no_unknown_payments", payments.still_unknown, within=60),
            Settled("outbox_is_empty", payments.still_unpublished, within=60),
        ),
        found=payments.charges_by_reference,
    ),
    System(
        name="checkout",
        title="checkout, the edge in front of payments",
        sources=("checkout",),
        invariants=(timeouts.edge_answers_within_budget, timeouts.recovers_within_10s_of_heal),
    ),
    System(
        name="webhooks",
        title="webhooks and the receivers",
        sources=("webhooks",),
        invariants=(
            webhooks.every_event_reaches_every_endpoint,
            webhooks.who_is_well_gets_everything,
            webhooks.delivered_means_received,
            webhooks.nothing_received_unasked,
            webhooks.duplicates_are_explained,
            webhooks.every_signature_verifies,
        ),
        settled=(Settled("every_delivery_has_ended", webhooks.still_open, within=120),),
        found=webhooks.events_found,
    ),
    System(
        name="cron",
        title="cron and the target of its jobs",
        sources=("cron",),
        invariants=(
            cron.no_double_effect,
            cron.every_instant_has_one_row,
            cron.effects_agree_with_rows,
            cron.fair_weather_skips_nothing,
            cron.nothing_fired_early,
            cron.no_effect_of_a_deposed_leader,
            cron.failover_in_time,
        ),
        settled=(Settled("every_instant_is_accounted_for", cron.still_open, within=30),),
        found=cron.jobs_by_key,
    ),
    System(
        name="sales",
        title="paid orders and the catalogue's stock",
        sources=("payments",),
        invariants=(sales.sold_once_for_each_charge,),
        settled=(Settled("every_paid_order_is_sold", sales.still_unsold, within=60),),
    ),
    System(
        name="search",
        title="catalogue and search",
        sources=("search",),
        invariants=(search.index_equals_database,),
        settled=(Settled("index_has_caught_up", search.still_behind, within=90),),
    ),
)

TIMED = frozenset({"edge_answers_within_budget", "recovers_within_10s_of_heal", "failover_in_time"})
"""They judge by the clock: where the generator itself could not keep time, what they say is about the machine."""

_RANKING = "of the order of results, asked of an index without any load (week 7, days 1 and 4)"
_SHARDS = "of a bank of ten shards, one of them dead (week 2, day 3)"
_SURGE = "of a load beyond what the engine can serve (week 7, day 3)"
_ENGINE = "promised where no single engine dies; here the only one does"

NOT_ASKED: Mapping[str, str] = {
    "live_shards_answered": _SHARDS,
    "told_at_once": _SHARDS,
    "hit_shards_refused": _SHARDS,
    "recovered_soon": _SHARDS,
    "each_check_alone_fails": "shows why the target needs both of its checks, by faults made for it (week 2, day 5)",
    "bank_is_not_amplified": "counts what joins the queue of a bank with workers (week 2, day 1); this one has none",
    "finds_what_is_meant": _RANKING,
    "time_grows_slower_than_the_catalogue": _RANKING,
    "tiny_index_agrees": _RANKING,
    "numbers_come_first": _RANKING,
    "what_can_be_bought_comes_first": _RANKING,
    "gate_refuses_only_what_ruins": _RANKING,
    "taste_costs_no_relevance": _RANKING,
    "taste_hides_no_exact_match": _RANKING,
    "no_query_fails": _ENGINE,
    "answered": "of a cluster of three nodes (week 7, day 5)",
    "goodput_is_kept": _SURGE,
    "who_is_not_served_is_told": _SURGE,
    "no_acknowledged_document_is_lost": "of documents put into the index directly (week 7, day 5)",
    "found_soon": _ENGINE,
    "one_asks_for_all": "of the moment when another index takes over (week 7, day 3)",
    "acknowledged_is_kept": "of the notes of labs/template, which is no system",
}
"""Invariants of `labs/invariants` that a soak does not ask, and why. A test keeps the list whole."""
