"""`python -m infra.docker.defaults`: the files that plain `docker compose` mounts where no runtime of ours has rendered any.

They name the services by their host names on compose's network and the ports that the file gives by default; whoever
changes ports in `.env` starts the stack with `make up`, which renders the same files for that.
"""

from __future__ import annotations

import json
from pathlib import Path

from infra.native.compose import ComposeFile, Stack
from infra.native.render import ALERTMANAGERS, EXPORTERS, PROCESSES, target_kinds
from infra.native.runtime import CHECKOUT
from infra.native.startup import is_one_shot

FILE_OF_TARGETS = "compose.json"
PROFILES = ("week2", "observe")
"""What is watched: a lab's own programs run under the lab."""


def files(root: Path = CHECKOUT) -> dict[Path, str]:
    """Path below the checkout and text of each."""
    stack = ComposeFile(root / "docker-compose.yml").resolve({})
    kinds = (PROCESSES, EXPORTERS, ALERTMANAGERS)
    targets = {Path("infra/prometheus") / kind / FILE_OF_TARGETS: _json(_targets(stack, kind)) for kind in kinds}
    return targets | {Path("infra/toxiproxy/toxiproxy.json"): _json(_proxies(stack))}


def workers(stack: Stack) -> list[str]:
    """Services of ours without a published port: any number of copies, found by DNS."""
    return [name for name, one in stack.services.items() if one.builds and not one.ports and not is_one_shot(one)]


def write(root: Path = CHECKOUT) -> None:
    for path, text in files(root).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, "utf-8")
        print(path)


def _targets(stack: Stack, kind: str) -> list[dict[str, object]]:
    return [
        {"targets": [f"{name}:{one.ports[0].target}"], "labels": {"job": name, "process": name}}
        for name, one in stack.services.items()
        if kind in target_kinds(one) and one.ports and one.profiles & set(PROFILES)
    ]


def _proxies(stack: Stack) -> list[dict[str, object]]:
    return [
        {"name": edge.name, "listen": f"0.0.0.0:{edge.listen}", "upstream": edge.upstream, "enabled": True}
        for edge in stack.edges.values()
    ]


def _json(rows: list[dict[str, object]]) -> str:
    return "[\n" + ",\n".join(" " + json.dumps(row) for row in rows) + "\n]\n"


if __name__ == "__main__":
    write()
