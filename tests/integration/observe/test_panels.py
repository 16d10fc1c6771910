"""The whole stack under a little traffic: every panel and every rule has something to show.

A panel that cannot show data is a defect; the failing ones are named with their queries.
"""

from __future__ import annotations

import http.server
import io
import json
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests
from rich.console import Console

from infra.native.compose import ComposeFile
from infra.native.runtime import NativeRuntime
from infra.native.state import remove_tree
from labs.engine.annotate import MarkingDisplay, Marks, told_to_prometheus
from labs.engine.display import PlainDisplay, Tick
from labs.engine.model import Phase
from tests.documents import read
from tests.integration.infra.stack import REPOSITORY, Scratch, free_low_ports, xdist_number
from tests.integration.observe.traffic import Traffic
from tests.servers import on_docker

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(on_docker(), reason="starts local processes"),
]

UNSEEN_HERE = {"search.json", "search.yml", "catalog.json", "catalog"}
"""Of the profile week7, which this stack does not start: tests/integration/observe/test_search_panels.py shows them data."""
DASHBOARDS = sorted((REPOSITORY / "infra" / "grafana" / "dashboards").glob("*.json"))
RULES = sorted((REPOSITORY / "infra" / "prometheus" / "rules").glob("*.yml"))
PATIENCE_SECONDS = 150.0
COMPARISON = re.compile(r"\s(?:[<>]=?|==|!=)\s*[\d.]+")
"""What decides whether an alert fires: without it the query shows what the alert looks at."""


@dataclass(frozen=True)
class Question:
    """`name` says where a query stands."""

    name: str
    expr: str


def panel_questions() -> list[Question]:
    found = []
    for path in DASHBOARDS:
        if path.name in UNSEEN_HERE:
            continue
        board = json.loads(path.read_text("utf-8"))
        for panel in board["panels"]:
            for target in panel.get("targets", ()):
                expr = target["expr"].replace("$__rate_interval", "15s")
                found.append(Question(f"{board['uid']} / {panel['title']} / {target['refId']}", expr))
    return found


def rule_questions() -> list[Question]:
    found = []
    for path in RULES:
        if path.name in UNSEEN_HERE:
            continue
        for group in read(path)["groups"]:
            if group["name"] in UNSEEN_HERE:
                continue
            for rule in group["rules"]:
                if "record" in rule:
                    labels = ",".join(f'{name}="{value}"' for name, value in rule.get("labels", {}).items())
                    found.append(Question(f"{path.name} / {rule['record']} {labels}", f"{rule['record']}{{{labels}}}"))
                else:
                    name = f"{path.name} / {rule['alert']} {rule['labels'].get('window', '')}"
                    found.append(Question(name, COMPARISON.sub("", rule["expr"])))
    return found


@dataclass
class AlertTaker:
    """Stands where the console takes alerts."""

    port: int
    told: list[dict[str, object]] = field(default_factory=list)
    server: http.server.ThreadingHTTPServer | None = None

    def start(self) -> None:
        told = self.told

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                told.extend({**alert, "path": self.path} for alert in body["alerts"])
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()


@dataclass
class Observed:
    runtime: NativeRuntime
    traffic: Traffic
    console: AlertTaker

    def prometheus(self, path: str, **query: str) -> object:
        host, port = self.runtime.address("prometheus")
        answer = requests.get(f"http://{host}:{port}/api/v1/{path}", params=query, timeout=10)
        document = answer.json()
        assert document["status"] == "success", f"{query}: {document}"
        return document["data"]

    def samples(self, expr: str) -> int:
        data = self.prometheus("query", query=expr)
        assert isinstance(data, dict)
        return len(data["result"])

    def unanswered(self, questions: list[Question], patience: float) -> list[Question]:
        """Those without a sample when patience is over."""
        deadline = time.monotonic() + patience
        while True:
            questions = [one for one in questions if self.samples(one.expr) == 0]
            if not questions or time.monotonic() > deadline:
                return questions
            time.sleep(1.0)


@pytest.fixture(scope="module")
def observed() -> Iterator[Observed]:
    root = Path(tempfile.mkdtemp(prefix="lab-observed-"))
    root.chmod(0o755)
    shutil.copy(REPOSITORY / "docker-compose.yml", root)
    for folder in ("services", "labs", "infra"):
        (root / folder).symlink_to(REPOSITORY / folder)
    variables = ComposeFile(root / "docker-compose.yml").resolve({}).variables
    names = [name for name in variables if re.search(r"(^|_)PORT(_|$)", name)]
    ports = free_low_ports([*dict.fromkeys([*names, "CONSOLE_PORT"])])
    (root / ".env").write_text("".join(f"{name}={port}\n" for name, port in ports.items()))
    checkout = Scratch(root, ports)
    console = AlertTaker(ports["CONSOLE_PORT"])
    console.start()
    runtime = checkout.runtime()
    traffic = Traffic(runtime)
    stack = runtime.stack()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("infra.native.runtime.FIRST_WORKER_PORT", 19000 + 30 * xdist_number())
        try:
            runtime.up([*stack.in_profile("week2"), *stack.in_profile("observe")], env={"TRACES": "1"}, timeout=110.0)
            traffic.prepare()
            traffic.one_round()
            traffic.start()
            marks = Marks()
            with told_to_prometheus(marks, runtime, root):
                display = MarkingDisplay(PlainDisplay(Console(file=io.StringIO())), marks, "week02-day2")
                display.begin("engineered", Phase.INJECT, 10.0)
                display.tick(1.0, Tick(faults=("bank.loses_answer sim-bank",)))
                yield Observed(runtime, traffic, console)
        finally:
            traffic.stop()
            checkout.clear()
            console.stop()
            left = checkout.kill_leftovers()
            for data in root.glob(".lab/projects/*/data/*"):
                remove_tree(data)
            shutil.rmtree(root)
    assert left == []


def test_every_panel_and_every_rule_has_something_to_show(observed: Observed) -> None:
    missing = observed.unanswered([*panel_questions(), *rule_questions()], PATIENCE_SECONDS)
    assert observed.traffic.failures == []
    assert missing == [], "\n".join(f"{one.name}: {one.expr}" for one in missing)


def test_a_panel_with_a_misspelt_metric_is_named(observed: Observed) -> None:
    planted = Question("payments / Undecided", "max(payments_unkown_operations)")
    assert observed.unanswered([planted, Question("ok", "sum(up)")], 0.0) == [planted]


def test_no_rule_fails_to_evaluate(observed: Observed) -> None:
    data = observed.prometheus("rules")
    assert isinstance(data, dict)
    rules = [rule for group in data["groups"] for rule in group["rules"]]
    assert rules
    assert [rule["name"] for rule in rules if rule["health"] == "err"] == []


def test_an_exemplar_of_a_latency_panel_names_a_trace(observed: Observed) -> None:
    now = time.time()
    expr = 'http_server_request_duration_seconds_bucket{job="payments-api"}'
    data = observed.prometheus("query_exemplars", query=expr, start=str(now - 120), end=str(now))
    assert isinstance(data, list)
    traces = {exemplar["labels"]["trace_id"] for one in data for exemplar in one["exemplars"]}
    assert traces
    assert all(re.fullmatch(r"[0-9a-f]{32}", trace) for trace in traces)


def test_the_log_lines_of_a_request_carry_its_trace_id(observed: Observed) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    host, port = observed.runtime.address("payments-api")
    headers = {
        "Authorization": "Bearer lab_demo_merchant_key",
        "Content-Type": "application/json",
        "Idempotency-Key": "observe-too-late",
        "Request-Timeout-Ms": "0",
        "traceparent": f"00-{trace}-00f067aa0ba902b7-01",
    }
    order = {"amount": 1, "currency": "EUR", "source": "tok_observe", "reference": "too-late"}
    answer = requests.post(f"http://{host}:{port}/v1/payments", data=json.dumps(order), headers=headers, timeout=10)
    assert answer.status_code == 504
    assert eventually(lambda: any(trace in line for line in observed.runtime.logs("payments-api", lines=200)), 5.0)


def test_a_dead_process_is_told_to_the_console_with_its_runbook(observed: Observed) -> None:
    observed.runtime.kill("payments-reconciler")

    def told() -> list[dict[str, object]]:
        return [alert for alert in observed.console.told if "payments-reconciler" in json.dumps(alert)]

    assert eventually(lambda: bool(told()), PATIENCE_SECONDS), observed.console.told
    alert = told()[0]
    assert alert["path"] == "/alerts"
    assert "docs/runbooks/stack.md#processdown" in json.dumps(alert)


def eventually(condition: Callable[[], bool], bound: float) -> bool:
    deadline = time.monotonic() + bound
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
