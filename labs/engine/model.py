"""What a lab is made of: the words in which a day's module and its invariants are written.

Times are seconds. In evidence and in every file of a run they count on the monotonic clock from the start of the run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable

import aiohttp

from infra.runtime import Edge, Runtime

SEARCH_ENGINE = "search-engine"
"""The compose service of the search engine with one node."""

Json = str | int | float | bool | None | Sequence["Json"] | Mapping[str, "Json"]


class VariantRole(StrEnum):
    """`compared` variants are measured and shown beside the others and decide nothing."""

    NAIVE = "naive"
    ENGINEERED = "engineered"
    COMPARED = "compared"


class Outcome(StrEnum):
    """What the client knows: it saw the effect acknowledged, it was told of failure, or neither."""

    OK = "ok"
    FAIL = "fail"
    UNKNOWN = "unknown"


class Status(StrEnum):
    """What a checker says of one invariant."""

    HELD = "held"
    BROKEN = "broken"
    UNKNOWN = "unknown"
    NOT_APPLICABLE = "not_applicable"


class Verdict(StrEnum):
    """`fail` outranks `unknown` outranks `pass`."""

    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    UNKNOWN = "unknown"


class Phase(StrEnum):
    """Steps of one trial, in order."""

    PREFLIGHT = "preflight"
    CONTROL = "control"
    BASELINE = "baseline"
    INJECT = "inject"
    HOLD = "hold"
    HEAL = "heal"
    SETTLE = "settle"
    RECONCILE = "reconcile"
    VERDICT = "verdict"


class NotApplicableError(Exception):
    """The question makes no sense here: the variant lacks a table or a topic. Raised by Evidence or by an invariant."""


class EvidenceError(Exception):
    """A store could not be read. Whatever asked for it ends as unknown."""


class HealFailedError(Exception):
    """A fault could not be taken back, or its removal could not be verified. Says what is still broken."""


class PrepareFailedError(Exception):
    """A lab's own set-up step could not be made or verified. The trial is unknown."""


class InjectFailedError(Exception):
    """A fault could not be applied. The trial is unknown."""


# --- evidence -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Operation:
    """One line of the client's own history.

    `intended_at` is when the schedule wanted it sent; latency counts from there. `phase` is that of `intended_at`, and
    operations of the control run are in the history too, as phase `control`. `key` is what the client calls the
    operation (a payment's merchant reference). `result` is what the client was shown ({"payment": "pay_...", ...}).
    """

    id: str
    key: str
    kind: str
    phase: Phase
    intended_at: float
    sent_at: float | None
    done_at: float | None
    attempts: int
    status: int | None
    outcome: Outcome
    error: str | None
    result: Mapping[str, str]

    @property
    def latency(self) -> float | None:
        """Seconds from the intended send to the end; None while it was still in flight when the load ended."""
        return None if self.done_at is None else self.done_at - self.intended_at


@dataclass(frozen=True, slots=True)
class TopicRecord:
    """A Kafka record. Header values are decoded as UTF-8; `value` is the raw body."""

    topic: str
    partition: int
    offset: int
    key: str | None
    headers: Mapping[str, str]
    value: bytes
    at: float


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that a fault touched real traffic. Without `proven` the trial is unknown, never pass."""

    proven: bool
    summary: str
    facts: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FaultRecord:
    """One fault as it happened. Times are None for a step that was not reached. `error` is from inject or heal."""

    kind: str
    role: str
    target: str
    parameters: Mapping[str, Json]
    planned_at: float
    injected_at: float | None
    healed_at: float | None
    receipt: Receipt | None
    error: str | None

    @property
    def begun_at(self) -> float | None:
        """From when on it may be felt: a command counts as injected when it is done. None if it was not reached."""
        return None if self.injected_at is None else min(self.planned_at, self.injected_at)


class Row(Protocol):
    """A row of a query, by column name or position."""

    def __getitem__(self, key: str | int, /) -> object: ...


class Evidence(Protocol):
    """All that an invariant may look at. Read-only; read after settle, when the load has ended."""

    @property
    def scenario(self) -> str: ...

    @property
    def variant_name(self) -> str: ...

    @property
    def variant(self) -> Variant: ...

    @property
    def history(self) -> tuple[Operation, ...]:
        """Every operation of this scenario and of the control before it, by intended time.

        These are all that the databases ever saw, unless scenarios share processes: then the stores hold the operations of
        the scenarios before as well, and `window` says which stretch of time is this one's.
        """
        ...

    @property
    def window(self) -> tuple[float, float]:
        """From the start of this scenario's baseline (before it: of the trial) to now; seconds of the run."""
        ...

    @property
    def faults(self) -> tuple[FaultRecord, ...]: ...

    async def sql(self, database: str, query: str, *args: object) -> Sequence[Row]:
        """Rows of a query ($1, $2 ... are arguments) in `payments`, `bank` ...: the prefix of the run is added here.

        Raises NotApplicableError if the database, a table or a column does not exist; EvidenceError otherwise.
        """
        ...

    async def topic(self, name: str) -> tuple[TopicRecord, ...]:
        """All committed records of a topic (name without prefix) up to its present end, by partition and offset.

        Raises NotApplicableError if there is no such topic.
        """
        ...

    async def metric(self, promql: str) -> float | None:
        """The value now of a query that gives one number; None if Prometheus has no such series."""
        ...

    async def engine(
        self, path: str, body: Mapping[str, Json] | None = None, *, nodes: Sequence[str] = (SEARCH_ENGINE,)
    ) -> Json:
        """What the search engine answers: POST with a body, GET without. `{prefix}` in the path is that of the run.

        `nodes` are compose services, of which the first that answers is believed. Raises NotApplicableError for 404,
        EvidenceError for any other refusal and where nobody answers.
        """
        ...

    def since_start(self, moment: datetime) -> float:
        """A store's wall-clock time (with its zone) as seconds from the start of the run."""
        ...

    def moment(self, at: float) -> datetime:
        """Seconds from the start of the run as a store's wall-clock time: the other way round, for query arguments."""
        ...


# --- judging --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Finding:
    """What an invariant found. `count` counts all offenders, `offenders` names them (ten are kept)."""

    status: Status
    offenders: tuple[str, ...] = ()
    count: int = 0
    note: str = ""

    @classmethod
    def of(cls, offenders: Sequence[str], note: str = "") -> Finding:
        """Broken if there is any offender, held otherwise."""
        found = tuple(offenders)
        return cls(Status.BROKEN if found else Status.HELD, found, len(found), note)

    @classmethod
    def unknown(cls, note: str) -> Finding:
        """The evidence does not suffice, and why."""
        return cls(Status.UNKNOWN, note=note)

    @classmethod
    def not_applicable(cls, note: str) -> Finding:
        """The variant lacks what this invariant speaks of."""
        return cls(Status.NOT_APPLICABLE, note=note)


class Invariant(Protocol):
    """An async function of the evidence.

    Its name is the invariant's name; the first line of its docstring says what must hold.
    """

    __name__: str

    def __call__(self, evidence: Evidence, /) -> Awaitable[Finding]: ...


@dataclass(frozen=True, slots=True)
class Figure:
    """A number that the lab shows for a variant: it explains, an invariant judges.

    `source` says where it was read. `limit` is shown beside it, None where the lab promises nothing about it. `value` is
    None where the evidence has none.
    """

    name: str
    value: float | None
    unit: str
    source: str
    limit: float | None = None


Figures = Callable[[Evidence], Awaitable[Sequence[Figure]]]
"""The figures of one variant in one scenario, read when the invariants are."""


@dataclass(frozen=True, slots=True)
class Discriminates:
    """The naive variant must break just this, with at least so many offenders; the engineered one must hold all."""

    invariant: Invariant
    at_least: int = 1


@dataclass(frozen=True, slots=True)
class StoryLine:
    """One step of what happened to an offender. `who` is a column: client, bank ..."""

    at: float
    who: str
    what: str


Story = Callable[[Evidence, str], Awaitable[Sequence[StoryLine]]]
"""What happened to one offender, from the stores; the engine merges the client's own history and the faults into it."""

Found = Callable[[Evidence], Awaitable[Mapping[str, int]]]
"""How many effects the stores and simulators hold for each operation key (a payment: charges not refunded)."""


@dataclass(frozen=True, slots=True)
class Settled:
    """Recovery, probed after the last heal for at most `within` s.

    `probe` returns "" when settled, else what is still open.
    """

    name: str
    probe: Callable[[Evidence], Awaitable[str]]
    within: float


@dataclass(frozen=True, slots=True)
class Window:
    """The operations whose intended time lies in a stretch of the run, and how long it is."""

    seconds: float
    operations: tuple[Operation, ...]


@dataclass(frozen=True, slots=True)
class Probe:
    """A measured steady-state figure beside its limit. `source` says where the figure comes from."""

    name: str
    ok: bool
    value: float | None
    limit: float
    unit: str
    source: str


class SteadyState(Protocol):
    """A predicate over a window of the client's history; see labs.engine.steady for error_rate, p99, throughput."""

    def check(self, window: Window) -> Probe: ...


# --- faults ---------------------------------------------------------------------------------------------------------


class FaultContext(Protocol):
    """What a fault may touch: one variant's processes, by role, through the runtime."""

    @property
    def runtime(self) -> Runtime: ...

    @property
    def session(self) -> aiohttp.ClientSession: ...

    @property
    def seed(self) -> int:
        """The run's, for a fault that draws whom it hits."""
        ...

    def service(self, role: str) -> str:
        """The compose service that plays a role in this variant.

        A role of `Variant.resolvers` is played by whom its resolver named when the fault was injected.
        """
        ...

    def url(self, role: str) -> str:
        """http://host:port of the process that plays a role (not through a proxy)."""
        ...

    def edge(self, name: str) -> Edge:
        """The proxied link of this variant that the lab calls `name` ("sut.bank")."""
        ...

    def toxiproxy(self) -> str:
        """http://host:port of Toxiproxy's API."""
        ...

    def now(self) -> float:
        """Seconds from the start of the run."""
        ...


@runtime_checkable
class KnowsVariables(Protocol):
    """A FaultContext that knows what its variant's processes were started with."""

    @property
    def variables(self) -> Mapping[str, str]:
        """Of the compose file, over its defaults: LAB_PREFIX, CATALOG_PRODUCTS ..."""
        ...


@runtime_checkable
class OffersLoad(Protocol):
    """A FaultContext whose load can be multiplied."""

    def offer(self, times: float) -> None:
        """From now on so many times the load's rate. Raises InjectFailedError for a load that does not grow."""
        ...


Resolver = Callable[[FaultContext], Awaitable[str]]
"""The service that plays a role right now. Raises InjectFailedError if nobody does."""

Prepare = Callable[[FaultContext], Awaitable[str]]
"""Set up, verify, say what is there. Raises PrepareFailedError; RuntimeProblem, aiohttp.ClientError, TimeoutError are told."""


@runtime_checkable
class Fault(Protocol):
    """Something that goes wrong for a while.

    The engine calls inject, waits until the fault's time is over, calls receipt, then heal. After an interruption or a
    failed inject it calls heal alone, so heal must not need what inject learnt.
    """

    @property
    def kind(self) -> str: ...

    @property
    def role(self) -> str:
        """The role or edge that is hit, as the lab names it."""
        ...

    @property
    def lasting(self) -> float:
        """Seconds from the end of inject to heal, unless `at(..., lasting=)` says otherwise."""
        ...

    @property
    def heals_first(self) -> bool:
        """True for what freezes processes: nothing else can be healed before."""
        ...

    def parameters(self) -> Mapping[str, Json]: ...

    def target(self, ctx: FaultContext) -> str:
        """The service or proxy that is hit in this variant."""
        ...

    async def inject(self, ctx: FaultContext) -> object:
        """Apply the fault; return what `receipt` needs. Raises InjectFailedError or RuntimeProblem."""
        ...

    async def receipt(self, ctx: FaultContext, handle: object) -> Receipt:
        """Proof of what was touched since inject. Called while the fault still lasts."""
        ...

    async def heal(self, ctx: FaultContext) -> None:
        """Take it back and verify. Idempotent, harmless if inject never ran.

        Raises HealFailedError or RuntimeProblem.
        """
        ...


@dataclass(frozen=True, slots=True)
class ScheduledFault:
    """A fault with its time: `at` seconds after the start of inject, for `lasting` seconds."""

    at: float
    fault: Fault
    lasting: float


def at(seconds: float, fault: Fault, *, lasting: float | None = None) -> ScheduledFault:
    """Schedule a fault, counted from the start of inject. Times are those of a full run; shorter runs scale them."""
    duration = fault.lasting if lasting is None else lasting
    if seconds < 0 or duration < 0:
        raise ValueError("a fault's time and duration are at least 0 s")
    return ScheduledFault(seconds, fault, duration)


# --- the experiment ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way of building the system.

    `roles` binds the lab's role names to compose services, `edges` its link names to proxies ("sut.bank" ->
    "payments.bank"). `processes` are the services that this variant starts afresh with its own databases and topics,
    one-shots too; infrastructure is not among them. The load is sent to the role `target`. A variant `on_request` runs
    only when it is named (`variant=yours`).

    `environment` are variables of the compose file, over those of the lab; `load_options` are added to the load's: a naive
    client beside a careful one. `hold` is how long, in seconds, the load stays on after the heal at least (`short_hold` in a
    short run; None scales `hold`). `resolvers` find out at inject who plays a role then: "leader". `in_short` is False for
    what a short run leaves out.
    """

    role: VariantRole
    roles: Mapping[str, str]
    processes: tuple[str, ...]
    edges: Mapping[str, str] = field(default_factory=dict)
    target: str = "sut"
    title: str = ""
    on_request: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    load_options: tuple[str, ...] = ()
    hold: float | None = None
    short_hold: float | None = None
    resolvers: Mapping[str, Resolver] = field(default_factory=dict)
    in_short: bool = True

    def __post_init__(self) -> None:
        """Raises ValueError for a hold below 0 s and for a role that is both bound and resolved."""
        if min(self.hold or 0.0, self.short_hold or 0.0) < 0:
            raise ValueError("a hold is at least 0 s")
        if twice := set(self.roles) & set(self.resolvers):
            raise ValueError(f"bound and resolved at once: {', '.join(sorted(twice))}")


@dataclass(frozen=True, slots=True)
class Load:
    """A Locust file, started as `python -m locust -f script --headless --rate ... --seed ...`.

    `rate` is operations per second; with `grows` a fault may multiply it (labs.faults.surge). `seconds` is the load of a
    full run in all: the baseline and the inject phase.
    `${NAME}` in an option stands for a variable of the compose file, as the runtime sees it (hosts differ between runtimes).
    """

    script: str
    rate: float
    seconds: float = 60.0
    max_in_flight: int = 500
    options: tuple[str, ...] = ()
    grows: bool = False


NO_LOAD = Load("", rate=0.0)
"""Of a lab that compares."""


@dataclass(frozen=True, slots=True)
class Round:
    """What a comparison is asked for: the questions of one variant. `docs` is what `docs=` said, None where it said nothing.

    `prefix` begins the names of all databases and indices that are made for it; they are dropped in the end. `note` shows
    a few words on the live line.
    """

    variant: str
    prefix: str
    control: bool
    short: bool
    seed: int
    docs: int | None
    note: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Answered:
    """A question and what became of it. `key` names it, `kind` says what sort of question it is; times as FaultContext.now()."""

    key: str
    kind: str
    asked_at: float
    done_at: float | None
    outcome: Outcome = Outcome.OK
    error: str | None = None
    result: Mapping[str, str] = field(default_factory=dict)


Ask = Callable[[FaultContext, Round], Awaitable[Sequence[Answered]]]
"""Sets up what the variant needs and asks it everything. Raises OSError, TimeoutError, aiohttp.ClientError, RuntimeProblem."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Questions instead of load and faults. Seconds are what a round of one variant is expected to take, set-up included."""

    ask: Ask
    seconds: float
    short_seconds: float


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure from Prometheus that the verdict keeps, with its query as source."""

    name: str
    promql: str
    unit: str


@dataclass(frozen=True, slots=True)
class Documents:
    """How large the catalogue is in a full and in a short run, where `docs=` says nothing; processes see CATALOG_PRODUCTS."""

    full: int
    short: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A set of faults under which all variants are tried. What is None is the lab's.

    A short run injects `short_faults`, at the times as they stand; without them it scales the times of `faults`, which
    is too dense where a process needs longer to start than its fault's scaled time.

    `variants` names those that are tried here (None: all), `broken_by` those naive ones that must break the claim here
    (None: all); another naive variant is only compared here. `in_short` is False for what a short run leaves out.
    """

    name: str
    faults: tuple[ScheduledFault, ...]
    short_faults: tuple[ScheduledFault, ...] | None = None
    load: Load | None = None
    steady_state: tuple[SteadyState, ...] | None = None
    settled: tuple[Settled, ...] | None = None
    invariants: tuple[Invariant, ...] | None = None
    discriminates: Discriminates | None = None
    variants: tuple[str, ...] | None = None
    broken_by: tuple[str, ...] | None = None
    acknowledged_at_least: float | None = None
    baseline_seconds: float | None = None
    in_short: bool = True

    def tries(self, variant: str) -> bool:
        """Whether a variant is tried here."""
        return self.variants is None or variant in self.variants

    def decides_on(self, naive: str) -> bool:
        """Whether a naive variant must break the claim here."""
        return self.tries(naive) and (self.broken_by is None or naive in self.broken_by)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """A day of the course: a claim, the ways to build it, and what goes wrong.

    Give either `faults` (one scenario, called "main") or `scenarios`. `explanation` is shown beside prediction and
    observation. `found` feeds reconcile; `story` tells one offender step by step; `figures` are shown beside the findings.

    `prepare` runs once the processes are up and before any load: it sets up what the experiment takes for granted (a
    simulator's capacity, a thousand endpoints), verifies it and says in a sentence what is there, within
    `prepare_seconds`. It counts as neither fault nor load. `environment` are variables of the compose file for all variants
    and the infrastructure.

    A lab that compares has a `comparison` and neither load, steady state nor faults; see labs.engine.comparing.

    With `share_processes` a variant is started once for all its scenarios, with one control: they share its databases, so
    invariants must blame a scenario's own operations only (see Evidence.history).

    `acknowledged_at_least` is the share of operations due while the faults last that must be acknowledged for a variant to
    have shown that it keeps its word; below it the trial is unknown. 0 is for a lab whose claim is not about what was
    acknowledged then (a bank that answers nobody).

    `official_images` are services whose Docker images must be the official ones: where one is a stand-in (an image of the
    same name that is another build, and says so in its label `lab.standin`) the day is reported as skipped.
    """

    week: int
    day: int
    title: str
    question: str
    hypothesis: str
    explanation: str
    variants: Mapping[str, Variant]
    invariants: tuple[Invariant, ...]
    discriminates: Discriminates
    load: Load = NO_LOAD
    steady_state: tuple[SteadyState, ...] = ()
    comparison: Comparison | None = None
    faults: tuple[ScheduledFault, ...] = ()
    short_faults: tuple[ScheduledFault, ...] | None = None
    scenarios: tuple[Scenario, ...] = ()
    settled: tuple[Settled, ...] = ()
    infrastructure: tuple[str, ...] = ("postgres", "kafka", "prometheus", "toxiproxy")
    found: Found | None = None
    story: Story | None = None
    metrics: tuple[Metric, ...] = ()
    control_load: Load | None = None
    try_next: tuple[str, ...] = ()
    figures: Figures | None = None
    prepare: Prepare | None = None
    prepare_seconds: float = 90.0
    documents: Documents | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    share_processes: bool = False
    acknowledged_at_least: float = 0.1
    baseline_seconds: float | None = None
    official_images: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError for a scenario that names a variant which is not there, or a naive one that decides nowhere,
        and for a lab that has neither a load nor a comparison, or both.
        """
        if (self.load is NO_LOAD) is (self.comparison is None):
            raise ValueError(f"{self.name} has either a load or a comparison")
        if self.comparison is not None and (self.faults or self.scenarios):
            raise ValueError(f"{self.name} compares: it has no faults and no scenarios")
        scenarios = self.all_scenarios()
        for scenario in scenarios:
            if unknown := {*(scenario.variants or ()), *(scenario.broken_by or ())} - set(self.variants):
                raise ValueError(f"scenario {scenario.name} names no variant of this lab: {', '.join(sorted(unknown))}")
        for name, variant in self.variants.items():
            if variant.role is VariantRole.NAIVE and not any(one.decides_on(name) for one in scenarios):
                raise ValueError(f"naive variant {name} must break the claim in no scenario; let it be `compared`")

    @property
    def name(self) -> str:
        """`week02-day2`."""
        return f"week{self.week:02d}-day{self.day}"

    def all_scenarios(self) -> tuple[Scenario, ...]:
        """The scenarios, or the one made of `faults`."""
        return self.scenarios or (Scenario(name="main", faults=self.faults, short_faults=self.short_faults),)
