from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvicorn
from yarl import URL

from infra.native.free_ports import free_ports
from labs.console.app import charting_script, create_app
from labs.console.settings import Settings
from labs.story import record
from labs.story.follow import new_story
from services.kit.http import Shell
from tests.e2e.console.observers import TRACE, observers

TOKEN = {"X-Console-Token": "t"}
REPOSITORY = Path(__file__).resolve().parents[4]
AWAY = "http://127.0.0.1:9"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    text: str

    def json(self) -> Any:
        return json.loads(self.text)


@dataclass(frozen=True)
class Client:
    base: str
    http: aiohttp.ClientSession

    async def ask(self, method: str, path: str, **given: Any) -> Answer:
        url = URL(self.base + path, encoded=True)
        async with self.http.request(method, url, allow_redirects=False, **given) as response:
            return Answer(response.status, response.headers, (await response.read()).decode())

    async def get(self, path: str, **given: Any) -> Answer:
        return await self.ask("GET", path, **given)

    async def post(self, path: str, **given: Any) -> Answer:
        return await self.ask("POST", path, **given)


@contextlib.asynccontextmanager
async def serving(root: Path, observer: str, **programs: tuple[str, ...]) -> AsyncIterator[Client]:
    """The console on a free port of its own."""
    (port,) = free_ports(1)
    endpoints = dict.fromkeys(("prometheus", "alertmanager", "jaeger"), observer)
    settings = Settings(root=root, port=port, lab_modules=(), endpoints=endpoints, programs=programs)
    app = Shell(create_app(settings, token="t"), max_body_bytes=64 * 1024)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, access_log=False, lifespan="on", ws="none"))
    running = asyncio.create_task(server.serve())
    async with asyncio.timeout(20):
        while not server.started:  # noqa: ASYNC110  uvicorn has no event for it
            await asyncio.sleep(0.01)
    async with aiohttp.ClientSession(trust_env=False) as http:
        yield Client(f"http://127.0.0.1:{port}", http)
    server.should_exit = True
    await running


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "README.md").write_text("# The <lab>\n")
    (tmp_path / "infra").mkdir()
    (tmp_path / "infra" / "grafana").symlink_to(REPOSITORY / "infra" / "grafana")
    run = tmp_path / ".lab" / "runs" / "week02-day2" / "r1"
    run.mkdir(parents=True)
    (run / "report.html").write_text("<h1>Report</h1>")
    return tmp_path


@pytest.fixture
async def client(root: Path) -> AsyncIterator[Client]:
    async with serving(root, AWAY, infra=("false",), labs=("true",)) as client:
        yield client


@pytest.fixture
async def observed(root: Path) -> AsyncIterator[Client]:
    with observers() as base:
        async with serving(root, base, infra=("false",)) as client:
            yield client


async def test_the_page_carries_the_token_and_a_strict_policy(client: Client) -> None:
    page = await client.get("/")
    assert page.status == 200
    assert '<meta name="console-token" content="t">' in page.text
    policy = page.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "default-src 'none'" in policy
    assert "<script>" not in page.text
    assert " style=" not in page.text
    assert page.headers["x-content-type-options"] == "nosniff"


async def test_it_works_with_nothing_running(client: Client) -> None:
    assert (await client.get("/api/state")).json() == {"projects": [], "jobs": []}
    assert (await client.get("/api/labs")).json() == []
    assert (await client.get("/api/alerts")).json()["reachable"] is False
    for path, code in (
        ("/api/dashboards/overview/data", "metrics_away"),
        ("/api/traces/services", "traces_away"),
        ("/api/chaos", "chaos_away"),
    ):
        answer = await client.get(path)
        assert (answer.status, answer.json()["type"]) == (503, f"urn:lab:{code}")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/nothing", 404),
        ("GET", "/api/dashboards/none", 404),
        ("GET", "/api/dashboards/none/data", 404),
        ("GET", "/api/dashboards/overview/data?minutes=7", 422),
        ("GET", "/api/dashboards/overview/data?minutes=many", 422),
        ("GET", "/api/logs/dev/none", 404),
        ("GET", "/api/logs/..%2F..%2F/x", 404),
        ("GET", "/api/logs/dev/x?lines=100000", 422),
        ("GET", "/api/jobs/99", 404),
        ("GET", "/api/jobs/99/events", 404),
        ("POST", "/api/jobs/99/cancel", 404),
        ("GET", "/api/traces", 422),
        ("GET", "/api/traces?service=%00", 422),
        ("GET", "/api/traces/zz", 404),
        ("GET", "/api/traces/zz/logs", 404),
        ("GET", "/api/traces/%2e%2e", 404),
        ("PUT", "/api/jobs", 405),
        ("GET", "/static/../app.py", 404),
        ("GET", "/static/%2e%2e%2fapp.py", 404),
        ("GET", "/reports/a/b/c.html", 404),
        ("GET", "/course/.env", 404),
    ],
)
async def test_every_error_is_a_problem_document(client: Client, method: str, path: str, status: int) -> None:
    answer = await client.ask(method, path, headers=TOKEN)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"].startswith("urn:lab:")


@pytest.mark.parametrize(
    ("body", "media_type", "status"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[]", "application/json", 422),
        (b"{}", "application/json", 422),
        (b'{"command": 7}', "application/json", 422),
        (b'{"command": "make lab week=2", "shell": "x"}', "application/json", 422),
        (b'{"command": "make clean"}', "application/json", 422),
        (b'{"command": "make lab week=2"}', "text/plain", 415),
        (b'{"command": "make lab week=2"}', "application/json; charset=utf-16", 415),
    ],
)
async def test_a_body_that_is_no_command_is_refused(client: Client, body: bytes, media_type: str, status: int) -> None:
    answer = await client.post("/api/jobs", data=body, headers={**TOKEN, "Content-Type": media_type})
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")


async def test_without_the_token_nothing_is_started(client: Client) -> None:
    answer = await client.post("/api/jobs", json={"command": "make lab week=2"})
    assert answer.status == 403
    assert (await client.get("/api/state")).json()["jobs"] == []


async def test_a_started_job_is_followed_by_events(client: Client) -> None:
    started = await client.post("/api/jobs", json={"command": "make lab week=2", "prediction": "7"}, headers=TOKEN)
    assert started.status == 201
    assert started.json()["command"] == 'make lab week=2 predict="7"'
    events = await client.get(f"{started.headers['location']}/events")
    assert events.headers["content-type"].startswith("text/event-stream")
    text = events.text
    assert "event: end" in text
    assert '"exit_code":0' in text


async def test_alerts_are_received_and_garbage_is_not(client: Client) -> None:
    sent = {
        "version": "4",
        "alerts": [{"status": "firing", "labels": {"alertname": "Burn"}, "startsAt": "now", "x": 1}],
        "groupKey": "g",
    }
    assert (await client.post("/alerts", json=sent)).status == 204
    assert (await client.get("/api/alerts")).json()["received"][0]["name"] == "Burn"
    for body in ({}, {"alerts": [{"status": 7}]}, {"alerts": "many"}):
        assert (await client.post("/alerts", json=body)).status == 422


async def test_charts_hold_what_prometheus_said(observed: Client) -> None:
    data = (await observed.get("/api/dashboards/overview/data?minutes=5&project=lab")).json()
    panels = (await observed.get("/api/dashboards/overview")).json()["panels"]
    assert {one["id"] for one in data["panels"]} == {one["id"] for one in panels if one["type"] != "row"}
    assert all(one["series"] and not one["problem"] for one in data["panels"])
    assert data["marks"][0]["text"] == "naive: kill web"
    exemplars = [one for panel in data["panels"] for one in panel["exemplars"]]
    assert {one["trace"] for one in exemplars} == {TRACE}


async def test_a_trace_is_listed_and_shown(observed: Client) -> None:
    assert (await observed.get("/api/traces?service=payments-api")).json()[0]["id"] == TRACE
    spans = (await observed.get(f"/api/traces/{TRACE}")).json()["spans"]
    assert [one["depth"] for one in spans] == [0, 1, 2]


async def test_the_story_page_tells_how_to_begin_while_none_was_told(client: Client) -> None:
    page = await client.get("/story")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "No story has been told here yet" in page.text
    assert 'data-start="make story"' in page.text
    assert 'data-start="make up profile=story"' in page.text
    assert (await client.get("/api/story")).json() == {"story": None, "silent_seconds": 0.0}


async def test_the_story_page_shows_each_station_as_it_is_and_escapes_what_was_seen(client: Client, root: Path) -> None:
    story = new_story("LAMP", 2)
    story.stations[0].state, story.stations[0].says, story.stations[0].seconds = "done", "stock <10>", 0.25
    story.stations[1].state, story.stations[1].says = "stopped", "search does not find the product"
    story.state, story.problem = "stopped", "The story stopped at 'Search shows it'."
    record.write(root, story)
    page = (await client.get("/story")).text
    assert page.count('<tr class="') == len(story.stations)
    assert '<tr class="done"><th scope="row">There is something to buy</th><td class="n">0.25 s</td>' in page
    assert "stock &lt;10&gt;" in page
    assert '<tr class="stopped"><th scope="row">Search shows it</th>' in page
    assert "The story stopped at &#39;Search shows it&#39;." in page
    told = (await client.get("/api/story")).json()["story"]
    assert [one["state"] for one in told["stations"]][:3] == ["done", "stopped", "waiting"]
    assert (told["state"], told["trace_id"]) == ("stopped", story.trace_id)


async def test_a_story_that_cannot_be_read_is_none(client: Client, root: Path) -> None:
    path = record.path_of(root)
    path.parent.mkdir(parents=True)
    path.write_bytes(b'{"schema": 1, "stations": "<script>"}')
    assert (await client.get("/api/story")).json()["story"] is None
    assert "No story has been told here yet" in (await client.get("/story")).text


async def test_a_report_is_served_without_scripts_allowed(client: Client) -> None:
    report = await client.get("/reports/week02-day2/r1/report.html")
    assert report.text == "<h1>Report</h1>"
    assert "script-src" not in report.headers["content-security-policy"]
    assert "default-src 'none'" in report.headers["content-security-policy"]


async def test_the_charting_script_comes_from_the_installed_package(client: Client) -> None:
    assert charting_script().is_file()
    assert (await client.get("/static/plotly.min.js")).headers["content-type"].startswith("text/javascript")


async def test_a_person_gets_a_page_where_a_program_gets_a_document(client: Client) -> None:
    asked = {"Accept": "text/html,application/xhtml+xml"}
    page = await client.get("/course/none.md", headers=asked)
    assert (page.status, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "There is no such page" in page.text
    assert (await client.get("/api/none", headers=asked)).headers["content-type"] == "application/problem+json"


async def test_a_page_of_the_course_escapes_its_title(client: Client) -> None:
    assert "<title>The &lt;lab&gt;</title>" in (await client.get("/course/README.md")).text
