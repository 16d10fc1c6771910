"""Alerts: what fires now, asked of Alertmanager, and what it has sent here (bounded, newest first)."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

import aiohttp
import msgspec

KEPT = 200
MOST_IN_A_MESSAGE = 500
TIMEOUT = aiohttp.ClientTimeout(total=3.0)


class WireAlert(msgspec.Struct, frozen=True, rename="camel"):
    """As Alertmanager's webhook (version 4) sends it."""

    status: str
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    starts_at: str = ""
    ends_at: str = ""
    fingerprint: str = ""


class Message(msgspec.Struct, frozen=True):
    """A body of the webhook; what else it holds is not needed here."""

    alerts: list[WireAlert]
    version: str = "4"
    status: str = ""


class AlertStatus(msgspec.Struct, frozen=True):
    state: str = "active"


class ActiveAlert(msgspec.Struct, frozen=True, rename="camel"):
    """As /api/v2/alerts lists it."""

    labels: dict[str, str]
    annotations: dict[str, str] = {}
    starts_at: str = ""
    status: AlertStatus = AlertStatus()
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Alert:
    """`runbook` is an address within the console, or none."""

    name: str
    status: str
    severity: str
    labels: Mapping[str, str]
    summary: str
    description: str
    runbook: str
    started_at: str
    received_at: str = ""


@dataclass(frozen=True, slots=True)
class Board:
    """`reachable`: whether Alertmanager answered; what was received stays when it does not."""

    reachable: bool
    active: tuple[Alert, ...]
    received: tuple[Alert, ...]


class Alerts:
    """The receiver and the client."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http
        self._received: deque[Alert] = deque(maxlen=KEPT)

    def receive(self, message: Message) -> None:
        """Keep what Alertmanager sent, the newest first."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        for one in message.alerts[:MOST_IN_A_MESSAGE]:
            self._received.appendleft(_alert(one.status, one.labels, one.annotations, one.starts_at, now))

    def received(self) -> tuple[Alert, ...]:
        """At most `KEPT`."""
        return tuple(self._received)

    async def board(self, base: str) -> Board:
        """What fires, the worst first, and what was received."""
        active = await self._active(base)
        return Board(active is not None, tuple(active or ()), self.received())

    async def _active(self, base: str) -> list[Alert] | None:
        try:
            async with self._http.get(f"{base}/api/v2/alerts", timeout=TIMEOUT) as response:
                if response.status != 200:
                    return None
                found = msgspec.json.decode(await response.read(), type=list[ActiveAlert])
        except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError):
            return None
        shown = [_alert(one.status.state, one.labels, one.annotations, one.starts_at, "") for one in found]
        return sorted(shown, key=lambda alert: (_RANK.get(alert.severity, 1), alert.name))[:KEPT]


_RANK = {"page": 0, "critical": 0, "ticket": 1, "warning": 1, "info": 2}


def _alert(
    status: str, labels: Mapping[str, str], annotations: Mapping[str, str], started_at: str, received_at: str
) -> Alert:
    return Alert(
        name=labels.get("alertname", "unnamed")[:200],
        status=status[:20],
        severity=labels.get("severity", "")[:40],
        labels={name[:100]: value[:300] for name, value in list(labels.items())[:40]},
        summary=annotations.get("summary", "")[:500],
        description=annotations.get("description", "")[:2000],
        runbook=runbook_address(annotations.get("runbook_url", "")),
        started_at=started_at[:40],
        received_at=received_at,
    )


def runbook_address(url: str) -> str:
    """A runbook of the repository is a page of the course; any other address than http(s) is dropped."""
    parts = urlsplit(url.strip()[:500])
    if parts.scheme in {"http", "https"}:
        return url.strip()[:500]
    if parts.scheme or parts.netloc or not parts.path:
        return ""
    return f"/course/{parts.path.lstrip('/')}" + (f"#{parts.fragment}" if parts.fragment else "")
