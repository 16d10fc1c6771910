"""The files that name hosts and ports, and who is scraped."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from infra.native.compose import ComposeFile
from infra.native.layout import Layout
from infra.native.render import remove_target, render_config, target_kinds, write_targets
from tests.documents import read

ROOT = Path(__file__).resolve().parents[3]
STACK = ComposeFile(ROOT / "docker-compose.yml").resolve({})


def layout(root: Path, runtime: str) -> Layout:
    return Layout(root, root / ".lab", "dev", runtime=runtime)


@pytest.mark.parametrize(
    ("service", "kinds"),
    [
        ("payments-api", ("targets",)),
        ("kafka-jvm", ("targets",)),
        ("postgres-exporter", ("exporters",)),
        ("redis-exporter", ("exporters",)),
        ("kafka-exporter", ("exporters",)),
        ("alertmanager", ("exporters", "alertmanagers")),
        ("postgres", ()),
        ("toxiproxy", ()),
    ],
)
def test_prometheus_is_told_of_everything_that_has_metrics_and_of_nothing_else(
    service: str, kinds: tuple[str, ...]
) -> None:
    assert target_kinds(STACK.service(service)) == kinds


def test_a_target_is_written_under_its_service_and_removed_everywhere(tmp_path: Path) -> None:
    where = layout(tmp_path, "native")
    write_targets(where, "alertmanager", STACK.service("alertmanager"), 17093)
    written = json.loads((where.prometheus / "alertmanagers" / "alertmanager.json").read_text())
    assert written == [{"targets": ["127.0.0.1:17093"], "labels": {"job": "alertmanager", "process": "alertmanager"}}]
    remove_target(where, "alertmanager")
    assert list(where.prometheus.rglob("*.json")) == []


@pytest.mark.parametrize(
    ("runtime", "address"),
    [("native", "http://127.0.0.1:17001/alerts"), ("docker", "http://host.docker.internal:17001/alerts")],
)
def test_alerts_go_to_the_console_of_this_machine(tmp_path: Path, runtime: str, address: str) -> None:
    (tmp_path / ".env").write_text("CONSOLE_PORT=17001\n")
    render_config(layout(tmp_path, runtime), [])
    rendered = layout(tmp_path, runtime).config / "alertmanager" / "alertmanager.yml"
    document = read(rendered)
    assert document["receivers"][0]["webhook_configs"][0]["url"] == address


def test_promtool_accepts_what_is_rendered(tmp_path: Path) -> None:
    where = layout(tmp_path, "native")
    render_config(where, [])
    program = shutil.which("promtool") or "promtool"
    for kind in ("targets", "exporters", "alertmanagers"):
        (where.prometheus / kind / "none.json").write_text("[]")
    done = subprocess.run(
        [program, "check", "config", where.prometheus / "prometheus.yml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rules = list((where.prometheus / "rules").glob("*.yml"))
    assert f"{len(rules)} rule files found" in done.stdout


def test_a_rule_that_was_deleted_is_gone_after_the_next_start(tmp_path: Path) -> None:
    where = layout(tmp_path, "native")
    render_config(where, [])
    (where.prometheus / "rules" / "old.yml").write_text("groups: []\n")
    render_config(where, [])
    assert not (where.prometheus / "rules" / "old.yml").exists()
