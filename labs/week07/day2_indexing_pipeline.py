"""Week 7, day 2: a product is changed. When does the search know, and what if somebody on the way dies?"""

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
    Phase,
    Scenario,
    Settled,
    Variant,
    VariantRole,
    at,
    error_rate,
    p99,
)
from labs.engine.model import Documents
from labs.faults import kill
from labs.faults.one_shot import one_shot
from labs.invariants.search import (
    QUERY,
    found_soon,
    freshness_p99,
    in_database,
    in_index,
    index_equals_database,
    no_query_fails,
    queries,
    still_behind,
)
from labs.invariants.search import differences as differences_between
from labs.week07.catalogue import index_is_full, warmed
from labs.week07.product_story import story

FRESH_SECONDS = 5.0
HOLD_SECONDS = 6.0
"""The engine's virtual machine has just started when the load goes on."""
SHORT_HOLD_SECONDS = 8.0
"""The load's own queries warm the engine, and only then it has to be calm."""
SHORT_LIVED_ENGINE = "-Xms512m -Xmx512m -XX:TieredStopAtLevel=1"
"""An engine that is killed before its second compiler has paid off: with it, its first 14 s cost twice the processor time."""
OF_THE_CATALOGUE = ("--products", "1000")
OF_A_FEED = ("--feed-share", "0.85")
RATE = 525
"""500 changes a second, nine in ten of them from a supplier's feed, and 24 queries."""
SEARCHED_RATE = 560
"""504 changes a second, and 56 queries."""
REINDEX_DOCUMENTS_PER_SECOND = "500"
"""3,000 at once, the pace of a larger machine, took both cores for 7 s, and changes were found as late."""
AUDIT_SETTLE_SECONDS = "2"
"""The indexer is tenths of a second behind here; the popular products change at every look, of which there are five."""
SOON = found_soon(FRESH_SECONDS)


async def figures(evidence: Evidence) -> Sequence[Figure]:
    """How far apart database and index ended, and how soon a change was found."""
    database, index = await in_database(evidence), await in_index(evidence)
    kinds = [what.partition(":")[0] for what in differences_between(database, index).values()]
    writes = [one for one in evidence.history if one.kind != QUERY and one.phase is not Phase.CONTROL]
    asked = queries(evidence)
    calm, fresh = await freshness_p99(evidence, faults=False), await freshness_p99(evidence)
    compared = "catalogue's tables against the index"
    return (
        Figure(
            "writes acknowledged", float(sum(one.outcome is Outcome.OK for one in writes)), "writes", "client history"
        ),
        Figure("missing", float(kinds.count("missing")), "products", compared, 0.0),
        Figure("stale", float(kinds.count("stale")), "products", compared, 0.0),
        Figure("extra", float(kinds.count("extra")), "products", compared, 0.0),
        Figure("freshness p99 before it", calm, "s", "canary, commit to found", FRESH_SECONDS),
        Figure("freshness p99 with it", fresh, "s", "canary, commit to found"),
        Figure(
            "queries failed", float(sum(one.outcome is not Outcome.OK for one in asked)), "queries", "client history"
        ),
    )


LAB = Lab(
    week=7,
    day=2,
    title="Indexing pipeline",
    question=(
        "Every change of a product has to reach two stores: the database, and the index that people search. The indexer, the"
        " broker, the connector and the engine die in turn. How many products does the search get wrong afterwards, and for"
        " how long?"
    ),
    hypothesis=(
        "Who writes both from the handler has no way back: whatever fails between the two writes is wrong until somebody happens"
        " to change the product again. Who reads the database's own log has nothing to forget: after each death the index"
        " catches up, to the last product, and within seconds. And a new schema is a second index beside the first one, so no"
        " query notices it."
    ),
    explanation=(
        "A dual write has no transaction around it. The naive handler commits, asks the engine, and writes a line to its log if"
        " that fails; nobody reads the line. Retrying in the handler moves the hole, an outbox of one's own closes it, and the"
        " database has one already: its write-ahead log. Debezium reads it from where it was, Kafka keeps it, the indexer"
        " commits its offset after the engine's answer, and reads each product anew with a version that cannot go backwards, so"
        " that what comes twice or late changes nothing. The new schema is built from the same source: a copy gets every change"
        " from its first moment on, is compared with the truth, and takes over the alias in one step."
    ),
    variants={
        "naive": Variant(
            role=VariantRole.NAIVE,
            title="the handler writes Postgres, then the engine; a new schema is delete, create, fill",
            roles={
                "sut": "week07-day2-naive",
                "indexer": "week07-day2-naive",
                "connector": "week07-day2-naive",
                "reindex": "week07-day2-naive-reindex",
                "search": "week07-day2-naive",
                "broker": "kafka",
                "engine": "search-engine",
            },
            processes=("catalog-migrate", "catalog-fill", "week07-day2-naive"),
            load_options=("--search-url", "http://127.0.0.1:${WEEK07_DAY2_NAIVE_PORT}"),
            hold=HOLD_SECONDS,
            short_hold=SHORT_HOLD_SECONDS,
        ),
        "engineered": Variant(
            role=VariantRole.ENGINEERED,
            title="services/catalog and services/search: the database's log, Kafka, versions, an alias",
            roles={
                "sut": "catalog-api",
                "indexer": "search-indexer",
                "connector": "connect",
                "reindex": "search-reindex",
                "search": "search-api",
                "broker": "kafka",
                "engine": "search-engine",
            },
            processes=(
                "kafka-topics",
                "catalog-migrate",
                "catalog-fill",
                "connect",
                "catalog-connector",
                "catalog-api",
                "search-migrate",
                "search-indexer",
                "search-canary",
                "search-api",
            ),
            load_options=("--search-url", "http://127.0.0.1:${SEARCH_PORT}"),
            hold=HOLD_SECONDS,
            short_hold=SHORT_HOLD_SECONDS,
        ),
    },
    infrastructure=("postgres", "kafka", "search-engine", "prometheus", "toxiproxy"),
    documents=Documents(full=3_000, short=1_500),
    prepare=warmed(index_is_full("engine"), "search"),
    load=Load(
        "loadtests/catalog.py",
        rate=RATE,
        seconds=40,
        max_in_flight=1000,
        options=(*OF_THE_CATALOGUE, *OF_A_FEED, "--query-share", "0.3"),
    ),
    # Two changes of one product at the same time are a race that the naive program loses even in calm weather, now and then.
    control_load=Load(
        "loadtests/catalog.py", rate=20, options=(*OF_THE_CATALOGUE, "--skew", "0", "--query-share", "0.3")
    ),
    environment={
        "SEARCH_CLIENT_HEADER": "X-Client-Id",
        "SEARCH_ENGINE_HEAP": SHORT_LIVED_ENGINE,
        "SEARCH_REINDEX_DOCUMENTS_PER_SECOND": REINDEX_DOCUMENTS_PER_SECOND,
        "SEARCH_AUDIT_SETTLE_SECONDS": AUDIT_SETTLE_SECONDS,
    },
    share_processes=True,
    steady_state=(error_rate(below=0.01), p99(below_ms=1000)),
    settled=(Settled("index_has_caught_up", still_behind, within=45),),
    invariants=(index_equals_database,),
    discriminates=Discriminates(index_equals_database, at_least=5),
    scenarios=(
        Scenario(
            name="deaths",
            invariants=(index_equals_database, SOON),
            baseline_seconds=8,
            faults=(
                at(0, kill("indexer", down=1.5)),
                at(4, kill("broker", down=2)),
                at(9, kill("connector", down=2)),
                at(15, kill("engine", down=2)),
            ),
            short_faults=(at(0, kill("indexer", down=1)), at(3, kill("engine", down=1))),
        ),
        Scenario(
            name="new_schema",
            # The naive program is without an index for a moment: enough people have to search in it.
            load=Load(
                "loadtests/catalog.py",
                rate=SEARCHED_RATE,
                max_in_flight=1000,
                options=(*OF_THE_CATALOGUE, "--feed-share", "0.8", "--query-share", "0.5"),
            ),
            faults=(at(1, one_shot("reindex", called="reindex"), lasting=2),),
            invariants=(no_query_fails, index_equals_database),
            discriminates=Discriminates(no_query_fails, at_least=5),
            baseline_seconds=6,
            in_short=False,
        ),
    ),
    story=story,
    figures=figures,
    metrics=(Metric("records_waiting", "sum(search_indexer_lag_records)", "records"),),
    try_next=(
        "Let the naive handler retry three times: index_product in naive_dual_write.py. Whom does that help, and what does it do to p99?",
        "Kill nothing, and change few products very often: faults=() in day2_indexing_pipeline.py, --products 5. Is the naive index right?",
        "Let the connector stay away longer: down=10. What grows meanwhile, where, and who would notice first?",
    ),
)
