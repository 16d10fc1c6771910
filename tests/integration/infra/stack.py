"""A scratch checkout for the native runtime: a compose file, a small server, free ports, and proof that nothing is left."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from infra.native import procfs
from infra.native.free_ports import HIGHEST, free_ports, reserve
from infra.native.runtime import NativeRuntime
from infra.runtime import ServiceStatus

REPOSITORY = Path(__file__).resolve().parents[3]

INTERRUPTIBLE = ("env", "--default-signal=INT,HUP")
"""Before a command: a test run that was started in the background hands down ignored signals."""

SERVER = """
import http.server, os, signal, subprocess, sys, threading
held = []
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith("/eat/"):
            held.append(b"x" * (int(self.path.split("/")[2]) << 20))
        if self.path == "/child":
            held.append(subprocess.Popen(["sleep", "600"]))
        if self.path == "/exit":
            os._exit(7)
        if self.path == "/stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        self.send_response(503 if os.environ.get("NEVER_READY") else 200)
        body = os.environ.get("COLOUR", "").encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
print("listening", flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["HTTP_PORT"])), Handler).serve_forever()
"""

COMPOSE = """
name: scratch
x-own: &own {image: "scratch:dev", build: ., restart: "no", stop_grace_period: 3s}
x-edges:
  web.back: {listen: "${EDGE_PORT_WEB_BACK:-%(edge)d}", upstream: "${BACK_HOST:-back}:${BACK_PORT:-%(back)d}"}
services:
  back:
    <<: *own
    profiles: [all]
    command: ["python", "server.py"]
    environment: {HTTP_PORT: "${BACK_PORT:-%(back)d}", COLOUR: "${COLOUR:-}"}
    ports: ["127.0.0.1:${BACK_PORT:-%(back)d}:${BACK_PORT:-%(back)d}"]
    healthcheck: {test: ["CMD", "python", "-m", "services.kit.probe", "http://127.0.0.1:${BACK_PORT:-%(back)d}/health/ready"]}
    mem_limit: 96m
  prepare:
    <<: *own
    profiles: [all]
    command: ["python", "prepare.py"]
    environment: {COLOUR: "${COLOUR:-}"}
    depends_on: {back: {condition: service_healthy}}
  web:
    <<: *own
    profiles: [all]
    command: ["python", "server.py"]
    environment:
      HTTP_PORT: "${WEB_PORT:-%(web)d}"
      BACK: "${EDGE_WEB_BACK:-${BACK_HOST:-back}:${BACK_PORT:-%(back)d}}"
      COLOUR: "${COLOUR:-}"
      NEVER_READY: "${NEVER_READY:-}"
    ports: ["127.0.0.1:${WEB_PORT:-%(web)d}:${WEB_PORT:-%(web)d}"]
    depends_on: {prepare: {condition: service_completed_successfully}}
    healthcheck: {test: ["CMD", "python", "-m", "services.kit.probe", "http://127.0.0.1:${WEB_PORT:-%(web)d}/health/ready"]}
    mem_limit: 96m
  worker:
    <<: *own
    profiles: [all]
    command: ["python", "server.py"]
    environment: {HTTP_PORT: "19000"}
    healthcheck: {test: ["CMD", "python", "-m", "services.kit.probe", "http://127.0.0.1:19000/health/ready"]}
"""


@dataclass(slots=True)
class Scratch:
    """`root` is the checkout. `runtime` opens a project of it; `leftovers` lists what still runs of all of them."""

    root: Path
    ports: dict[str, int]
    opened: list[NativeRuntime] = field(default_factory=list)

    def runtime(self, project: str = "dev", *, edges: bool = False) -> NativeRuntime:
        runtime = NativeRuntime(project, edges=edges, root=self.root, tools=REPOSITORY / ".lab")
        self.opened.append(runtime)
        return runtime

    def leftovers(self) -> list[str]:
        """Command lines of live processes that mention this checkout or work inside it, and do not end by themselves."""
        until = time.monotonic() + 2  # the shell that has waited for a process ends a moment after it
        while self._left() and time.monotonic() < until:
            time.sleep(0.02)
        return [f"{stat.pid} {' '.join(procfs.command_line(stat.pid))}" for stat in self._left()]

    def kill_leftovers(self) -> list[str]:
        """What was left, killed, so that a failed test disturbs no other."""
        left = self.leftovers()
        for stat in self._left():
            procfs.send(stat, signal.SIGKILL)
        return left

    def _left(self) -> list[procfs.Stat]:
        others = [stat for stat in procfs.all_stats() if stat.alive and stat.pid != os.getpid()]
        return [
            stat
            for stat in others
            if str(self.root) in " ".join(procfs.command_line(stat.pid)) or _works_below(stat.pid, self.root)
        ]

    def clear(self) -> None:
        for runtime in self.opened:
            runtime.down()


def write_scratch(root: Path, compose: str = COMPOSE) -> Scratch:
    ports = free_low_ports(["web", "back", "edge", "extra"])
    root.chmod(0o755)
    (root / "docker-compose.yml").write_text(compose % ports)
    (root / "server.py").write_text(SERVER)
    (root / "prepare.py").write_text("open('prepared', 'a').write('x')\n")
    return Scratch(root, ports)


SHIFT = 5000
"""Between the ports of a project and those of one that is shifted."""


def xdist_number() -> int:
    """0 for the first worker or none: parallel workers take their ports from different ranges."""
    return int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


def free_low_ports(names: Sequence[str]) -> dict[str, int]:
    """Free ports below the kernel's own range, each with one above it for a shifted project: all kept for this process."""
    found: list[int] = []
    while len(found) < len(names):
        (port,) = free_ports(1, below=HIGHEST - SHIFT)
        if reserve(port + SHIFT):
            found.append(port)
    return dict(zip(names, found, strict=True))


def row(runtime: NativeRuntime, service: str) -> ServiceStatus:
    return next(row for row in runtime.status() if row.service == service)


def eventually(condition: Callable[[], bool], what: str, bound: float = 20.0) -> None:
    deadline = time.monotonic() + bound
    while not condition():
        assert time.monotonic() < deadline, f"not within {bound} s: {what}"
        time.sleep(0.02)


def send(pid: int, number: signal.Signals) -> None:
    stat = procfs.read_stat(pid)
    assert stat is not None
    assert procfs.send(stat, number)


def _works_below(pid: int, root: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").readlink().is_relative_to(root)
    except OSError:
        return False
