"""Probes and checkers are somebody else's code: whatever they raise becomes a result here, never a crash of the run."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Sequence
from dataclasses import dataclass

from labs.engine.model import Evidence, EvidenceError, Finding, Invariant, NotApplicableError, Settled

CHECKER_SECONDS = 60.0
PROBE_SECONDS = 15.0


def crash(error: BaseException) -> str:
    """The exception and the line that raised it."""
    where = traceback.extract_tb(error.__traceback__)
    place = f" at {where[-1].filename.rpartition('/')[2]}:{where[-1].lineno}" if where else ""
    return f"it crashed with {type(error).__name__}: {error}{place}"


async def check(invariant: Invariant, evidence: Evidence) -> Finding:
    """The finding, or unknown with what went wrong."""
    try:
        async with asyncio.timeout(CHECKER_SECONDS):
            finding = await invariant(evidence)
    except NotApplicableError as reason:
        return Finding.not_applicable(str(reason))
    except EvidenceError as reason:
        return Finding.unknown(str(reason))
    except TimeoutError:
        return Finding.unknown(f"it took longer than {CHECKER_SECONDS:.0f} s")
    except Exception as error:  # noqa: BLE001  a checker that crashes is a result: unknown
        return Finding.unknown(crash(error))
    if not isinstance(finding, Finding):
        return Finding.unknown(f"it returned {type(finding).__name__}, not a Finding")
    return finding


async def check_all(invariants: Sequence[Invariant], evidence: Evidence) -> dict[str, Finding]:
    """One after the other, by name."""
    return {invariant.__name__: await check(invariant, evidence) for invariant in invariants}


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """`open` is "" when settled. `crashed` says that the probe itself is broken."""

    open: str
    crashed: bool = False


async def probe(settled: Settled, evidence: Evidence) -> ProbeResult:
    """Ask once. What does not apply is settled; a store that cannot be read is not."""
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            return ProbeResult(await settled.probe(evidence))
    except NotApplicableError:
        return ProbeResult("")
    except EvidenceError as reason:
        return ProbeResult(str(reason))
    except TimeoutError:
        return ProbeResult(f"no answer within {PROBE_SECONDS:.0f} s")
    except Exception as error:  # noqa: BLE001  a probe that crashes is a result: unknown
        return ProbeResult(crash(error), crashed=True)
