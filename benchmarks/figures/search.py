"""Search: figures and aims."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from benchmarks.rows import NONE, Aim, Figures, Row, Shall, Unit, beside, each, one, several

P99_MS = 200.0
SUGGEST_RATE = 50.0
POPULAR_RATE = 1000.0
CHANGES = (200.0, 500.0)
COURSE_DOCS, COURSE_RATE = 10_000_000, 1_000.0
SLOPE_FROM = 1_000_000
"""Documents from which an engine's CPU per query is a slope; below, what each query costs anyway would be taken for one."""
POPULAR_AT = 1_000_000
"""Documents of which the popular mix is demanded."""
POPULAR_QUERIES, REMEMBERED_SECONDS = 4_800, 60.0
"""Different ones in loadtests/queries.txt, the n-th of which is asked n times more seldom than the first; the API's default."""
KEPT_UP = 0.99
"""Share of the popular mix that must be answered with everything for its CPU to be what it takes."""
MOST_LEFT_OUT = 0.1
"""Parts of an answer; beyond that, that there was one says little."""
MADE = 0.95
"""Share of a rate of changes that must have been made for freshness at that rate to be known."""

OF_RAW = Aim(
    Shall.BE_AT_LEAST, 0.6, Unit.RATIO, of_limit=True,
    limit="The engine's figure is of one search per query, with the body that gave the answer. On the same two cores the service parses, asks, renders and keeps deadlines, and searches "
    "a second time where what was typed finds too little exactly; the rows of searches and of CPU say what that adds. Asking for both at once (`_msearch`) would save a round trip for those queries and cost "
    "all the others the dear search, which is the larger sum.",
)  # fmt: skip
POPULAR = Aim(
    Shall.BE_AT_LEAST, 0.99, Unit.RATIO, of_limit=True,
    limit="Generator and API take more than a core of the two at this rate; what the cache does not answer costs the engine several milliseconds of CPU each.",
)  # fmt: skip
POPULAR_P99 = Aim(
    Shall.BE_BELOW, P99_MS, Unit.MILLISECONDS,
    limit="Answers wait for a core: generator, API and engine share two, and past saturation an open model counts the queue.",
)  # fmt: skip
SUGGEST_P99 = Aim(
    Shall.BE_BELOW, 50, Unit.MILLISECONDS, limit="Two small searches for each letter, and one with typos where they find too little."
)  # fmt: skip
FRESHNESS = Aim(
    Shall.BE_BELOW, 5, Unit.SECONDS,
    limit="Between commit and search lie the connector's poll, the broker, a SELECT, a bulk request and the engine's refresh of one second.",
)  # fmt: skip


def expected_misses(rate: float) -> float:
    """Share of the popular mix that a cache in use lacks at `rate` queries/s, if every answer is made at once.

    An entry lives for REMEMBERED_SECONDS and is made anew by the next who asks, 1/λ later: a miss each T + 1/λ seconds
    (Jung, Berger, Balakrishnan: Modeling TTL-based Internet Caches, 2003). That some are made anew a little early is left out.
    """
    total = sum(1 / place for place in range(1, POPULAR_QUERIES + 1))
    between = (total * place / rate for place in range(1, POPULAR_QUERIES + 1))
    return sum(1 / (REMEMBERED_SECONDS + each) for each in between) / rate


class SearchFigures(Figures):
    """Rates are per second, in an open model: latency counts from the intended send time."""

    LIMIT: ClassVar[str] = (
        "The raw engine gets, for each of thousands of different queries, the body with which the service got its answer: the highest rate of a ladder at which p99 stays "
        f"below {P99_MS:.0f} ms, in turn with the service's. Generator, API and engine share the cores."
    )

    docs: int
    bulk_per_second: float = 0.0
    bytes_per_document: float = 0.0
    raw_per_second: list[float] = msgspec.field(default_factory=list)
    api_per_second: list[float] = msgspec.field(default_factory=list)
    searches_per_query: float | None = None
    engine_cpu_ms_per_query: float = 0.0
    service_cpu_ms_per_query: dict[str, float] = msgspec.field(default_factory=dict)
    popular_offered: float = 0.0
    popular_ok_per_second: float = 0.0
    popular_p99_ms: float = 0.0
    popular_hits_share: float = 0.0
    popular_left_out: float | None = None
    """Of an answer: facets, personal order, freshness, or the search itself in favour of what is popular. One answer may lack several."""
    popular_engine_cores: float | None = None
    suggest_p99_ms: float = 0.0
    freshness_p99_seconds: dict[str, float] = msgspec.field(default_factory=dict)
    changes_per_second: dict[str, float] = msgspec.field(default_factory=dict)
    memory_mib: dict[str, float] = msgspec.field(default_factory=dict)

    def title(self) -> str:
        """See Figures."""
        return "queries beside the raw engine; suggestions, indexing, freshness"

    def rows(self) -> list[Row]:
        """See Figures."""
        return [
            beside(
                f"queries, none remembered, p99 < {P99_MS:.0f} ms", self.api_per_second, self.raw_per_second, "raw engine",
                Unit.PER_SECOND, OF_RAW, headline=True,
            ),
            one("searches in the engine for such a query", self.searches_per_query, Unit.RATIO),
            self._cpu(),
            *self._popular(),
            one("popular mix, from the cache (75 to 90 % are needed)", self.popular_hits_share, Unit.SHARE),
            one("popular mix, parts left out of an answer (facets, freshness, the search itself)", self.popular_left_out, Unit.RATIO),
            one(f"suggestions at {SUGGEST_RATE:.0f}/s, p99", self.suggest_p99_ms or None, Unit.MILLISECONDS, SUGGEST_P99),
            one("indexed in bulk, documents", self.bulk_per_second, Unit.PER_SECOND),
            one("index, per document", self.bytes_per_document, Unit.BYTES),
            *(self._fresh(rate) for rate in CHANGES),
            several("memory", self.memory_mib, Unit.MEBIBYTES),
        ]  # fmt: skip

    def sums(self) -> list[str]:
        """See Figures."""
        cores = self.cores_for_the_course()
        asked = f"The course asks for {COURSE_DOCS:,} documents at {COURSE_RATE:,.0f} queries/s."
        if cores is None:
            return [
                f"{asked} What that takes is printed from {SLOPE_FROM:,} documents on: `make bench system=search docs={SLOPE_FROM}`."
            ]
        if self._kept_up:
            mix = f"The popular mix kept {self.popular_engine_cores:.2f} cores of engine busy at {POPULAR_RATE:,.0f}/s of {self.docs:,} documents; the cache answered {self.popular_hits_share:.0%}."
            total = f"In proportion to the documents that is {cores:.1f} cores of {COURSE_DOCS:,}, API and generator not counted: an upper bound, as most queries touch less than the whole index."
            return [f"{asked} {mix} {total}"]
        one, missed = self._engine_cpu_of_an_answer, expected_misses(COURSE_RATE)
        per_query = one * COURSE_DOCS / self.docs
        slope = "" if self.docs == COURSE_DOCS else f" with {self.docs:,} documents, in proportion {per_query:.1f} ms"
        cost = f"An answer that is not remembered costs the engine {one:.2f} ms of CPU{slope}, facets not counted."
        cache = f"An engine that keeps up is asked by {missed:.1%} of the popular mix: {POPULAR_QUERIES:,} queries by Zipf's law, each remembered for {REMEMBERED_SECONDS:.0f} s."
        total = f"So it takes {per_query / 1000:.4f} s × {COURSE_RATE:,.0f}/s × {missed:.3f} = {cores:.1f} cores of engine, API and generator not counted."
        return [f"{asked} {cost} {cache} {total}"]

    def cores_for_the_course(self) -> float | None:
        """Cores of engine for COURSE_DOCS at COURSE_RATE, in proportion to the documents: what the popular mix took if it was
        answered in full, else the CPU of an answer that is not remembered, for those that a cache lacks whose engine keeps up (the
        hits of one that does not are of another experiment). None for a catalogue below SLOPE_FROM."""
        if self.docs < SLOPE_FROM:
            return None
        if self._kept_up and self.popular_engine_cores is not None:
            return round(self.popular_engine_cores * COURSE_DOCS / self.docs * COURSE_RATE / POPULAR_RATE, 1)
        per_query = self._engine_cpu_of_an_answer / 1000 * COURSE_DOCS / self.docs
        return round(per_query * COURSE_RATE * expected_misses(COURSE_RATE), 1)

    @property
    def _kept_up(self) -> bool:
        """Whether the popular mix was answered, and in full: what a saturated engine used is not what it would have taken."""
        answered = self.popular_ok_per_second >= KEPT_UP * self.popular_offered > 0
        return answered and self.popular_engine_cores is not None and (self.popular_left_out or 0) <= 1 - KEPT_UP

    @property
    def _engine_cpu_of_an_answer(self) -> float:
        """Milliseconds, second searches included."""
        return self.service_cpu_ms_per_query.get("search-engine", self.engine_cpu_ms_per_query)

    def _cpu(self) -> Row:
        """Whoever misses the ratio sees here by how much of what."""
        total = sum(self.service_cpu_ms_per_query.values())
        parts = each(self.service_cpu_ms_per_query, Unit.CPU_MILLISECONDS)
        shown = f"{Unit.CPU_MILLISECONDS.of(total)} ({parts})" if total else NONE
        limit = f"{Unit.CPU_MILLISECONDS.of(self.engine_cpu_ms_per_query)} raw engine"
        ratio = total / self.engine_cpu_ms_per_query if self.engine_cpu_ms_per_query else None
        return Row("CPU of such a query", shown, total or None, limit, ratio)

    def _popular(self) -> list[Row]:
        small = f"asked of {POPULAR_AT:,} documents" if self.docs < POPULAR_AT else ""
        thin = "answered with less than everything, see below" if (self.popular_left_out or 0) > MOST_LEFT_OUT else ""
        offered = [self.popular_offered] if self.popular_offered else []
        return [
            beside(
                f"popular mix at {POPULAR_RATE:,.0f}/s, answered", [self.popular_ok_per_second] if offered else [], offered, "asked",
                Unit.PER_SECOND, POPULAR, cannot_tell=small or thin,
            ),
            one("popular mix, p99", self.popular_p99_ms or None, Unit.MILLISECONDS, POPULAR_P99, cannot_tell=small),
        ]  # fmt: skip

    def _fresh(self, rate: float) -> Row:
        name = f"{rate:.0f}"
        made, value = self.changes_per_second.get(name, 0.0), self.freshness_p99_seconds.get(name)
        few = "" if made >= MADE * rate else f"only {made:,.0f} changes/s were made"
        figure = f"from commit to found at {name} changes/s, p99 at most"
        return one(figure, value, Unit.SECONDS, FRESHNESS, cannot_tell=few)
