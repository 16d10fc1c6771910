"""A small stack to break by hand: a client, its server behind a proxy, Redis with a volume; and the command as a process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.integration.infra.stack import INTERRUPTIBLE, REPOSITORY, Scratch, eventually

SERVER = """
import http.server, json, os, time
from datetime import datetime, timedelta, timezone
offset = 0.0
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        now = datetime.now(timezone.utc) + timedelta(seconds=offset)
        clock = json.dumps({"now": now.isoformat(), "offset_seconds": offset, "reads": 0}).encode()
        self.answer(clock if self.path == "/lab/clock" else b"#" * (40_000 if self.path == "/metrics" else 2))
    def do_PUT(self):
        global offset
        offset = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["offset_seconds"]
        self.answer(b"{}")
    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
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
    command: ["python", "server.py"]
    environment: {HTTP_PORT: "${BACK_PORT:-%(back)d}"}
    ports: ["127.0.0.1:${BACK_PORT:-%(back)d}:${BACK_PORT:-%(back)d}"]
    healthcheck: {test: ["CMD", "python", "-m", "services.kit.probe", "http://127.0.0.1:${BACK_PORT:-%(back)d}/health/ready"]}
  web:
    <<: *own
    command: ["python", "server.py"]
    environment:
      HTTP_PORT: "${WEB_PORT:-%(web)d}"
      BACK: "http://${EDGE_WEB_BACK:-${BACK_HOST:-back}:${BACK_PORT:-%(back)d}}"
    ports: ["127.0.0.1:${WEB_PORT:-%(web)d}:${WEB_PORT:-%(web)d}"]
    depends_on: {back: {condition: service_healthy}}
    healthcheck: {test: ["CMD", "python", "-m", "services.kit.probe", "http://127.0.0.1:${WEB_PORT:-%(web)d}/health/ready"]}
  toxiproxy:
    image: ghcr.io/shopify/toxiproxy:2.12.0
    command: ["-host=${BIND_HOST:-0.0.0.0}", "-port=${TOXIPROXY_PORT:-%(toxiproxy)d}", "-config=/config/toxiproxy.json"]
    ports: ["127.0.0.1:${TOXIPROXY_PORT:-%(toxiproxy)d}:${TOXIPROXY_PORT:-%(toxiproxy)d}"]
    volumes: ["${LAB_CONFIG:-./config}/toxiproxy:/config:ro"]
    restart: "no"
  redis:
    image: redis:8.0
    command: ["redis-server", "--port", "${REDIS_PORT:-%(redis)d}", "--appendonly", "yes"]
    ports: ["127.0.0.1:${REDIS_PORT:-%(redis)d}:${REDIS_PORT:-%(redis)d}"]
    volumes: ["redis:/data"]
    healthcheck: {test: ["CMD", "redis-cli", "-p", "${REDIS_PORT:-%(redis)d}", "ping"]}
    restart: "no"
volumes:
  redis: {}
"""

COMMAND = "import sys; from pathlib import Path; from labs.chaos.command import main; sys.exit(main(sys.argv[2:], root=Path(sys.argv[1])))"


@dataclass
class Running:
    """A chaos command with `--json`; its events as they come."""

    process: subprocess.Popen[str]
    events: list[dict[str, Any]] = field(default_factory=list)

    def until(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The next event that meets it. The command's own bounds bound the wait."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.append(json.loads(line))
            if condition(self.events[-1]):
                return self.events[-1]
        raise AssertionError(f"it ended before: {self.events} {self.process.stderr and self.process.stderr.read()}")

    def event(self, kind: str) -> dict[str, Any]:
        return self.until(lambda event: event["event"] == kind)

    def end(self) -> int:
        """The rest of its events, and its exit code."""
        assert self.process.stdout is not None
        self.events += [json.loads(line) for line in self.process.stdout]
        code = self.process.wait(60)
        assert self.process.stderr is not None
        assert self.process.stderr.read() == ""
        self.process.stdout.close()
        self.process.stderr.close()
        return code

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == kind]


def chaos(scratch: Scratch, *words: str) -> Running:
    argv = [*INTERRUPTIBLE, sys.executable, "-c", COMMAND, str(scratch.root), *words, "--json"]
    return Running(subprocess.Popen(argv, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))


def nothing_is_broken(scratch: Scratch) -> None:
    """The register is empty and all is up and calm."""
    runtime = scratch.runtime()
    assert list((scratch.root / ".lab/projects/dev/chaos").glob("*.json")) == []
    assert {row.state for row in runtime.status()} == {"running"}
    for row in runtime.status():
        eventually(lambda name=row.service: runtime.healthy(name), f"{row.service} is healthy")  # type: ignore[misc]  # mypy infers no type for a default of a lambda
