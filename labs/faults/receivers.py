"""What simulated webhook receivers do wrong on demand. Each strikes the receivers `first` to `first + count - 1`; count 0: none."""

from __future__ import annotations

from labs.faults.simulator import Switch

ROLE = "receivers"


def _of(name: str, first: int, count: int, **more: float) -> Switch:
    if first < 1 or count < 0:
        raise ValueError(f"{name}: receivers are numbered from 1, and not fewer than 0 are struck")
    return Switch(ROLE, name, {"first": first, "count": count, **more}, zero=count == 0)


def dead(*, first: int, count: int) -> Switch:
    """The connection is reset as soon as a request has come."""
    return _of("dead", first, count)


def hang(*, first: int, count: int, seconds: float = 60.0) -> Switch:
    """No answer; the connection is kept for so long."""
    return _of("hang", first, count, seconds=seconds)


def slow(*, first: int, count: int, seconds: float) -> Switch:
    """200, but late."""
    return _of("slow", first, count, seconds=seconds)


def flapping(*, first: int, count: int, period_seconds: float, down_share: float = 0.5) -> Switch:
    """503 for a share of each period; receivers are out of step with each other."""
    return _of("flapping", first, count, period_seconds=period_seconds, down_share=down_share)


def lying(*, first: int, count: int) -> Switch:
    """200, then a reset in the middle of the body."""
    return _of("lying", first, count)


def endless(*, first: int, count: int, seconds: float = 60.0) -> Switch:
    """200, then a body that drips for so long."""
    return _of("endless", first, count, seconds=seconds)


def rate_limited(*, first: int, count: int, retry_after: int = 1) -> Switch:
    """429 with Retry-After in seconds."""
    return _of("rate_limited", first, count, retry_after=retry_after)


def failing(*, first: int, count: int) -> Switch:
    """500."""
    return _of("failing", first, count)


def redirect(*, first: int, count: int) -> Switch:
    """307 to another path of the same receiver, which records who follows."""
    return _of("redirect", first, count)
