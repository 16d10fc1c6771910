"""Writes the files that name hosts and ports: Prometheus' targets, Alertmanager's receiver, Toxiproxy's proxies."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import yaml

from infra.native.compose import Service, read_env_file
from infra.native.layout import Layout
from infra.native.recipes.base import LOOPBACK
from infra.runtime import Edge
from services.contracts.ports import PORTS

_INFRA = Path(__file__).resolve().parent.parent
PROCESSES, EXPORTERS, ALERTMANAGERS = "targets", "exporters", "alertmanagers"
HOST_OF_CONTAINERS = "host.docker.internal"


def render_config(layout: Layout, edges: Iterable[Edge], *, listen_on: str = LOOPBACK) -> None:
    """Prometheus' files are plain; Toxiproxy's comes from the edges, each on its port of the address `listen_on`."""
    for kind in (PROCESSES, EXPORTERS, ALERTMANAGERS):
        (layout.prometheus / kind).mkdir(parents=True, exist_ok=True)
    (layout.prometheus / "prometheus.yml").write_text(_prometheus(), "utf-8")
    shutil.rmtree(layout.prometheus / "rules", ignore_errors=True)
    shutil.copytree(_INFRA / "prometheus" / "rules", layout.prometheus / "rules")
    _render_alertmanager(layout)
    proxies = [
        {
            "name": e.name,
            "listen": f"{listen_on}:{e.listen.rpartition(':')[2]}",
            "upstream": e.upstream,
            "enabled": True,
        }
        for e in edges
    ]
    folder = layout.config / "toxiproxy"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "toxiproxy.json").write_text(json.dumps(proxies, indent=1))


def _prometheus() -> str:
    """The file without the jobs that look names up by DNS: those are for a `docker compose` without a runtime of ours."""
    document = yaml.safe_load((_INFRA / "prometheus" / "prometheus.yml").read_text("utf-8"))
    document["scrape_configs"] = [job for job in document["scrape_configs"] if "dns_sd_configs" not in job]
    return yaml.safe_dump(document, sort_keys=False)


def _render_alertmanager(layout: Layout) -> None:
    """The console is a process of this machine, for a container too."""
    given = {**read_env_file(layout.root / ".env"), **os.environ}
    host = LOOPBACK if layout.runtime == "native" else HOST_OF_CONTAINERS
    console = f"http://{host}:{given.get('CONSOLE_PORT', PORTS['CONSOLE_PORT'])}"
    folder = layout.config / "alertmanager"
    folder.mkdir(parents=True, exist_ok=True)
    template = (_INFRA / "alertmanager" / "alertmanager.yml").read_text("utf-8")
    committed = f"http://{HOST_OF_CONTAINERS}:{PORTS['CONSOLE_PORT']}"
    (folder / "alertmanager.yml").write_text(template.replace(committed, console), "utf-8")


def write_targets(layout: Layout, name: str, service: Service, port: int, *, host: str = LOOPBACK) -> None:
    """Tell Prometheus of a service that has metrics. It watches the folders (file_sd)."""
    for kind in target_kinds(service):
        write_target(layout.prometheus / kind, name, f"{host}:{port}", job=service.name)


def write_target(folder: Path, name: str, address: str, *, job: str) -> None:
    """Renamed into place, so that Prometheus never reads half a file."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{name}.json"
    part = target.with_suffix(".part")
    part.write_text(json.dumps([{"targets": [address], "labels": {"job": job, "process": name}}]))
    part.rename(target)


def target_kinds(service: Service) -> tuple[str, ...]:
    """The folders of Prometheus that a service belongs in: none for one without metrics."""
    if service.builds:
        return (PROCESSES,)
    word = service.image.rpartition("/")[2].partition(":")[0]
    if word == "alertmanager":
        return (EXPORTERS, ALERTMANAGERS)
    return (EXPORTERS,) if word.endswith(("-exporter", "_exporter")) else ()


def remove_target(layout: Layout, name: str) -> None:
    for kind in (PROCESSES, EXPORTERS, ALERTMANAGERS):
        (layout.prometheus / kind / f"{name}.json").unlink(missing_ok=True)
