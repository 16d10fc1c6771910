"""The whole story against a house of paper: each station that fails stops it, with a sentence that names the station."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest

from infra.runtime import RuntimeProblem
from labs.console.traces import NoSuchTrace, Span, Trace, TraceStore
from labs.story import follow
from labs.story.follow import STATIONS, Follower, new_story
from labs.story.house import Outside, Reply, Row, Told
from labs.story.record import Station, Story
from services.contracts.topics import Topic
from services.kit import ids

PRODUCT = ids.uuid7()
PRODUCT_ID = ids.encode("prd", PRODUCT)
PAYMENT_ID = ids.encode("pay", ids.uuid7())
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
JOB_TRACE = "c" * 32


@dataclass
class PaperHouse:
    prefix: str = ""

    def url(self, service: str) -> str:
        return f"http://{service}"

    def variable(self, name: str) -> str:
        return name.lower()

    def store(self) -> tuple[str, int, str]:
        return "nowhere", 1, ""

    def bootstrap(self) -> str:
        return "nowhere:1"


@dataclass
class Paper(Outside):
    """All systems at once. `broken` names what one of them gets wrong."""

    broken: str = ""
    stock: int = 10
    popularity: int = 5
    sold: int = 0
    trace_id: str = ""
    source: str = ""
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    jobs: dict[str, Any] = field(default_factory=dict)

    def product(self) -> dict[str, Any]:
        return {
            "id": PRODUCT_ID, "sku": "STORY-LAMP", "title": "Lamp", "price": 1250, "currency": "EUR", "variants": [],
            "stock": self.stock, "popularity": self.popularity,
        }  # fmt: skip

    async def call(
        self,
        method: str,
        service: str,
        path: str,
        *,
        key: str = "",
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        del key
        self.asked.append((method, service, path.partition("?")[0]))
        status, document, text = self._answer(method, service, path, body, headers or {})
        return Reply(status, document, text)

    def _answer(
        self, method: str, service: str, path: str, body: Any, headers: Mapping[str, str]
    ) -> tuple[int, Any, str]:
        if service == self.broken:
            raise aiohttp.ClientConnectionError
        match method, service:
            case "GET", "catalog-api":
                return 200, {"data": [] if self.broken == "nothing to buy" else [self.product()]}, ""
            case "GET", "webhooks-api":
                return 200, {"data": [], "next_cursor": None}, ""
            case "POST", "webhooks-api":
                return (422 if self.broken == "endpoint" else 201), {"id": "ep_1", "title": "No"}, ""
            case "GET", "search-api":
                moved = self.sold if self.broken != "search" else 0
                hit = {"id": PRODUCT_ID, "stock": 10 - moved, "popularity": 5 + moved}
                return 200, {"hits": [{"id": "prd_other"}, hit]}, ""
            case "POST", "checkout-api":
                if self.broken == "declined":
                    return 402, {"title": "The card was declined"}, ""
                self.trace_id, self.source = headers["traceparent"][3:35], body["source"]
                assert headers["Idempotency-Key"] == body["reference"]
                self._sell(body["quantity"])
                return 201, {"status": "paid", "payment": PAYMENT_ID}, ""
            case "POST", "cron-api":
                if self.broken == "cron":
                    return 422, {"title": "Not so"}, ""
                self.jobs["job_1"] = body
                return 201, {"id": "job_1"}, ""
            case "GET", "cron-api":
                state = "failed" if self.broken == "run" else "fired"
                run = {"id": "run_1", "state": state, "reason": "broker", "node": "cron-scheduler-1", "attempts": 1}
                return 200, {"data": [run]}, ""
            case "DELETE", "cron-api":
                del self.jobs["job_1"]
                return 204, None, ""
            case "GET", "sim-bank":
                line = "" if self.broken == "settlement" else "ch_1,op_1,capture,2500,EUR,tok,2026"
                return 200, None, f"charge_id,reference,kind,amount\r\n{line}\r\n"
        raise AssertionError((method, service, path))

    def _sell(self, quantity: int) -> None:
        self.sold = quantity
        self.stock, self.popularity = self.stock - quantity, self.popularity + quantity

    async def sql(self, database: str, query: str, *arguments: object) -> Sequence[Row]:
        if self.broken == database:
            return []
        match query:
            case follow.CHARGES:
                assert arguments == (self.source,)
                charge = {"id": "ch_1", "status": "captured", "captured": 2500, "currency": "EUR"}
                return [charge, charge] if self.broken == "twice" else [charge]
            case follow.CALLS:
                return [] if self.broken == "webhook" else [{"status": 204, "verified": True}]
            case follow.SALES:
                return [] if self.broken == "sale" else [{"event_id": "evt_1", "quantity": self.sold, "short": 0}]
            case follow.PRODUCT:
                return [{"stock": self.stock, "popularity": self.popularity}]
            case follow.ROUND:
                return [{"outcome": "compared", "traceparent": f"00-{JOB_TRACE}-{'d' * 16}-01"}]
            case follow.OPERATION:
                return [{"bank_reference": "op_1", "resolved_at": NOON}]
            case follow.FINDINGS:
                return [{"kind": "amount"}] if self.broken == "finding" else []
        raise AssertionError(query)

    async def records(self, topic: Topic, key: str, since_ms: int) -> list[Told]:
        assert (topic.name, key) == ("payments.payment.v1", PAYMENT_ID)
        assert since_ms > 0
        if self.broken == "topic":
            return []
        headers = {"ce_id": "evt_1", "ce_type": "payments.payment.captured", "traceparent": f"00-{self.trace_id}-x-01"}
        return [Told(3, 17, headers)]


def trace(trace_id: str, services: Sequence[str], links: tuple[str, ...] = ()) -> Trace:
    span = Span("s", "", 0, services[0], "x", "server", 0, 1, False, "", {}, links, ())
    return Trace(trace_id, "x", services[0], tuple(services), "now", 1, False, (span,))


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> dict[str, Trace]:
    """What the trace store holds."""
    held: dict[str, Trace] = {}

    async def get(_: TraceStore, base: str, trace_id: str) -> Trace:
        assert base == "http://jaeger"
        if trace_id not in held:
            raise NoSuchTrace
        return held[trace_id]

    monkeypatch.setattr(TraceStore, "get", get)
    return held


async def told(
    kept: dict[str, Trace], broken: str = "", *, patience: float = 0.0, product: str = ""
) -> tuple[Story, Paper, list[str]]:
    story, steps = new_story(product, 2), []
    if broken != "trace":
        kept[story.trace_id] = trace(story.trace_id, follow.STORY_PROCESSES)
    kept[JOB_TRACE] = trace(JOB_TRACE, follow.JOB_PROCESSES, (story.trace_id,))

    def tell(_: Story, station: Station) -> None:
        steps.append(f"{station.name} {station.state}")

    async with aiohttp.ClientSession() as http:
        paper = Paper(PaperHouse(), http, broken)
        follower = Follower(paper, "http://jaeger", story, tell, product, patience)
        assert await follower.run() is (story.state == "done")
    return story, paper, steps


async def test_a_story_goes_through_all_stations_in_their_order(kept: dict[str, Trace]) -> None:
    story, paper, steps = await told(kept)
    assert story.problem == ""
    assert [station.state for station in story.stations] == ["done"] * len(STATIONS)
    assert steps[:-1] == [f"{stop.value} {state}" for stop in STATIONS for state in ("now", "done")]
    assert (story.sku, story.quantity, story.payment, story.job_trace_id) == ("STORY-LAMP", 2, PAYMENT_ID, JOB_TRACE)
    assert paper.jobs == {}, "the job is ended with the story"
    seconds = [station.seconds for station in story.stations[2:]]
    assert seconds == sorted(each for each in seconds if each is not None)


@pytest.mark.parametrize(
    ("broken", "station", "sentence"),
    [
        ("nothing to buy", "There is something to buy", "nowhere-to-be-found"),
        ("endpoint", "There is something to buy", "not registered: 422 No"),
        ("declined", "The checkout is paid", "402 The card was declined"),
        ("checkout-api", "The checkout is paid", "does not answer (ClientConnectionError)"),
        ("bank", "The card is charged once", "no charge of this card"),
        ("twice", "The card is charged once", "2 times"),
        ("topic", "The event is told", "no event of this payment"),
        ("webhook", "The webhook arrives", "no webhook has arrived at the merchant's receiver"),
        ("sale", "The stock goes down", "has not heard of the sale"),
        ("search", "Search shows it, too", "search shows stock 10"),
        ("cron", "A scheduled job runs", "cron refused the job: 422 Not so"),
        ("run", "A scheduled job runs", "run_1 failed: broker"),
        ("payments", "It reconciles", "keeps nothing of this run"),
        ("settlement", "It reconciles", "no line of this payment"),
        ("finding", "It reconciles", "open findings about this payment: amount"),
        ("trace", "One trace", "no span of checkout-api"),
    ],
)
async def test_where_it_stops_is_said(kept: dict[str, Trace], broken: str, station: str, sentence: str) -> None:
    named = "nowhere-to-be-found" if broken == "nothing to buy" else ""
    story, paper, _ = await told(kept, broken, product=named)
    assert story.state == "stopped"
    assert f"stopped at '{station}'" in story.problem
    assert sentence in story.problem
    assert story.problem.endswith(".")
    states = [each.state for each in story.stations]
    place = states.index("stopped")
    assert states == ["done"] * place + ["stopped"] + ["waiting"] * (len(states) - place - 1)
    assert paper.jobs == {}


async def test_what_does_not_run_is_said_as_the_runtime_says_it(
    kept: dict[str, Trace], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere(_: PaperHouse, name: str) -> str:
        raise RuntimeProblem(f"{name} is unknown.")

    monkeypatch.setattr(PaperHouse, "variable", nowhere)
    story, _, _ = await told(kept)
    assert story.problem.endswith("SIM_RECEIVERS_HOST is unknown.")


async def test_what_comes_late_is_waited_for(kept: dict[str, Trace], monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    records = Paper.records

    async def late(self: Paper, topic: Topic, key: str, since_ms: int) -> list[Told]:
        looks.append(key)
        return [] if len(looks) < 3 else await records(self, topic, key, since_ms)

    monkeypatch.setattr(Paper, "records", late)
    monkeypatch.setattr(follow, "LOOK_SECONDS", 0.001)
    story, _, _ = await told(kept, patience=30)
    assert story.state == "done"
    assert len(looks) == 3


def test_trace_ids_are_what_the_trace_view_takes() -> None:
    first, second = new_story("", 1), new_story("", 1)
    assert re.fullmatch(r"[0-9a-f]{32}", first.trace_id)
    assert first.trace_id != second.trace_id
    assert first.id != second.id
