"""The Docker runtime on a real engine: a scratch compose file, an image of one small server, containers of its own."""

from __future__ import annotations

import http.client
import json
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.docker import engine
from infra.docker.runtime import DockerRuntime
from infra.runtime import Runtime, RuntimeProblem
from tests.hardened import hardened
from tests.integration.infra.stack import COMPOSE, SERVER, eventually, free_low_ports

BASE = "python:3.13-slim"
DOCKERFILE = f"FROM {BASE}\nWORKDIR /lab\nCOPY server.py prepare.py ./\n"

TOXIPROXY = """
  toxiproxy:
    image: "scratch:dev"
    build: .
    command: ["python", "server.py"]
    environment: {HTTP_PORT: "%(extra)d"}
    ports: ["127.0.0.1:%(extra)d:%(extra)d"]
    healthcheck: {test: ["CMD", "python", "-m", "services.kit.probe", "http://127.0.0.1:%(extra)d/"]}
"""


def unavailable() -> str:
    """Why these tests cannot run here."""
    try:
        engine.answers()
        if not engine.has_image(BASE):
            engine.run(["docker", "pull", "--quiet", BASE], timeout=300.0)
    except RuntimeProblem as problem:
        return str(problem)
    return ""


WHY_NOT = unavailable()
pytestmark = [pytest.mark.integration, pytest.mark.docker, pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)]


@dataclass(slots=True)
class Checkout:
    root: Path
    opened: list[DockerRuntime]

    def runtime(self, project: str = "dev", *, edges: bool = False) -> DockerRuntime:
        runtime = DockerRuntime(project, edges=edges, root=self.root)
        self.opened.append(runtime)
        return runtime


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    ports = free_low_ports(["web", "back", "edge", "extra"])
    image = f"lab-scratch:{tmp_path.parent.name}-{tmp_path.name}".lower()
    compose = (COMPOSE + TOXIPROXY) % ports
    (tmp_path / "docker-compose.yml").write_text(hardened(compose.replace("scratch:dev", image)))
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    (tmp_path / "server.py").write_text(SERVER.replace('("127.0.0.1",', '("0.0.0.0",'))
    (tmp_path / "prepare.py").write_text("import os; print('prepared', os.environ['COLOUR'])\n")
    made = Checkout(tmp_path, [])
    yield made
    for runtime in made.opened:
        runtime.remove()
    engine.run(["docker", "rmi", "-f", image])


def get(runtime: Runtime, service: str, path: str = "/") -> bytes:
    connection = http.client.HTTPConnection(*runtime.address(service), timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


def watched(checkout: Checkout) -> dict[str, str]:
    """What Prometheus is told of, by name."""
    files = (checkout.root / ".lab/config/docker/prometheus/targets").glob("*.json")
    return {file.stem: json.loads(file.read_text())[0]["targets"][0] for file in files}


def states(runtime: Runtime) -> dict[str, str]:
    return {row.service: row.state for row in runtime.status()}


def test_up_starts_dependencies_first_and_a_second_up_changes_nothing(checkout: Checkout) -> None:
    runtime = checkout.runtime()
    lines: list[str] = []
    runtime.up(["web"], env={"COLOUR": "red"}, progress=lines.append)
    started = [line.partition(":")[0] for line in lines if line.endswith("starting")]
    assert started == ["back", "prepare", "web"]
    assert states(runtime) == {"back": "running", "prepare": "done", "web": "running"}
    assert get(runtime, "web") == b"red"
    before = runtime.identity("web")
    checkout.runtime().up(["web"], env={"COLOUR": "red"}, progress=lines.append)
    assert lines[-1] == "all 3 services are up already"
    assert runtime.identity("web") == before


def test_other_variables_start_the_named_service_anew_and_leave_its_dependencies(checkout: Checkout) -> None:
    runtime = checkout.runtime()
    runtime.up(["web"], env={"COLOUR": "red"})
    back = runtime.identity("back")
    runtime.up(["web"], env={"COLOUR": "blue"})
    assert get(runtime, "web") == b"blue"
    assert get(runtime, "back") == b"red"
    assert runtime.identity("back") == back
    assert "prepared blue" in runtime.logs("prepare")


def test_kill_is_proven_and_start_gives_a_new_life_with_the_same_variables(checkout: Checkout) -> None:
    runtime = checkout.runtime()
    runtime.up(["back"], env={"COLOUR": "red"})
    died = runtime.kill("back")
    assert runtime.identity("back") is None
    (row,) = runtime.status()
    assert (row.state, row.exit_code, row.detail) == ("exited", 137, "killed")
    with pytest.raises(RuntimeProblem, match="nothing to kill"):
        runtime.kill("back")
    born = runtime.start("back")
    assert (born.pid, born.started_at) != (died.pid, died.started_at)
    assert get(runtime, "back") == b"red"
    assert runtime.status()[0].restarts == 1


def test_a_paused_service_answers_nothing_until_it_is_resumed(checkout: Checkout) -> None:
    runtime = checkout.runtime()
    runtime.up(["back"])
    who = runtime.pause("back")
    assert not runtime.healthy("back")
    assert states(runtime) == {"back": "paused"}
    assert runtime.resume("back") == who
    assert runtime.resume("back") == who
    assert runtime.healthy("back")
    runtime.pause("back")
    assert runtime.kill("back") == who


def test_a_process_that_stops_itself_is_seen_paused_and_resumed(checkout: Checkout) -> None:
    runtime = checkout.runtime()
    runtime.up(["back"])
    who = runtime.identity("back")
    assert not runtime.stands_still("back")
    with suppress(OSError):  # it may answer before the signal has reached all its threads
        get(runtime, "back", "/stop")
    eventually(lambda: runtime.stands_still("back"), "it stands still")
    assert runtime.pause("back") == who
    assert runtime.stands_still("back")
    assert runtime.resume("back") == who
    assert not runtime.stands_still("back")
    assert runtime.healthy("back")


def test_a_cut_service_runs_on_and_reaches_nobody_until_it_is_put_back_under_its_name(checkout: Checkout) -> None:
    runtime = checkout.runtime()
    runtime.up(["web"], env={"COLOUR": "red"})
    host, port = "back", runtime.address("back")[1]
    ask = f"import urllib.request; urllib.request.urlopen('http://{host}:{port}/', timeout=5)"
    from_web = ["docker", "exec", runtime_container(runtime, "web"), "python", "-c", ask]
    engine.run(from_web)
    who = runtime.cut("back")
    assert runtime.cut("back") == who
    assert states(runtime)["back"] == "running"
    assert {row.service: row.detail for row in runtime.status()}["back"] == "cut off"
    assert not runtime.healthy("back")
    with pytest.raises(RuntimeProblem):
        engine.run(from_web)
    assert runtime.uncut("back") == who
    assert runtime.uncut("back") == who
    engine.run(from_web)
    assert runtime.healthy("back")
    assert get(runtime, "back") == b"red"
    with pytest.raises(RuntimeProblem, match="worker has not been started"):
        runtime.cut("worker")
    assert runtime.uncut("worker") is None


def test_a_service_that_never_gets_healthy_ends_up_within_its_bound_and_is_stopped(checkout: Checkout) -> None:
    runtime = checkout.runtime()
    runtime.up(["prepare"], env={"NEVER_READY": "1"})  # so that only web starts within the bound
    with pytest.raises(RuntimeProblem, match="Not healthy within 4 s: web"):
        runtime.up(["web"], env={"NEVER_READY": "1"}, timeout=4.0)
    assert runtime.identity("web") is None
    assert runtime.identity("back") is not None


def test_a_service_that_dies_while_starting_stops_up_with_its_last_words(checkout: Checkout) -> None:
    (checkout.root / "prepare.py").write_text("raise SystemExit('no room for the table')\n")
    runtime = checkout.runtime()
    with pytest.raises(RuntimeProblem, match=r"prepare ended while starting \(exit code 1\): no room for the table"):
        runtime.up(["web"])
    assert "running" not in states(runtime).values()


def test_workers_publish_no_fixed_port_and_scale_and_prometheus_finds_them_by_name(checkout: Checkout) -> None:
    runtime = checkout.runtime()
    runtime.up(["worker"])
    assert get(runtime, "worker") == b""
    assert watched(checkout) == {"worker": "worker:19000"}
    runtime.scale("worker", 3)
    assert states(runtime) == {"worker": "running", "worker-2": "running", "worker-3": "running"}
    assert len({runtime.address(name) for name in ("worker", "worker-2", "worker-3")}) == 3
    prefix = runtime.containers()["worker"].full_name.removesuffix("-1")
    copies = {"worker": f"{prefix}-1:19000", "worker-2": f"{prefix}-2:19000", "worker-3": f"{prefix}-3:19000"}
    assert watched(checkout) == copies
    ask = f"import urllib.request; urllib.request.urlopen('http://{copies['worker-3']}/', timeout=5)"
    engine.run(["docker", "exec", runtime_container(runtime, "worker"), "python", "-c", ask])
    runtime.scale("worker", 2)
    assert watched(checkout).keys() == {"worker", "worker-2"}
    runtime.down()
    assert watched(checkout) == {}
    runtime.up(["back"])
    with pytest.raises(RuntimeProblem, match="cannot run 2 times"):
        runtime.scale("back", 2)


def test_with_edges_the_client_is_sent_to_the_proxy_by_name(checkout: Checkout) -> None:
    runtime = checkout.runtime("lab", edges=True)
    runtime.up(["web"])
    assert runtime.identity("toxiproxy") is not None
    edge = runtime.edges()["web.back"]
    inside = engine.run(["docker", "exec", runtime_container(runtime, "web"), "printenv", "BACK"])
    assert inside.strip() == edge.listen
    assert edge.listen.startswith("toxiproxy:")
    assert edge.upstream.startswith("back:")


def test_a_second_project_runs_beside_the_first_with_its_ports_shifted(checkout: Checkout) -> None:
    first, second = checkout.runtime("dev"), checkout.runtime("lab")
    first.up(["back"], env={"COLOUR": "red"})
    second.up(["back"], env={"COLOUR": "blue"})
    assert second.address("back")[1] == first.address("back")[1] + 5000
    assert (get(first, "back"), get(second, "back")) == (b"red", b"blue")
    first.down()
    assert get(second, "back") == b"blue"


def test_forget_and_down_leave_no_container(checkout: Checkout) -> None:
    runtime = checkout.runtime()
    runtime.up(["web"])
    runtime.pause("web")
    runtime.forget("web")
    assert "web" not in states(runtime)
    runtime.pause("back")
    runtime.down()
    assert runtime.status() == []
    with pytest.raises(RuntimeProblem, match="has not been started"):
        runtime.kill("web")


def test_a_command_beside_a_service_shares_its_network(checkout: Checkout) -> None:
    runtime = checkout.runtime()
    runtime.up(["back"])
    port = runtime.address("back")[1]
    ask = f"import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:{port}/').status)"
    assert engine.run([*runtime.beside("back"), "-c", ask]).strip() == "200"


def test_a_command_beside_a_service_is_no_service(checkout: Checkout) -> None:
    """An image that compose built says of which service, and what is started from it says the same."""
    runtime = checkout.runtime()
    runtime.up(["web"])
    before = states(runtime)
    argv = [*runtime.beside("back"), "-c", "import sys; print('there', flush=True); sys.stdin.read()"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as helper:
        assert helper.stdin is not None
        assert helper.stdout is not None
        assert helper.stdout.readline() == "there\n"
        project = next(word for word in argv if word.startswith("com.docker.compose.project="))
        listed = engine.run(["docker", "ps", "-q", "--filter", f"label={project}"]).split()
        assert len(listed) == len([state for state in before.values() if state == "running"]) + 1
        assert (states(runtime), len(runtime.status())) == (before, len(before))
        helper.stdin.close()


def test_a_busy_port_is_a_sentence_and_nothing_is_left(checkout: Checkout) -> None:
    first = checkout.runtime("dev")
    first.up(["back"])
    stranger = DockerRuntime("dev", edges=False, root=checkout.root)
    port = first.address("back")[1]
    other = checkout.root / "other"
    other.mkdir()
    for name in ("docker-compose.yml", "Dockerfile", "server.py", "prepare.py"):
        (other / name).write_text((checkout.root / name).read_text())
    stranger = DockerRuntime("dev", edges=False, root=other)
    checkout.opened.append(stranger)
    with pytest.raises(
        RuntimeProblem, match=rf"^Port {port} of back is in use by .*; .* set BACK_PORT to another port"
    ):
        stranger.up(["back"])
    assert states(stranger) == {}


def runtime_container(runtime: DockerRuntime, service: str) -> str:
    return runtime.containers()[service].id
