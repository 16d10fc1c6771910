"""What the simulated bank does wrong on demand. Shares are 0 to 1 of the calls; 0 changes nothing."""

from __future__ import annotations

from labs.faults.simulator import Switch

ROLE = "bank"


def _share(name: str, share: float, **more: float) -> Switch:
    if not 0 <= share <= 1:
        raise ValueError(f"{name}: a share is between 0 and 1")
    return Switch(ROLE, name, {"share": share, **more}, zero=share == 0)


def loses_answer(*, share: float, hold_seconds: float = 30.0) -> Switch:
    """Charges, commits, and never answers: the connection hangs for up to `hold_seconds`."""
    return _share("loses_answer", share, hold_seconds=hold_seconds)


def error_before(*, share: float) -> Switch:
    """500, and nothing was charged."""
    return _share("error_before", share)


def error_after(*, share: float) -> Switch:
    """500, and the card was charged."""
    return _share("error_after", share)


def declines(*, share: float) -> Switch:
    """Refuses the card."""
    return _share("declines", share)


def latency(*, mean_ms: float, sigma: float = 0.5) -> Switch:
    """Adds a log-normal delay to each call."""
    return Switch(ROLE, "latency", {"mean_ms": mean_ms, "sigma": sigma}, zero=mean_ms == 0)


def rate_limit(*, per_second: float) -> Switch:
    """429 with Retry-After above this rate."""
    return Switch(ROLE, "rate_limit", {"per_second": per_second})


def status_lags(*, seconds: float) -> Switch:
    """Asked for an operation younger than this, it says 404."""
    return Switch(ROLE, "status_lags", {"seconds": seconds}, zero=seconds == 0)


def duplicate_webhooks(*, copies: int) -> Switch:
    """Sends each webhook so many times; 1 changes nothing."""
    return Switch(ROLE, "duplicate_webhooks", {"copies": copies}, zero=copies == 1)
