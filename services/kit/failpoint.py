"""Failpoints: named places where a test or a lab can kill, stop or delay the process at the nth pass.

A pass may say whose it is (`await failpoint("cron.after_effect", job.name)`), and an arming may count only some of them.

Inert (one dict look-up) unless armed: by LAB_FAILPOINTS ("name=kill@1,other=delay:0.5@3") at start, or over HTTP at
/lab/failpoints, which exists in the lab profile only. Idea: etcd's gofail, TiKV's fail-rs.
"""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass
from typing import Literal

Action = Literal["kill", "stop", "delay"]


@dataclass(slots=True)
class Failpoint:
    """`nth` counts passes from the arming on; 1 is the next one. `seconds` is for delay only (0 to 60).

    With `subject` only passes whose subject contains it count.
    """

    name: str
    action: Action
    nth: int = 1
    seconds: float = 0.0
    subject: str = ""
    hits: int = 0


_armed: dict[str, Failpoint] = {}
_known: set[str] = set()


def register(*names: str) -> None:
    """Declare the names that exist in this process; arming an unknown one is an error, so a typo is noticed."""
    _known.update(names)


def known() -> frozenset[str]:
    """All names declared so far."""
    return frozenset(_known)


def arm(point: Failpoint) -> None:
    """Arm, or arm again with the count at zero. Raises ValueError for an unknown name or values out of range."""
    if point.name not in _known:
        raise ValueError(
            f"no failpoint {point.name!r} in this process; there are: {', '.join(sorted(_known)) or 'none'}"
        )
    if point.action not in ("kill", "stop", "delay"):
        raise ValueError(f"action is kill, stop or delay, not {point.action!r}")
    if point.nth < 1 or not 0 <= point.seconds <= 60:
        raise ValueError("nth is at least 1, seconds is 0 to 60")
    _armed[point.name] = point


def disarm(name: str) -> None:
    """Idempotent."""
    _armed.pop(name, None)


def armed() -> list[Failpoint]:
    """What is armed now, with its hits."""
    return list(_armed.values())


def arm_from_text(text: str) -> None:
    """Read the form of LAB_FAILPOINTS. Raises ValueError with the part that is wrong."""
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, _, rest = part.partition("=")
        what, _, nth = rest.partition("@")
        action, _, seconds = what.partition(":")
        try:
            arm(Failpoint(name, action, int(nth or 1), float(seconds or 0)))  # type: ignore[arg-type]  # arm() checks it
        except ValueError as error:
            raise ValueError(f"LAB_FAILPOINTS: {part!r}: {error}") from None


async def failpoint(name: str, subject: str = "") -> None:
    """A place to break. SIGKILL and SIGSTOP go to this very process, as a real fault would."""
    if not _armed:
        return
    point = _armed.get(name)
    if point is None or point.subject not in subject:
        return
    point.hits += 1
    if point.hits != point.nth:
        return
    if point.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif point.action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    else:
        await asyncio.sleep(point.seconds)
