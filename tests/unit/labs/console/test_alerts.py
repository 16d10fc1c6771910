from __future__ import annotations

import aiohttp
import pytest

from labs.console.alerts import KEPT, Alerts, Message, WireAlert, runbook_address
from tests.e2e.console.observers import observers


def alert(name: str, status: str = "firing") -> WireAlert:
    return WireAlert(
        status=status, labels={"alertname": name, "severity": "page"}, annotations={"summary": name * 1000}
    )


async def test_what_is_received_is_bounded_and_the_newest_first() -> None:
    async with aiohttp.ClientSession() as http:
        alerts = Alerts(http)
        for number in range(KEPT + 50):
            alerts.receive(Message(alerts=[alert(f"A{number}")]))
        received = alerts.received()
        assert len(received) == KEPT
        assert received[0].name == f"A{KEPT + 49}"
        assert len(received[0].summary) == 500


@pytest.mark.slow
async def test_what_fires_is_asked_of_alertmanager() -> None:
    async with aiohttp.ClientSession() as http:
        with observers() as base:
            board = await Alerts(http).board(base)
        assert board.reachable
        assert board.active[0].summary == "Payments burn their budget"
        assert board.active[0].runbook == "/course/docs/retry-strategy.md"
        gone = await Alerts(http).board("http://127.0.0.1:9")
        assert not gone.reachable


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("docs/runbooks/payments.md#burn", "/course/docs/runbooks/payments.md#burn"),
        ("/docs/x.md", "/course/docs/x.md"),
        ("https://example.org/x", "https://example.org/x"),
        ("javascript:alert(1)", ""),
        ("//evil.example/x", ""),
        ("", ""),
    ],
)
def test_a_runbook_is_a_page_of_the_course_or_a_web_address(url: str, address: str) -> None:
    assert runbook_address(url) == address
