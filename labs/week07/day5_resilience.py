"""Week 7, day 5: three nodes hold the index. One dies, one stands still, one is slow, and somebody asks for *everything*."""

from __future__ import annotations

from collections.abc import Sequence

from labs.engine import (
    Discriminates,
    Evidence,
    Figure,
    Lab,
    Load,
    Outcome,
    StoryLine,
    Variant,
    VariantRole,
    at,
    error_rate,
    p99,
)
from labs.engine.model import Documents
from labs.faults import edge, kill, network, pause
from labs.faults.storm import storm
from labs.invariants.search import (
    DOCUMENT,
    answered,
    degraded,
    no_acknowledged_document_is_lost,
    queries,
    served,
    share_of,
)
from labs.week07.catalogue import cloned_catalogue, warmed

NODES = ("search-engine-1", "search-engine-2", "search-engine-3")
ANSWERED = answered(0.999)
NOTHING_LOST = no_acknowledged_document_is_lost(NODES)
BUILDERS = ("catalog-migrate", "catalog-fill", "week07-day5-migrate", "week07-day5-fill")
WILD = tuple(f"*{letters}*" for letters in ("a", "e", "er", "in", "on", "st", "*", "o", "re", "ch"))
HISTORY = "client history, from the intended send time"


async def figures(evidence: Evidence) -> Sequence[Figure]:
    """What people were answered, with how much, and what became of the documents."""
    asked = queries(evidence)
    written = [one for one in evidence.history if one.kind == DOCUMENT]
    good = [one for one in asked if served(one)]
    return (
        Figure("answered within 1 s", share_of(len(good), len(asked)), "%", HISTORY, 99.9),
        Figure("degraded, of those", share_of(sum(map(degraded, good)), len(good)), "%", "what the answers say"),
        Figure(
            "documents acknowledged", float(sum(one.outcome is Outcome.OK for one in written)), "documents", HISTORY
        ),
        Figure(
            "documents in doubt", float(sum(one.outcome is Outcome.UNKNOWN for one in written)), "documents", HISTORY
        ),
    )


async def story(evidence: Evidence, key: str) -> Sequence[StoryLine]:
    """What was wrong with the nodes when this query came."""
    own = next((one for one in queries(evidence) if one.key == key), None)
    if own is None:
        return ()
    wrong = [
        f"{fault.kind} {fault.target}"
        for fault in evidence.faults
        if (fault.injected_at or own.intended_at + 1) <= own.intended_at < (fault.healed_at or own.intended_at + 1)
    ]
    lines = [StoryLine(own.intended_at, "client", f"wants to search; wrong right now: {', '.join(wrong) or 'nothing'}")]
    if own.done_at is not None:
        took = own.done_at - own.intended_at
        lines.append(StoryLine(own.done_at, "client", f"{own.status or own.error}, after {took:.2f} s"))
    return lines


def _node_roles() -> dict[str, str]:
    return {f"node{number}": name for number, name in enumerate(NODES, 1)}


LAB = Lab(
    week=7,
    day=5,
    title="Resilience",
    question=(
        "Three nodes hold the index, each document twice. One node is killed, one stands still, one answers late, and then"
        " somebody searches for *a* forty times a second. Of a thousand people who search meanwhile, how many notice?"
    ),
    hypothesis=(
        "The cluster survives the loss of any one node: the copy takes over. But a client with one node's address survives only"
        " what that node survives, and a client without a timeout waits as long as the slowest node likes. With several"
        " addresses, a bound on each try, answers from memory for what cannot be had, and no ear for queries that nobody can"
        " afford, at least 999 of 1000 are answered within a second."
    ),
    explanation=(
        "Replication makes the data survive, and only that. Whether the *answer* survives is decided at the client: it has to"
        " know more than one node, to stop waiting for one that is silent (a paused one keeps its connections and looks"
        " healthy), and to ask another one within the time that its own caller grants. What cannot be had in time is left out,"
        " and the answer says so: first facets, then personal order, then an answer from memory. Expensive queries are refused"
        " before they cost anything: one leading wildcard walks through all terms of a field, on every shard. And a document"
        " counts as written when the engine says so, which it does when the copies have it."
    ),
    variants={
        "naive": Variant(
            role=VariantRole.NAIVE,
            title="one node's address, no timeout, every query goes to the engine",
            roles={"sut": "week07-day5-naive", **_node_roles()},
            processes=("week07-day5-migrate", "week07-day5-naive"),
            edges={"sut.slow": "week07-day5-naive.node1"},
            load_options=("--writes-url", "http://127.0.0.1:${WEEK07_DAY5_NAIVE_PORT}"),
        ),
        "engineered": Variant(
            role=VariantRole.ENGINEERED,
            title="services/search: three addresses, deadlines, a ladder of degrading, refusals with reason",
            roles={"sut": "week07-day5-api", "writer": "week07-day5-writer", **_node_roles()},
            processes=("week07-day5-migrate", "week07-day5-api", "week07-day5-writer"),
            edges={"sut.slow": "week07-day5-api.node3"},
            load_options=("--writes-url", "http://127.0.0.1:${WEEK07_DAY5_WRITER_PORT}"),
        ),
    },
    infrastructure=("postgres", *NODES, "prometheus", "toxiproxy"),
    official_images=NODES,
    documents=Documents(full=20_000, short=5_000),
    prepare=warmed(cloned_catalogue("node2", BUILDERS, replicas=1, kept="c")),
    prepare_seconds=3600,
    load=Load("loadtests/search.py", rate=30, seconds=50, max_in_flight=900, options=("--write-share", "0.15")),
    environment={"SEARCH_CLIENT_HEADER": "X-Client-Id"},
    steady_state=(error_rate(below=0.01), p99(below_ms=1000)),
    faults=(
        at(0, kill("node1", down=5)),
        at(13, pause("node2"), lasting=6),
        at(23, network.latency(edge("sut.slow"), ms=700), lasting=6),
        at(32, storm("sut", WILD, rate=40), lasting=6),
    ),
    short_faults=(
        at(0, kill("node1", down=3)),
        at(5.5, storm("sut", WILD, rate=40), lasting=3),
    ),
    invariants=(ANSWERED, NOTHING_LOST),
    discriminates=Discriminates(ANSWERED, at_least=50),
    story=story,
    figures=figures,
    try_next=(
        "Give the naive program a timeout and nothing else: ClientTimeout(total=1) in naive_search.py. What does it answer then?",
        "Take the copy away: replicas=0 in day5_resilience.py. Which of the four faults does the engineered one survive now?",
        "Pause two nodes at once: at(13, pause('node3')) beside node2. Who decides what is the truth, and what is refused?",
    ),
)
