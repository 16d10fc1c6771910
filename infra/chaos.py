"""Breaking by hand: what `make chaos` offers on a running stack."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass

from infra.runtime import Edge, Runtime, RuntimeProblem


@dataclass(frozen=True, slots=True)
class Script:
    name: str
    target: str
    text: str


SCRIPTS = (
    Script("kill", "service", "SIGKILL a service with everything below it; nothing starts it again"),
    Script("pause", "service", "freeze a service (SIGSTOP): connections stay open, nobody answers"),
    Script("resume", "service", "thaw a paused service"),
    Script("restart", "service", "stop and start a service, or start one that was killed"),
    Script("latency", "edge", "delay the answers on an edge by ms= milliseconds (200 if not given)"),
    Script("cut", "edge", "refuse and drop all connections of an edge"),
    Script(
        "heal",
        "service or edge, or nothing for all",
        "undo latency and cut, resume what is paused, start what was killed",
    ),
)


def apply(runtime: Runtime, script: str, target: str, milliseconds: int) -> str:
    """Do one script and say what was done. Raises RuntimeProblem for an unknown script or target."""
    match script:
        case "kill" | "pause" | "resume" | "restart":
            return _to_service(runtime, script, target)
        case "latency":
            edge = _edge(runtime, target)
            _request(runtime, "DELETE", f"/proxies/{edge.name}/toxics/chaos", None, accept={204, 404})
            toxic = {
                "name": "chaos",
                "type": "latency",
                "stream": "downstream",
                "attributes": {"latency": milliseconds},
            }
            _request(runtime, "POST", f"/proxies/{edge.name}/toxics", toxic)
            return f"answers on {edge.name} take {milliseconds} ms longer until 'make chaos do=heal'"
        case "cut":
            edge = _edge(runtime, target)
            _request(runtime, "POST", f"/proxies/{edge.name}", {"enabled": False})
            return f"{edge.name} is cut until 'make chaos do=heal'"
        case "heal":
            return heal(runtime, target)
        case _:
            raise RuntimeProblem(
                f"There is no chaos script '{script}'; there are {', '.join(s.name for s in SCRIPTS)}."
            )


def _to_service(runtime: Runtime, script: str, target: str) -> str:
    if not target:
        raise RuntimeProblem(f"Say which service: make chaos do={script} target=NAME; 'make status' lists them.")
    match script:
        case "kill":
            who = runtime.kill(target)
            return f"{target} (pid {who.pid}) is dead; 'make chaos do=restart target={target}' brings it back"
        case "pause":
            who = runtime.pause(target)
            return f"{target} (pid {who.pid}) is frozen; 'make chaos do=resume target={target}' thaws it"
        case "resume":
            return f"{target} (pid {runtime.resume(target).pid}) runs"
        case _:
            return f"{target} runs anew (pid {runtime.restart(target).pid})"


def heal(runtime: Runtime, target: str) -> str:
    """Resume first, then the edges, then start what was killed."""
    healed = []
    rows = [row for row in runtime.status() if target in {"", row.service}]
    for row in rows:
        if row.state == "paused":
            runtime.resume(row.service)
            healed.append(row.service)
    if any(row.service == "toxiproxy" and row.state == "running" for row in runtime.status()):
        for edge in runtime.edges().values():
            if target in {"", edge.name}:
                _request(runtime, "DELETE", f"/proxies/{edge.name}/toxics/chaos", None, accept={204, 404})
                _request(runtime, "POST", f"/proxies/{edge.name}", {"enabled": True})
                healed.append(edge.name)
    for row in rows:
        if row.state == "exited":
            runtime.start(row.service)
            healed.append(row.service)
    return f"healed: {', '.join(healed)}" if healed else "there was nothing to heal"


def _edge(runtime: Runtime, name: str) -> Edge:
    edges = runtime.edges()
    if name not in edges:
        raise RuntimeProblem(f"There is no edge '{name}'; the edges are {', '.join(edges)}.")
    if not any(row.service == "toxiproxy" and row.state == "running" for row in runtime.status()):
        raise RuntimeProblem(
            "The clients go to their servers directly; 'make down', then 'make up edges=1' puts Toxiproxy between."
        )
    return edges[name]


def _request(runtime: Runtime, method: str, path: str, body: object, accept: set[int] | None = None) -> None:
    host, port = runtime.address("toxiproxy")
    connection = http.client.HTTPConnection(host, port, timeout=5.0)
    try:
        connection.request(
            method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"}
        )
        response = connection.getresponse()
        text = response.read().decode(errors="replace")
    except OSError as error:
        raise RuntimeProblem(f"Toxiproxy does not answer on port {port}: {error}.") from None
    finally:
        connection.close()
    if response.status not in (accept or {200, 204}):
        raise RuntimeProblem(f"Toxiproxy refused {method} {path}: {text.strip()}.")
