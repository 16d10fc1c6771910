"""What a fault of a link does to a question over that link: the same before and during, beside each other."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from infra.runtime import Edge
from labs.chaos import probe
from labs.chaos.context import ByHand
from labs.chaos.probe import NO_ANSWER, Trips, ask
from labs.engine.blocking import blocking
from labs.engine.model import InjectFailedError, Receipt

Judge = Callable[[Trips, Trips], bool]
"""Whether the difference between before and now is this fault's doing."""


@dataclass(frozen=True, slots=True)
class Look:
    """How to look at a link: how many questions, how long to wait for each, and what proves the fault."""

    proves: Judge
    count: int = 1
    timeout: float = 2.0


def slower_by(seconds: float) -> Look:
    """A round trip takes at least four fifths of that longer."""
    return Look(lambda before, now: now.ok and now.slowest - before.slowest >= 0.8 * seconds, timeout=2.0 + 2 * seconds)


def silent() -> Look:
    """Answered before, and not even refused now."""
    return Look(lambda before, now: before.ok and not now.answered and NO_ANSWER in now.error)


def refused() -> Look:
    """Answered before, and ended by the other side now."""
    return Look(lambda before, now: before.ok and not now.answered and NO_ANSWER not in now.error)


def narrow(bytes_per_second: float) -> Look:
    """The answer came no faster than that, and faster before."""

    def proves(before: Trips, now: Trips) -> bool:
        limit = 1.25 * bytes_per_second
        fast = before.ok and before.received / before.total > limit
        return fast and now.total > 0 and (not now.ok or now.received / now.total <= limit)

    return Look(proves, timeout=5.0)


def many() -> Look:
    """Traffic for a fault that counts by itself."""
    return Look(lambda before, now: False, count=20, timeout=3.0)


async def look(ctx: ByHand, edge: Edge, how: Look) -> Trips:
    """Ask over the proxy of a link. Raises InjectFailedError when nothing can be asked."""
    port = int(edge.listen.rpartition(":")[2])
    if ctx.runtime.name != "docker":
        return await blocking(ask, "127.0.0.1", port, edge.server, count=how.count, timeout=how.timeout)
    return await blocking(_ask_inside, ctx, port, edge.server, how)


def _ask_inside(ctx: ByHand, port: int, server: str, how: Look) -> Trips:
    words = ["-c", Path(probe.__file__).read_text(), "127.0.0.1", str(port), server, str(how.count), str(how.timeout)]
    argv = [*ctx.runtime.beside("toxiproxy"), *words]
    bound = 60 + how.count * (how.timeout + 1)
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=bound, check=False)
    try:
        return msgspec.json.decode(done.stdout, type=Trips)
    except msgspec.DecodeError:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise InjectFailedError(f"nothing could be asked in Toxiproxy's container: {''.join(last)}") from None


def compared(edge: Edge, how: Look, before: Trips, now: Trips) -> Receipt:
    """Both in one sentence."""
    what = f"a round trip over {edge.name} " if how.count == 1 else f"of round trips over {edge.name} "
    summary = f"{what}{before.told()} before{' and' if how.count == 1 else ';'} {now.told()} now"
    return Receipt(how.proves(before, now), summary, {"before": asdict(before), "now": asdict(now)})
