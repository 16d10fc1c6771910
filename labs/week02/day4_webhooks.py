"""Week 2, day 4: a thousand endpoints, and some of them are never well."""

from __future__ import annotations

from collections.abc import Sequence

from labs.engine import (
    Discriminates,
    Evidence,
    Figure,
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
from labs.faults import kill, kill_at_failpoint, receivers
from labs.invariants.webhooks import (
    GROUPS,
    count,
    delivered_means_received,
    duplicates_are_explained,
    events_found,
    every_event_reaches_every_endpoint,
    every_signature_verifies,
    nothing_received_unasked,
    still_open,
    who_is_well_gets_everything,
)
from labs.week02.webhook_endpoints import register_all
from labs.week02.webhook_story import story

FEED = ("--feed-url", "http://127.0.0.1:${WEEK02_DAY4_FEED_PORT}")


async def figures(evidence: Evidence) -> Sequence[Figure]:
    """Where the deliveries are, and how many were made twice beside the most that this run allowed."""
    found = await count(evidence)
    record, log = "receivers' record", "sender's tables"
    kills = sum(one.kind.startswith("kill") and one.role == "dispatcher" for one in evidence.faults)
    bound = None if found.allowed is None else float(found.allowed)
    interrupted = None if found.interrupted is None else float(found.interrupted)
    return (
        Figure("wanted", float(found.wanted), "deliveries", "client's history"),
        Figure("received", float(found.received), "deliveries", record),
        Figure("dead_letters", float(found.dead), "deliveries", log),
        Figure("scheduled", float(found.scheduled), "deliveries", log),
        Figure("lost", float(found.lost), "deliveries", "history − record − tables", 0.0),
        Figure("duplicates", float(found.duplicates), "requests", record, bound),
        Figure("dispatcher_kills", float(kills), "kills", "faults"),
        Figure("in_flight_at_kills", interrupted, "attempts", log),
    )


LAB = Lab(
    week=2,
    day=4,
    title="Webhook delivery",
    question=(
        "A thousand customers want to hear of your events. Some of their servers are slow, dead, flapping or lying, and yours"
        " is killed now and then. Which of them never hears of which event, and who knows?"
    ),
    hypothesis=(
        "Three immediate retries outlast no outage: what fails three times within a second is gone, and nobody has written it"
        " down. With a row for each event and endpoint, committed with the event, each is at any moment received, scheduled or"
        " in the dead letters, whatever dies; and what comes twice was in flight when something died."
    ),
    explanation=(
        "The naive program's knowledge of what is still to do is a loop variable. It ends with the request, the process or the"
        " third attempt, whichever comes first. The engineered service writes the work down before it says 202: a delivery is"
        " a row that is claimed with a lease, attempted, and moved on together with the line of its log. A killed dispatcher's"
        " rows come back when their lease ends. Since a receiver may have taken what the dead one sent, it may come twice:"
        " that is why the id stays the same over all attempts, and why the receiver has to look at it."
    ),
    variants={
        "naive": Variant(
            role=VariantRole.NAIVE,
            title="three attempts for each endpoint, within the request",
            roles={
                "sut": "week02-day4-naive",
                "dispatcher": "week02-day4-naive",
                "receivers": "sim-receivers",
                "broker": "kafka",
            },
            processes=("sim-receivers", "week02-day4-naive"),
        ),
        "engineered": Variant(
            role=VariantRole.ENGINEERED,
            title="services/webhooks: a row per event and endpoint, leases, schedule, dead letters",
            roles={
                "sut": "webhooks-api",
                "dispatcher": "webhooks-dispatcher",
                "source": "webhooks-source",
                "keeper": "webhooks-keeper",
                "feed": "week02-day4-feed",
                "receivers": "sim-receivers",
                "broker": "kafka",
            },
            processes=(
                "kafka-topics",
                "sim-receivers",
                "webhooks-migrate",
                "webhooks-api",
                "webhooks-dispatcher",
                "webhooks-source",
                "webhooks-keeper",
                "week02-day4-feed",
            ),
            load_options=FEED,
        ),
    },
    load=Load("loadtests/webhooks.py", rate=20, seconds=50, max_in_flight=500, options=("--types", str(GROUPS))),
    # Ten hours become 3.6 s and fifteen seconds one: an outage of 30 s uses up the whole schedule of what was sent in its first 20.
    environment={
        "WEBHOOKS_SCHEDULE_FACTOR": "0.0001",
        "WEBHOOKS_TIMEOUT_SECONDS": "1",
        "WEBHOOKS_LEASE_MARGIN_SECONDS": "1",
    },
    prepare=register_all,
    steady_state=(error_rate(below=0.01), p99(below_ms=1000)),
    faults=(
        at(0, receivers.dead(first=1, count=30), lasting=32),
        at(0, receivers.hang(first=31, count=20), lasting=30),
        at(0, receivers.slow(first=51, count=20, seconds=0.7), lasting=30),
        at(0, receivers.flapping(first=71, count=50, period_seconds=4), lasting=30),
        at(0, receivers.lying(first=121, count=50), lasting=30),
        at(0, receivers.rate_limited(first=171, count=20), lasting=30),
        at(4, kill_at_failpoint("dispatcher", "webhooks.after_response", down=1)),
        at(9, kill("dispatcher", down=1)),
        at(14, kill_at_failpoint("dispatcher", "webhooks.before_attempt", down=1)),
        at(19, kill("broker", down=3)),
        at(25, kill_at_failpoint("dispatcher", "webhooks.after_response", down=1)),
        at(29, kill("sut", down=1)),
    ),
    short_faults=(
        at(0, receivers.dead(first=1, count=100), lasting=8),
        at(0, receivers.flapping(first=101, count=100, period_seconds=4), lasting=8),
        at(0, receivers.lying(first=201, count=100), lasting=8),
        at(2, kill_at_failpoint("dispatcher", "webhooks.after_response", down=0.5)),
        at(5, kill("dispatcher", down=0.5)),
    ),
    settled=(Settled("every_delivery_has_ended", still_open, within=45),),
    invariants=(
        every_event_reaches_every_endpoint,
        who_is_well_gets_everything,
        delivered_means_received,
        nothing_received_unasked,
        duplicates_are_explained,
        every_signature_verifies,
    ),
    discriminates=Discriminates(every_event_reaches_every_endpoint, at_least=20),
    found=events_found,
    story=story,
    figures=figures,
    metrics=(Metric("requests", "sum(sim_receivers_requests_total)", "requests"),),
    try_next=(
        "Give the naive program 10 attempts: ATTEMPTS in naive_webhooks.py. Whom does that help, and who pays for it?",
        "Set WEBHOOKS_SCHEDULE_FACTOR to 1 in day4_webhooks.py. What does `scheduled` say now, and is anything lost?",
        "Let half of the receivers hang: hang(first=501, count=500) in day4_webhooks.py. What happens to the other half?",
    ),
)
