"""Search's own stack under a little traffic: every panel of its dashboard and every one of its rules has something to show.

Apart from test_panels.py, which starts the profile week2: search needs an engine, Kafka Connect and six processes more.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests

from infra.native.compose import ComposeFile
from infra.native.runtime import NativeRuntime
from infra.native.state import remove_tree
from tests.documents import read
from tests.integration.infra.stack import REPOSITORY, Scratch, free_low_ports, xdist_number
from tests.integration.observe.test_panels import COMPARISON, AlertTaker, Observed, Question
from tests.servers import on_docker

pytestmark = [
    pytest.mark.skipif(on_docker(), reason="starts local processes"),
]

SERVICES = (
    "postgres", "kafka", "kafka-topics", "search-engine", "search-exporter", "prometheus", "catalog-migrate", "catalog-fill",
    "connect", "catalog-connector", "catalog-api", "search-migrate", "search-indexer", "search-canary", "search-api",
)  # fmt: skip
PRODUCTS = 300
PATIENCE_SECONDS = 90.0
QUERIES = ("hiking boots", "boots", "bots", "sander", "*a*", "brand:")


@dataclass
class Searching:
    """Queries, beginnings of queries, impossible ones, in a thread until `stop`."""

    runtime: NativeRuntime
    statuses: set[int] = field(default_factory=set)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._go, daemon=True)
        self._thread.start()

    def _go(self) -> None:
        host, port = self.runtime.address("search-api")
        while not self._stopped.wait(0.1):
            for text in QUERIES:
                for path in (f"/v1/search?q={text}", f"/v1/suggest?q={text[:3]}"):
                    self.statuses.add(requests.get(f"http://{host}:{port}{path}", timeout=10).status_code)

    def stop(self) -> None:
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(timeout=15)


def questions() -> list[Question]:
    """Of the dashboard and the rules."""
    board = json.loads((REPOSITORY / "infra" / "grafana" / "dashboards" / "search.json").read_text("utf-8"))
    found = [
        Question(f"search / {panel['title']} / {target['refId']}", target["expr"].replace("$__rate_interval", "15s"))
        for panel in board["panels"]
        for target in panel.get("targets", ())
    ]
    rules = read(REPOSITORY / "infra" / "prometheus" / "rules" / "search.yml")
    for rule in rules["groups"][0]["rules"]:
        # Of a rule with two conditions each is asked by itself: what is to be seen is that the metric is there.
        for number, part in enumerate(rule["expr"].split(" and ")):
            found.append(Question(f"search.yml / {rule['alert']} {number}", COMPARISON.sub("", part)))
    return found


@pytest.fixture(scope="module")
def observed() -> Iterator[Observed]:
    root = Path(tempfile.mkdtemp(prefix="lab-search-"))
    root.chmod(0o755)
    shutil.copy(REPOSITORY / "docker-compose.yml", root)
    for folder in ("services", "labs", "infra", "loadtests"):
        (root / folder).symlink_to(REPOSITORY / folder)
    variables = ComposeFile(root / "docker-compose.yml").resolve({}).variables
    names = [name for name in variables if re.search(r"(^|_)PORT(_|$)", name)]
    ports = free_low_ports([*dict.fromkeys([*names, "CONSOLE_PORT"])])
    (root / ".env").write_text("".join(f"{name}={port}\n" for name, port in ports.items()))
    checkout = Scratch(root, ports)
    runtime = checkout.runtime()
    searching = Searching(runtime)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("infra.native.runtime.FIRST_WORKER_PORT", 19000 + 30 * xdist_number())
        try:
            runtime.up(SERVICES, env={"CATALOG_PRODUCTS": str(PRODUCTS)}, timeout=150.0)
            searching.start()
            yield Observed(runtime, searching, AlertTaker(0))  # type: ignore[arg-type]  # its traffic is not looked at here
        finally:
            searching.stop()
            checkout.clear()
            left = checkout.kill_leftovers()
            for data in root.glob(".lab/projects/*/data/*"):
                remove_tree(data)
            shutil.rmtree(root)
    assert left == []


def test_every_panel_and_every_rule_of_search_has_something_to_show(observed: Observed) -> None:
    missing = observed.unanswered(questions(), PATIENCE_SECONDS)
    assert missing == [], "\n".join(f"{one.name}: {one.expr}" for one in missing)


def test_a_panel_of_search_with_a_misspelt_metric_is_named(observed: Observed) -> None:
    planted = Question("search / Lag", "sum(search_indexer_lagg_records)")
    assert observed.unanswered([planted, Question("ok", "sum(up)")], 0.0) == [planted]
