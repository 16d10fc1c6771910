from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from infra.native import procfs
from infra.native.layout import Layout
from infra.native.runtime import NativeRuntime
from infra.native.state import StateFile
from infra.native.warden_control import WardenControl
from infra.runtime import RuntimeProblem
from tests.integration.infra.stack import INTERRUPTIBLE, REPOSITORY, Scratch, eventually, row, send

pytestmark = pytest.mark.integration

UP = """
import signal, sys
from pathlib import Path
from infra.native.runtime import NativeRuntime
from infra.runtime import RuntimeProblem
runtime = NativeRuntime("dev", edges=False, root=Path(sys.argv[1]), tools=Path(".lab").absolute())
try:
    runtime.up(["web"], progress=lambda line: print(line, flush=True), timeout=30.0)
except RuntimeProblem as problem:
    sys.exit(str(problem))
except KeyboardInterrupt:
    sys.exit(130)
"""


def get(runtime: NativeRuntime, service: str, path: str = "/") -> bytes:
    connection = http.client.HTTPConnection(*runtime.address(service), timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


def up_in_another_process(scratch: Scratch, **env: str) -> subprocess.Popen[str]:
    words = [*INTERRUPTIBLE, sys.executable, "-c", UP, str(scratch.root)]
    return subprocess.Popen(
        words, cwd=REPOSITORY, env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def state_file(scratch: Scratch) -> StateFile:
    return StateFile(Layout(scratch.root, REPOSITORY / ".lab", "dev"))


# --- up and down ---


def test_up_starts_dependencies_first_and_returns_when_all_is_healthy(scratch: Scratch) -> None:
    runtime = scratch.runtime()
    lines: list[str] = []
    runtime.up(["web"], progress=lines.append)
    started = [line.partition(":")[0] for line in lines if line.endswith("starting")]
    assert started == ["back", "prepare", "web"]
    assert [(line.service, line.state) for line in runtime.status()] == [
        ("back", "running"),
        ("prepare", "done"),
        ("web", "running"),
    ]
    assert runtime.healthy("web")
    assert runtime.logs("web")[-1] == "listening"


def test_a_second_up_changes_nothing_and_says_so(scratch: Scratch) -> None:
    runtime = scratch.runtime()
    runtime.up(["web"])
    before = runtime.identity("web")
    lines: list[str] = []
    scratch.runtime().up(["web"], progress=lines.append)
    assert lines == ["all 3 services are up already"]
    assert runtime.identity("web") == before
    assert (scratch.root / "prepared").read_text() == "x"


def test_two_ups_at_once_start_everything_once(scratch: Scratch) -> None:
    both = [up_in_another_process(scratch) for _ in range(2)]
    outputs = [one.communicate(timeout=60) for one in both]
    assert [one.returncode for one in both] == [0, 0], outputs
    assert (scratch.root / "prepared").read_text() == "x"
    assert {line.restarts for line in scratch.runtime().status()} == {0}
    assert len([line for line in scratch.leftovers() if line.endswith("server.py") and "sh -c" not in line]) == 2


def test_down_stops_everything_with_the_children(scratch: Scratch) -> None:
    runtime = scratch.runtime()
    runtime.up(["web", "worker"])
    get(runtime, "web", "/child")
    runtime.down()
    assert scratch.leftovers() == []
    assert runtime.status() == []


def test_down_stops_in_reverse_order_of_dependence(scratch: Scratch) -> None:
    runtime = scratch.runtime()
    runtime.up(["web", "worker"])
    lines: list[str] = []
    runtime.down(progress=lines.append)
    assert lines == ["stopping worker, web", "stopping back"]


def test_interrupting_up_stops_what_it_started(scratch: Scratch) -> None:
    process = up_in_another_process(scratch, NEVER_READY="1")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("web: starting"):
            break
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    running = [line.service for line in scratch.runtime().status() if line.state == "running"]
    assert running == []


def test_interrupting_up_leaves_alone_what_ran_before(scratch: Scratch) -> None:
    runtime = scratch.runtime()
    runtime.up(["back"])
    before = runtime.identity("back")
    process = up_in_another_process(scratch, NEVER_READY="1")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("web: starting"):
            break
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert runtime.identity("back") == before
    assert runtime.identity("web") is None


def test_a_service_that_dies_while_starting_stops_up_with_its_last_words(scratch: Scratch) -> None:
    (scratch.root / "prepare.py").write_text("raise SystemExit('no table today')\n")
    runtime = scratch.runtime()
    with pytest.raises(RuntimeProblem, match=r"prepare ended while starting \(exit code 1\): no table today"):
        runtime.up(["web"])
    assert runtime.identity("back") is None


def test_a_program_that_does_not_exist_stops_up_with_a_sentence(scratch: Scratch) -> None:
    file = scratch.root / "docker-compose.yml"
    file.write_text(file.read_text().replace('["python", "prepare.py"]', '["no-such-program"]'))
    with pytest.raises(RuntimeProblem, match=r"prepare .*not found"):
        scratch.runtime().up(["web"])


def test_a_service_that_never_gets_healthy_ends_up_within_its_bound(scratch: Scratch) -> None:
    runtime = scratch.runtime()
    runtime.up(["prepare"])  # so that only web starts within the bound
    with pytest.raises(RuntimeProblem, match="Not healthy within 2 s: web"):
        runtime.up(["web"], env={"NEVER_READY": "1"}, timeout=2.0)
    assert runtime.identity("web") is None


# --- variables ---


def test_variables_are_kept_for_later_restarts(scratch: Scratch) -> None:
    runtime = scratch.runtime()
    runtime.up(["web"], env={"COLOUR": "blue"})
    runtime.kill("web")
    scratch.runtime().start("web")
    assert get(runtime, "web") == b"blue"
    assert row(runtime, "web").restarts == 1


def test_other_variables_run_a_one_shot_again_and_leave_dependencies_alone(scratch: Scratch) -> None:
    runtime = scratch.runtime()
    runtime.up(["web"], env={"COLOUR": "blue"})
    back = runtime.identity("back")
    runtime.forget("web")
    runtime.up(["web"], env={"COLOUR": "red"})
    assert (scratch.root / "prepared").read_text() == "xx"
    assert runtime.identity("back") == back
    assert get(runtime, "web") == b"red"
    assert get(runtime, "back") == b"blue"


def test_a_named_service_with_other_variables_is_started_anew(scratch: Scratch) -> None:
    runtime = scratch.runtime()
    runtime.up(["back"], env={"COLOUR": "blue"})
    runtime.up(["back"], env={"COLOUR": "red"})
    assert get(runtime, "back") == b"red"


def test_an_env_file_sets_ports(scratch: Scratch) -> None:
    (scratch.root / ".env").write_text(f"WEB_PORT={scratch.ports['extra']}\n")
    runtime = scratch.runtime()
    runtime.up(["web"])
    assert runtime.address("web") == ("127.0.0.1", scratch.ports["extra"])
    assert runtime.variable("WEB_PORT") == str(scratch.ports["extra"])


def test_a_port_that_is_no_number_is_named(scratch: Scratch) -> None:
    (scratch.root / ".env").write_text("WEB_PORT=many\n")
    with pytest.raises(RuntimeProblem, match="WEB_PORT must be a port number, not 'many'"):
        scratch.runtime()


# --- ports ---


def test_a_busy_port_is_named_with_its_holder_and_its_variable_before_anything_starts(scratch: Scratch) -> None:
    runtime = scratch.runtime()
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", scratch.ports["web"]))
        holder.listen()
        with pytest.raises(RuntimeProblem) as caught:
            runtime.up(["web"])
    assert f"Port {scratch.ports['web']} of web is in use by" in str(caught.value)
    assert f"(pid {os.getpid()})" in str(caught.value)
    assert "set WEB_PORT to another port in .env" in str(caught.value)
    assert runtime.status() == []


def test_a_second_project_runs_beside_the_first_with_its_ports_shifted(scratch: Scratch) -> None:
    first, second = scratch.runtime("dev"), scratch.runtime("lab")
    first.up(["back", "worker"])
    second.up(["back", "worker"])
    assert second.address("back")[1] == first.address("back")[1] + 5000
    assert second.variable("BACK_PORT") == str(scratch.ports["back"] + 5000)
    assert second.address("worker")[1] >= 24000
    first.down()
    assert second.healthy("back")
    assert scratch.runtime("lab").healthy("back")


def test_a_worker_gets_a_port_and_a_target_of_its_own(scratch: Scratch) -> None:
    runtime = scratch.runtime()
    runtime.up(["worker"])
    runtime.scale("worker", 3)
    ports = {runtime.address(name)[1] for name in ("worker", "worker-2", "worker-3")}
    assert len(ports) == 3
    targets = scratch.root / ".lab/config/native/prometheus/targets"
    written = {path.stem: json.loads(path.read_text())[0] for path in targets.glob("*.json")}
    assert set(written) == {"worker", "worker-2", "worker-3"}
    assert written["worker-2"]["labels"]["job"] == "worker"
    runtime.scale("worker", 1)
    assert [line.service for line in runtime.status()] == ["worker"]
    assert [path.stem for path in targets.glob("*.json")] == ["worker"]


def test_what_publishes_a_port_does_not_scale(scratch: Scratch) -> None:
    runtime = scratch.runtime()
    runtime.up(["back"])
    with pytest.raises(RuntimeProblem, match="without a published port"):
        runtime.scale("back", 2)


# --- death, and whom to trust ---


def test_a_child_that_died_is_seen_with_its_exit_code_and_started_by_the_next_up(scratch: Scratch) -> None:
    runtime = scratch.runtime()
    runtime.up(["back"])
    identity = runtime.identity("back")
    assert identity is not None
    send(identity.pid, signal.SIGKILL)
    eventually(lambda: row(runtime, "back").exit_code == 137, "exit code 137")
    assert row(runtime, "back").state == "exited"
    assert not runtime.healthy("back")
    runtime.up(["back"])
    assert runtime.identity("back") != identity


def test_an_exit_code_of_its_own_is_kept(scratch: Scratch) -> None:
    runtime = scratch.runtime()
    runtime.up(["back"])
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        get(runtime, "back", "/exit")
    eventually(lambda: row(runtime, "back").exit_code == 7, "exit code 7")


@pytest.mark.parametrize("changed", ["start_ticks", "boot_id", "program"])
def test_a_stale_pid_is_never_signalled(scratch: Scratch, changed: str) -> None:
    runtime = scratch.runtime()
    runtime.up(["back"])
    runtime.kill("back")
    stranger = subprocess.Popen(["sleep", "600"])
    try:
        stat = procfs.read_stat(stranger.pid)
        assert stat is not None
        with state_file(scratch).changing() as state:
            record = state.records["back"]
            record.pid, record.start_ticks, record.program = stranger.pid, stat.start_ticks, "sleep"
            setattr(record, changed, {"start_ticks": 1, "boot_id": "x", "program": "python"}[changed])
        assert row(runtime, "back").state == "exited"
        with pytest.raises(RuntimeProblem, match="not running"):
            runtime.kill("back")
        runtime.stop("back")
        runtime.up(["back"])
        runtime.down()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_damaged_state_file_is_said_in_a_sentence(scratch: Scratch) -> None:
    home = scratch.root / ".lab/projects/dev"
    home.mkdir(parents=True)
    (home / "state.json").write_text("{")
    with pytest.raises(RuntimeProblem, match="make clean"):
        scratch.runtime()
    (home / "state.json").unlink()


def test_kill_takes_the_whole_tree_and_proves_it(scratch: Scratch) -> None:
    runtime = scratch.runtime()
    runtime.up(["back"])
    get(runtime, "back", "/child")
    identity = runtime.identity("back")
    assert identity is not None
    members = [stat.pid for stat in procfs.tree(identity.pid)]
    assert len(members) == 2
    assert runtime.kill("back") == identity
    assert [pid for pid in members if (stat := procfs.read_stat(pid)) is not None and stat.alive] == []
    assert (row(runtime, "back").detail, row(runtime, "back").exit_code) == ("killed", 137)


def test_pause_freezes_the_whole_tree_and_resume_is_idempotent(scratch: Scratch) -> None:
    runtime = scratch.runtime()
    runtime.up(["back"])
    get(runtime, "back", "/child")
    identity = runtime.pause("back")
    assert {stat.state for stat in procfs.tree(identity.pid)} == {"T"}
    assert row(runtime, "back").state == "paused"
    for _ in range(2):
        assert runtime.resume("back") == identity
    assert runtime.healthy("back")


def test_a_process_that_stops_itself_is_seen_paused_and_resumed(scratch: Scratch) -> None:
    runtime = scratch.runtime()
    runtime.up(["back"])
    identity = runtime.identity("back")
    assert not runtime.stands_still("back")
    with suppress(OSError):  # it may answer before the signal has reached all its threads
        get(runtime, "back", "/stop")
    eventually(lambda: runtime.stands_still("back"), "it stands still")
    assert runtime.pause("back") == identity
    assert runtime.resume("back") == identity
    assert not runtime.stands_still("back")
    assert runtime.healthy("back")


def test_a_paused_service_can_be_killed_and_stopped(scratch: Scratch) -> None:
    runtime = scratch.runtime()
    runtime.up(["back", "worker"])
    for name in ("back", "worker"):
        runtime.pause(name)
    runtime.kill("back")
    runtime.stop("worker")
    assert {line.state for line in runtime.status()} == {"exited", "stopped"}


def test_a_service_is_not_taken_off_the_network_that_all_share(scratch: Scratch) -> None:
    runtime = scratch.runtime()
    runtime.up(["back"])
    with pytest.raises(RuntimeProblem, match=r"all processes share this machine's; with LAB_RUNTIME=docker"):
        runtime.cut("back")
    assert runtime.uncut("back") == runtime.identity("back")


def test_restart_gives_a_new_life(scratch: Scratch) -> None:
    runtime = scratch.runtime()
    runtime.up(["back"])
    before = runtime.identity("back")
    after = runtime.restart("back")
    assert before is not None
    assert (after.pid, after.started_at) != (before.pid, before.started_at)
    assert runtime.healthy("back")


def test_threads_may_work_on_different_services_at_once(scratch: Scratch) -> None:
    runtime = scratch.runtime()
    runtime.up(["web", "worker"])
    problems: list[RuntimeProblem] = []

    def cycle(name: str) -> None:
        try:
            for _ in range(3):
                runtime.kill(name)
                runtime.start(name)
        except RuntimeProblem as problem:
            problems.append(problem)

    threads = [threading.Thread(target=cycle, args=(name,)) for name in ("web", "back", "worker")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert problems == []
    assert {line.service: line.restarts for line in runtime.status() if line.service != "prepare"} == {
        "web": 3,
        "back": 3,
        "worker": 3,
    }


def test_what_was_never_started_is_named(scratch: Scratch) -> None:
    runtime = scratch.runtime()
    for action in (runtime.kill, runtime.pause, runtime.resume, runtime.start, runtime.logs):
        with pytest.raises(RuntimeProblem, match="back has not been started"):
            action("back")
    runtime.stop("back")
    assert runtime.identity("back") is None
    assert not runtime.healthy("back")


# --- the warden ---


def test_what_exceeds_its_memory_limit_is_killed_and_the_status_says_why(scratch: Scratch) -> None:
    runtime = scratch.runtime()
    runtime.up(["back"])
    get(runtime, "back", "/eat/40")
    assert runtime.healthy("back")
    with suppress(OSError, http.client.HTTPException):  # it may be killed before it answers
        get(runtime, "back", "/eat/80")
    eventually(lambda: row(runtime, "back").state == "exited", "killed by the warden")
    assert "out of memory" in row(runtime, "back").detail
    runtime.start("back")
    assert row(runtime, "back").detail == ""


def test_the_warden_leaves_when_nothing_lives(scratch: Scratch) -> None:
    runtime = scratch.runtime()
    runtime.up(["back"])
    control = WardenControl(Layout(scratch.root, REPOSITORY / ".lab", "dev"))
    assert control.life() is not None
    runtime.kill("back")
    eventually(lambda: control.life() is None, "the warden has left")
    runtime.start("back")
    assert control.life() is not None


def test_the_state_file_can_be_read_while_it_is_written(scratch: Scratch) -> None:
    runtime = scratch.runtime()
    runtime.up(["worker"])
    path = scratch.root / ".lab/projects/dev/state.json"
    stop = threading.Event()
    broken: list[str] = []

    def read() -> None:
        while not stop.is_set():
            try:
                msgspec.json.decode(path.read_bytes())
            except msgspec.DecodeError as error:
                broken.append(str(error))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(3):
        runtime.restart("worker")
    stop.set()
    reader.join(10)
    assert broken == []


def test_a_folder_that_other_users_cannot_enter_is_no_obstacle_for_our_processes(
    scratch: Scratch, tmp_path: Path
) -> None:
    scratch.root.chmod(0o700)
    runtime = scratch.runtime()
    runtime.up(["worker"])
    assert runtime.healthy("worker")
