"""Writes the files that name hosts and ports: Prometheus' configuration and targets, Toxiproxy's proxies."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from infra.native.layout import Layout
from infra.runtime import Edge

_INFRA = Path(__file__).resolve().parent.parent


def render_config(layout: Layout, edges: Iterable[Edge]) -> None:
    """Prometheus' file is plain; Toxiproxy's comes from the edges."""
    layout.targets.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(_INFRA / "prometheus" / "prometheus.yml", layout.config / "prometheus" / "prometheus.yml")
    proxies = [{"name": e.name, "listen": e.listen, "upstream": e.upstream, "enabled": True} for e in edges]
    folder = layout.config / "toxiproxy"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "toxiproxy.json").write_text(json.dumps(proxies, indent=1))


def write_target(layout: Layout, name: str, service: str, port: int) -> None:
    """Prometheus watches the folder (file_sd). Renamed into place, so that it never reads half a file."""
    layout.targets.mkdir(parents=True, exist_ok=True)
    target = layout.targets / f"{name}.json"
    part = target.with_suffix(".part")
    part.write_text(json.dumps([{"targets": [f"127.0.0.1:{port}"], "labels": {"job": service, "process": name}}]))
    part.rename(target)


def remove_target(layout: Layout, name: str) -> None:
    (layout.targets / f"{name}.json").unlink(missing_ok=True)
