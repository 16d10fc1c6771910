"""What a plain `docker compose` mounts is committed, and agrees with the compose file."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.docker import defaults
from infra.native.compose import ComposeFile
from infra.native.layout import Layout
from infra.native.render import render_config
from tests.documents import read

ROOT = Path(__file__).resolve().parents[2]
STACK = ComposeFile(ROOT / "docker-compose.yml").resolve({})
PROMETHEUS = ROOT / "infra" / "prometheus" / "prometheus.yml"


@pytest.mark.parametrize("path", defaults.files(), ids=str)
def test_the_committed_file_is_what_the_compose_file_says(path: Path) -> None:
    assert (ROOT / path).read_text("utf-8") == defaults.files()[path], "run: python -m infra.docker.defaults"


def test_another_port_changes_the_file(tmp_path: Path) -> None:
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    (tmp_path / "docker-compose.yml").write_text(text.replace("PAYMENTS_PORT:-18000", "PAYMENTS_PORT:-18001"))
    changed = {path for path, text in defaults.files(tmp_path).items() if text != defaults.files()[path]}
    assert changed == {Path("infra/prometheus/targets/compose.json"), Path("infra/toxiproxy/toxiproxy.json")}


def test_prometheus_looks_up_every_worker_at_the_port_that_workers_have() -> None:
    (job,) = [job for job in read(PROMETHEUS)["scrape_configs"] if "dns_sd_configs" in job]
    (lookup,) = job["dns_sd_configs"]
    assert lookup["names"] == defaults.workers(STACK)
    assert {STACK.service(name).environment["HTTP_PORT"] for name in lookup["names"]} == {str(lookup["port"])}


def test_every_mounted_folder_exists_in_a_fresh_clone() -> None:
    folders = {mount.source for one in STACK.services.values() for mount in one.mounts if not mount.named}
    assert {"./infra/prometheus", "./infra/toxiproxy"} <= folders
    assert [folder for folder in folders if not (ROOT / folder).is_dir()] == []


def test_a_runtime_of_ours_leaves_the_lookups_out(tmp_path: Path) -> None:
    layout = Layout(tmp_path, tmp_path / ".lab", "dev")
    render_config(layout, STACK.edges.values())
    rendered = read(layout.config / "prometheus" / "prometheus.yml")
    assert [job["job_name"] for job in rendered["scrape_configs"] if "dns_sd_configs" in job] == []
    assert "process" in [job["job_name"] for job in rendered["scrape_configs"]]
    assert not list(layout.prometheus.glob("*/*.json"))
