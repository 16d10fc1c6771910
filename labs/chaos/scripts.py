"""The chaos scripts: what each does, what it teaches, whom it may hit, and the fault of `labs.faults` that does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.runtime import Runtime, RuntimeProblem
from labs.chaos import evidence
from labs.chaos.arguments import DEFAULT_SECONDS, Option, nearest
from labs.chaos.context import ByHand
from labs.chaos.evidence import Look
from labs.engine.model import Fault
from labs.faults import clock
from labs.faults.full_disk import full_disk
from labs.faults.isolation import isolation
from labs.faults.leave import leave
from labs.faults.loss import HEAVIEST_PERCENT, loss
from labs.faults.network import EdgeName, Link
from labs.faults.process import kill, pause

SERVICE, EDGE, EDGE_OR_SERVICE, VOLUME = "service", "edge", "edge or service", "volume"
NATIVE, DOCKER = "native", "docker"
SAMPLE_SECONDS = 0.25
"""A fault by hand may last an hour, and each look reads all sockets of the machine."""
SMALL_VOLUMES = ("redis", "kafka", "prometheus")
"""Those whose data fit a small disk; a Postgres cluster does not."""

Options = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Script:
    """`receipt_after`: seconds after inject at which the proof is complete, None for only at the end.

    `look` asks over the link before and during. `measures`: there is more to tell at the end.
    """

    name: str
    target_kind: str
    does: str
    teaches: str
    targets: Callable[[ByHand], Sequence[str]]
    build: Callable[[ByHand, str, Options], Fault]
    options: tuple[Option, ...] = ()
    runtimes: tuple[str, ...] = (NATIVE, DOCKER)
    seconds: float = DEFAULT_SECONDS
    receipt_after: float | None = 0.0
    look: Callable[[Options], Look] | None = None
    measures: bool = False
    first: bool = False

    def target(self, ctx: ByHand, asked: str) -> str:
        """One that may be hit now. Raises RuntimeProblem with those that may."""
        known = list(self.targets(ctx))
        if not known:
            raise RuntimeProblem(_nobody(self, ctx))
        if not asked:
            raise RuntimeProblem(
                f"Say which {self.target_kind}: make chaos do={self.name} target=NAME; {', '.join(known)}."
            )
        return nearest(self.target_kind, asked, known, plural=_hint(self, ctx, asked))


def _nobody(script: Script, ctx: ByHand) -> str:
    if script.target_kind in (EDGE, EDGE_OR_SERVICE) and ctx.services("running"):
        return (
            "The clients go to their servers directly, so no link can be disturbed; 'make down', then 'make up' without"
            " edges=0 puts Toxiproxy between."
        )
    return f"Nothing runs that do={script.name} could hit; 'make up' starts the stack."


def _hint(script: Script, ctx: ByHand, asked: str) -> str:
    if script.target_kind == EDGE and asked in ctx.services("running", "paused"):
        near = [name for name in script.targets(ctx) if asked.startswith(name.split(".")[0]) or name.endswith(asked)]
        return f" '{asked}' is a service, and {script.name} hits a link of it: {', '.join(near) or 'it has none'}."
    if (
        script.target_kind == EDGE_OR_SERVICE
        and ctx.runtime.name != DOCKER
        and asked in ctx.services("running", "paused")
    ):
        return (
            f" Without Docker all services share this machine's network, so '{asked}' cannot be cut off but at a link."
        )
    return ""


def _running(ctx: ByHand) -> list[str]:
    return ctx.services("running", "paused")


def _edges_or_services(ctx: ByHand) -> list[str]:
    own = [name for name in _running(ctx) if name != "toxiproxy"] if ctx.runtime.name == DOCKER else []
    return [*ctx.edges_in_use(), *own]


def _volumes(ctx: ByHand) -> list[str]:
    running = _running(ctx)
    return [name for name in SMALL_VOLUMES if name in running]


def _link(
    name: str, kind: str, toxic: str, attributes: Mapping[str, int], share: float = 1.0, *, answers_only: bool = False
) -> Link:
    streams = ("downstream",) if answers_only else ("upstream", "downstream")
    return Link(name, kind, toxic, attributes, share, streams=streams, sample_seconds=SAMPLE_SECONDS)


def _latency(ctx: ByHand, target: str, options: Options) -> Fault:
    del ctx
    return _link(target, "latency", "latency", {"latency": int(options["ms"]), "jitter": 0}, answers_only=True)


def _bandwidth(ctx: ByHand, target: str, options: Options) -> Fault:
    del ctx
    return _link(target, "bandwidth", "bandwidth", {"rate": int(options["kbps"]) // 8})


def _reset(ctx: ByHand, target: str, options: Options) -> Fault:
    del ctx
    return _link(target, "reset", "reset_peer", {"timeout": 0}, share=options["percent"] / 100)


def _partition(ctx: ByHand, target: str, options: Options) -> Fault:
    del options
    if target in ctx.runtime.edges():
        return _link(target, "blackhole", "timeout", {"timeout": 0})
    return isolation(target)


def _fill_disk(ctx: ByHand, target: str, options: Options) -> Fault:
    del options

    def folder(_runtime: Runtime, service: str) -> Path:
        return ctx.volume(service)

    return full_disk(target, folder)


def _skew(ctx: ByHand, target: str, options: Options) -> Fault:
    del ctx
    return clock.ahead(target, seconds=options["offset"])


SCRIPTS: tuple[Script, ...] = (
    Script(
        "kill", SERVICE, "SIGKILL to a service and all below it; started again at the end",
        "crash failure: what was acknowledged survives, callers see refused connections at once, and nobody drains",
        _running, lambda ctx, target, options: kill(target),
    ),
    Script(
        "pause", SERVICE, "SIGSTOP: connections stay open and nobody answers; SIGCONT at the end",
        "omission failure, as in a long garbage collection: timeouts, leases that run out, and a holder that comes back",
        _running, lambda ctx, target, options: pause(target), receipt_after=3.1, first=True,
    ),
    Script(
        "restart", SERVICE, "SIGTERM, drain, away for for= (1 s unless said), then started",
        "a deployment: in-flight work is finished, new connections are refused, callers retry",
        _running, lambda ctx, target, options: leave(target), seconds=1.0,
    ),
    Script(
        "latency", EDGE, "answers on a link take ms= longer",
        "slow is worse than dead: pools and queues fill up, deadlines and retry budgets decide",
        ByHand.edges_in_use, _latency, (Option("ms", "milliseconds", 200, 1, 60_000, "longer"),),
        receipt_after=None, look=lambda options: evidence.slower_by(options["ms"] / 1000), measures=True,
    ),
    Script(
        "loss", EDGE, "percent= of the packets of a link are lost, both ways",
        "TCP hides loss as latency in steps of 200 ms and more: the median hardly moves and p99 jumps",
        ByHand.edges_in_use, lambda ctx, target, options: loss(EdgeName(target), percent=options["percent"]),
        (Option("percent", "percent", 10, 0.1, HEAVIEST_PERCENT, "of the packets", whole=False),),
        receipt_after=0.0, look=lambda options: evidence.many(), measures=True,
    ),
    Script(
        "partition", EDGE_OR_SERVICE, "a link swallows everything and stays open; with Docker also a whole service loses its network",
        "no answer is not a no: the outcome of what was under way is unknown, and both sides live on",
        _edges_or_services, _partition, receipt_after=None, look=lambda options: evidence.silent(), measures=True,
    ),
    Script(
        "bandwidth", EDGE, "a connection of a link carries at most kbps= kilobits a second",
        "a thin pipe: small answers pass, large ones miss their deadline, and back-pressure shows who has a bound",
        ByHand.edges_in_use, _bandwidth, (Option("kbps", "kilobits a second", 64, 8, 1_000_000, "at most"),),
        receipt_after=None, look=lambda options: evidence.narrow(int(options["kbps"]) // 8 * 1000), measures=True,
    ),
    Script(
        "reset", EDGE, "percent= of the connections of a link end with RST",
        "a dying load balancer: clients must tell what was sent from what was not before they try again",
        ByHand.edges_in_use, _reset, (Option("percent", "percent", 100, 1, 100, "of the connections"),),
        receipt_after=None, look=lambda options: evidence.refused(), measures=True,
    ),
    Script(
        "fill-disk", VOLUME, "the service's volume becomes a disk of 64 MiB without a free byte (restarts it twice; needs root)",
        "redis refuses writes and serves reads; a broker whose only log directory fails stops, and the outbox waits for it",
        _volumes, _fill_disk, seconds=30.0, measures=True,
    ),
    Script(
        "clock-skew", SERVICE, "the wall clock of one of our processes is offset= wrong; its monotonic clock stays right",
        "leases, tokens and schedules that trust wall time: who takes the time from the database does not care",
        ByHand.with_clock, _skew,
        (Option("offset", "seconds", 3600, -2_678_400, 2_678_400, "ahead, or behind", signed_duration=True, whole=False),),
        measures=True,
    ),
)  # fmt: skip


def find(name: str) -> Script:
    """Raises RuntimeProblem."""
    names = [*(script.name for script in SCRIPTS), "heal"]
    nearest("chaos script", name, names)
    return next(script for script in SCRIPTS if script.name == name)
