"""Week 7, day 3: more people search than the engine can serve. How many of them are served?"""

from __future__ import annotations

from collections.abc import Sequence

from labs.engine import (
    Discriminates,
    Evidence,
    Figure,
    Lab,
    Load,
    Metric,
    Scenario,
    StoryLine,
    Variant,
    VariantRole,
    at,
    error_rate,
    p99,
)
from labs.engine.model import Documents
from labs.faults.surge import surge
from labs.invariants.search import (
    degraded,
    goodput_is_kept,
    one_asks_for_all,
    queries,
    served,
    share_of,
    steps_of,
    told,
    took_over,
    who_is_not_served_is_told,
)
from labs.week07.catalogue import cloned_catalogue, swap, warmed

KEPT = goodput_is_kept(0.7)
TOLD = who_is_not_served_is_told(0.95)
BUILDERS = ("catalog-migrate", "catalog-fill", "search-migrate", "search-fill")
HISTORY = "client history, from the intended send time"
IN_FLIGHT = 900
"""Below the 1,024 files that a process may have open here; what is held back beyond it was due and is not served."""
HOT_TEXT = (
    "black steel with case for home office kids women men garden sport"
    " white wood set light travel kitchen large small red blue bag shoes"
)
"""Finds much, so that it costs the engine more than most."""
FROM_MEMORY = frozenset({"hit", "early", "stale"})


async def figures(evidence: Evidence) -> Sequence[Figure]:
    """What was offered and what was served, step by step; what was shed, cached and left out."""
    asked = queries(evidence)
    found = []
    for number, one in enumerate(await took_over(evidence), 1):
        found.append(Figure(f"searches after swap {number}", one.searched, "searches", "the engine's own count"))
    for step in steps_of(evidence):
        found.append(Figure(f"offered, {step.times:g} times", round(step.offered), "queries/s", HISTORY))
        found.append(Figure(f"goodput, {step.times:g} times", round(step.goodput), "queries/s", HISTORY))
    cached = sum(one.result.get("cache") in FROM_MEMORY for one in asked)
    return (
        *found,
        Figure("refused at once", share_of(sum(map(told, asked)), len(asked)), "%", HISTORY),
        Figure("answered from the cache", share_of(cached, len(asked)), "%", "X-Cache of the answers"),
        Figure("degraded", share_of(sum(map(degraded, asked)), len(asked)), "%", "what the answers say"),
    )


async def story(evidence: Evidence, key: str) -> Sequence[StoryLine]:
    """When this query came, what it came to, and how many others were under way."""
    asked = queries(evidence)
    own = next((one for one in asked if one.key == key), None)
    if own is None:
        return ()
    before = [one for one in asked if one.intended_at <= own.intended_at]
    open_then = sum(one.done_at is None or one.done_at > own.intended_at for one in before)
    lines = [StoryLine(own.intended_at, "client", f"wants to search; {open_then - 1} others wait for their answers")]
    if own.done_at is not None:
        what = "too late" if not served(own) else "in time"
        lines.append(StoryLine(own.done_at, "client", f"is told {own.status}: {what}"))
    return lines


HOT = Load(
    "loadtests/search.py",
    rate=600,
    seconds=16,
    max_in_flight=IN_FLIGHT,
    options=("--hot", "0.999", "--hot-text", HOT_TEXT),
)
"""One query that everybody asks, which no memory is asked for before an answer to it is there."""

LAB = Lab(
    week=7,
    day=3,
    title="Query path",
    question=(
        "Forty people search each second, and all is well. Then it is three times, eight times, sixteen times as many, more than the"
        " engine can serve. How many of them get an answer within a second? And when everybody asks the same, and its answer has"
        " just gone from the cache: how often is the engine asked?"
    ),
    hypothesis=(
        "Without limits a queue takes all that the engine cannot serve, so that soon every answer is late, also those that the"
        " engine had the time for: goodput falls to almost nothing just when it is wanted most. With a bound on what is under"
        " way, a deadline, a cache and one question for many who ask the same, goodput stays where it was at its best, and"
        " everybody else is told at once. A cache alone makes a new peak: when an index takes over, all who ask before the first"
        " answer is back ask the engine, and make one another wait."
    ),
    explanation=(
        "Past the knee something has to go without an answer; the design only chooses what. The naive program chooses everybody:"
        " it passes each query on, the engine works through a queue that nobody waits for any more, and each answer arrives"
        " after its asker has left. The engineered one lets in what it can serve within the deadline and refuses the rest at"
        " once, which costs almost nothing. Because people ask the same things (Zipf), most of what it serves never reaches the"
        " engine; and of those who miss the same thing together, one asks for all."
    ),
    variants={
        "naive": Variant(
            role=VariantRole.NAIVE,
            title="each query goes to the engine: no cache, no limit, no deadline",
            roles={"sut": "week07-day3-naive", "engine": "search-engine"},
            processes=("search-migrate", "week07-day3-naive"),
        ),
        "cached": Variant(
            role=VariantRole.NAIVE,
            title="the same with a cache: whoever misses asks the engine, and keeps the answer for a minute",
            roles={"sut": "week07-day3-cached", "engine": "search-engine"},
            processes=("search-migrate", "week07-day3-cached"),
        ),
        "engineered": Variant(
            role=VariantRole.ENGINEERED,
            title="services/search: cache by index, coalescing, slots, deadlines, a ladder of degrading",
            roles={"sut": "search-api", "engine": "search-engine"},
            processes=("search-migrate", "search-api"),
        ),
    },
    infrastructure=("postgres", "search-engine", "prometheus", "toxiproxy"),
    documents=Documents(full=50_000, short=10_000),
    prepare=warmed(cloned_catalogue("engine", BUILDERS)),
    prepare_seconds=3600,
    environment={"SEARCH_CLIENT_HEADER": "X-Client-Id"},
    share_processes=True,
    load=Load("loadtests/search.py", rate=40, seconds=30, max_in_flight=IN_FLIGHT, grows=True),
    steady_state=(error_rate(below=0.01), p99(below_ms=800)),
    invariants=(KEPT, TOLD),
    discriminates=Discriminates(KEPT, at_least=100),
    acknowledged_at_least=0,
    scenarios=(
        Scenario(
            name="steps",
            variants=("naive", "engineered"),
            faults=(
                at(0, surge("sut", times=3), lasting=5),
                at(6, surge("sut", times=8), lasting=5),
                at(12, surge("sut", times=16), lasting=6),
            ),
            short_faults=(at(0, surge("sut", times=3), lasting=3), at(4, surge("sut", times=16), lasting=5)),
        ),
        Scenario(
            name="stampede",
            variants=("cached", "engineered"),
            load=HOT,
            faults=(
                at(0.5, swap("engine"), lasting=2.5),
                at(4, swap("engine"), lasting=2.5),
                at(7.5, swap("engine"), lasting=2.5),
            ),
            invariants=(one_asks_for_all, TOLD),
            discriminates=Discriminates(one_asks_for_all, at_least=10),
            in_short=False,
        ),
    ),
    story=story,
    figures=figures,
    metrics=(Metric("shed", "sum(search_requests_shed_total)", "requests"),),
    try_next=(
        "Give the naive program a limit and nothing else: TCPConnector(limit=16) in naive_search.py. Does its goodput survive? Why not?",
        'Take the popular queries away: options=("--skew", "0") in the Load of day3_query_path.py. What is left of the cache and the knee?',
        "Let one client ask for everything: leave SEARCH_CLIENT_HEADER out. Who is refused now, and is that fair?",
    ),
)
