"""The command behind the Makefile's `up`, `down`, `clean`, `status`, `logs`, `chaos`.

Exit codes: 0 done, 1 a problem said in one sentence, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

from rich.console import Console
from rich.table import Table

from infra import background, projects
from infra.choose import choose, open_runtime
from infra.native.environment import ProjectFile
from infra.native.layout import Layout
from infra.native.runtime import CHECKOUT
from infra.runtime import RuntimeProblem, ServiceStatus

_CHAOS = (sys.executable, "-m", "labs.chaos")
_STYLES = {"running": "green", "done": "green", "paused": "yellow", "exited": "red", "stopped": "dim"}
OBSERVE = "observe"
"""The profile of exporters, alerts and traces; a lab starts only what it lists."""
_RIGHT = {"pid", "port", "memory MiB", "up for", "restarts"}


def main(arguments: Sequence[str]) -> int:
    """Parse, run, and turn problems into a sentence and an exit code."""
    if arguments[:1] == ["chaos"]:  # its faults are those of the labs, of which nothing here knows
        os.execv(_CHAOS[0], [*_CHAOS, *arguments[1:]])  # noqa: S606 (no shell is wanted)
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        _run(options)
    except RuntimeProblem as problem:
        print(problem, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _run(options: argparse.Namespace) -> None:
    match options.command:
        case "up":
            up(options.project, options.profile, edges=options.edges)
        case "down":
            down(but_console=options.but_console)
        case "clean":
            end_console()
            heal_by_hand()
            projects.clean(say)
        case "status":
            status()
        case "logs":
            print("\n".join(projects.current(options.project).logs(options.service, lines=options.lines)))
        case "runtime":
            print(": ".join(choose()))


def say(line: str) -> None:
    print(line, flush=True)


def up(project: str, profile: str, *, edges: bool) -> None:
    """Start a profile's services, and those that observe them, and say where they are."""
    begun = time.monotonic()
    names = list(dict.fromkeys([*profile_services(profile), *observing()]))
    what = f"{profile} and {OBSERVE}" if observing() else profile
    runtime = open_runtime(project, edges=edges, progress=say)
    runtime.up(names, env={"TRACES": "1"}, progress=say, timeout=180.0)
    say(f"{len(names)} services of {what} are up ({time.monotonic() - begun:.1f} s); 'make status' lists them")


def down(*, but_console: bool) -> None:
    """Stop all that runs. The console's own button leaves the console."""
    if not but_console:
        end_console()
    heal_by_hand()
    projects.down(say)
    say("nothing runs" if not but_console else "nothing but the console runs")


def end_console() -> None:
    """What it has started is interrupted and heals first."""
    if background.console().stop():
        say("stopped the console")


def observing() -> list[str]:
    """The services of the profile observe; a file without it has none."""
    stack = ProjectFile(Layout(CHECKOUT, CHECKOUT / ".lab", "dev")).stack()
    return stack.in_profile(OBSERVE) if OBSERVE in stack.profiles() else []


def profile_services(profile: str) -> list[str]:
    """Raises RuntimeProblem for a profile that the file does not have."""
    stack = ProjectFile(Layout(CHECKOUT, CHECKOUT / ".lab", "dev")).stack()
    if profile not in stack.profiles():
        raise RuntimeProblem(f"There is no profile '{profile}'; there are {', '.join(stack.profiles())}.")
    return stack.in_profile(profile)


def status() -> None:
    """One table per project that has anything to show."""
    shown = False
    for project in projects.existing():
        rows = projects.current(project).status()
        if rows:
            _console().print(_table(project, rows))
            shown = True
    if not shown:
        say("nothing runs; 'make up' starts the stack of week 2")


def heal_by_hand() -> None:
    """What `make chaos` broke must not outlive its stack: a full disk would, and a command that waits to start its victim."""
    for project in projects.existing():
        if any((CHECKOUT / ".lab" / "projects" / project / "chaos").glob("*.json")):
            subprocess.run([*_CHAOS, "--do", "heal", "--known", "--project", project], check=False)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 140)


def _table(project: str, rows: Sequence[ServiceStatus]) -> Table:
    table = Table(title=f"project {project}")
    for column in ("service", "state", "pid", "port", "memory MiB", "up for", "restarts", "note"):
        table.add_column(column, justify="right" if column in _RIGHT else "left")
    for row in rows:
        style = _STYLES.get(row.state, "")
        note = row.detail if row.exit_code in {None, 0} else f"{row.detail} exit code {row.exit_code}".strip()
        cells = [_number(row.pid), _number(row.port), _memory(row), _age(row), str(row.restarts), note]
        table.add_row(row.service, f"[{style}]{row.state}[/]" if style else row.state, *cells)
    return table


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def _memory(row: ServiceStatus) -> str:
    if row.memory_bytes is None:
        return ""
    limit = "" if row.memory_limit_bytes is None else f" / {row.memory_limit_bytes >> 20}"
    return f"{row.memory_bytes >> 20}{limit}"


def _age(row: ServiceStatus) -> str:
    if row.pid is None or row.started_at is None:
        return ""
    seconds = int(time.monotonic() - row.started_at)
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m infra", description="Runs the services of docker-compose.yml.")
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("up", help="start a profile")
    start.add_argument("--profile", default="week2")
    start.add_argument(
        "--edges", action=argparse.BooleanOptionalAction, default=True, help="clients go through Toxiproxy"
    )
    logs = commands.add_parser("logs", help="the last lines of a service")
    logs.add_argument("service")
    logs.add_argument("--lines", type=int, default=50)
    commands.add_parser("chaos", help="break something for a while, and heal it (python -m labs.chaos)")
    ending = commands.add_parser("down", help="stop everything")
    ending.add_argument("--but-console", action="store_true", help="leave the web page running")
    commands.add_parser("clean", help="stop everything and delete all data")
    commands.add_parser("status", help="what runs")
    commands.add_parser("runtime", help="which runtime, and why")
    for command in (start, logs):
        command.add_argument("--project", default="dev")
    return parser
