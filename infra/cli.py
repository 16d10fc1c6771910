"""The command behind the Makefile's `up`, `down`, `clean`, `status`, `logs`, `chaos`.

Exit codes: 0 done, 1 a problem said in one sentence, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType

from rich.console import Console
from rich.table import Table

from infra import chaos, projects
from infra.choose import choose, open_runtime
from infra.native.environment import ProjectFile
from infra.native.layout import Layout
from infra.native.runtime import CHECKOUT, NativeRuntime
from infra.runtime import RuntimeProblem, ServiceStatus

_STYLES = {"running": "green", "done": "green", "paused": "yellow", "exited": "red", "stopped": "dim"}
_RIGHT = {"pid", "port", "memory MiB", "up for", "restarts"}


def main(arguments: Sequence[str]) -> int:
    """Parse, run, and turn problems into a sentence and an exit code."""
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
            projects.down(say)
            say("nothing runs")
        case "clean":
            projects.clean(say)
        case "status":
            status()
        case "logs":
            print("\n".join(NativeRuntime(options.project, edges=False).logs(options.service, lines=options.lines)))
        case "chaos":
            break_things(options.project, options.do, options.target, options.ms)
        case "runtime":
            print(": ".join(choose()))


def say(line: str) -> None:
    print(line, flush=True)


def up(project: str, profile: str, *, edges: bool) -> None:
    """Start a profile's services and say where they are."""
    begun = time.monotonic()
    names = profile_services(profile)
    runtime = open_runtime(project, edges=edges, progress=say)
    runtime.up(names, progress=say, timeout=180.0)
    say(f"{len(names)} services of {profile} are up ({time.monotonic() - begun:.1f} s); 'make status' lists them")


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
        rows = NativeRuntime(project, edges=False).status()
        if rows:
            _console().print(_table(project, rows))
            shown = True
    if not shown:
        say("nothing runs; 'make up' starts the stack of week 2")


def break_things(project: str, script: str, target: str, milliseconds: int) -> None:
    """Without a script: list them."""
    runtime = NativeRuntime(project, edges=False)
    if script:
        say(chaos.apply(runtime, script, target, milliseconds))
        return
    table = Table(title="make chaos do=NAME target=TARGET")
    for column in ("do", "target", "what happens"):
        table.add_column(column)
    for one in chaos.SCRIPTS:
        table.add_row(one.name, one.target, one.text)
    _console().print(table)
    say(f"services: {', '.join(row.service for row in runtime.status()) or 'none are up'}")
    say(f"edges: {', '.join(runtime.edges())}")


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
    start.add_argument("--edges", action="store_true", help="clients go through Toxiproxy")
    logs = commands.add_parser("logs", help="the last lines of a service")
    logs.add_argument("service")
    logs.add_argument("--lines", type=int, default=50)
    breaking = commands.add_parser("chaos", help="break something; without --do: list what there is")
    breaking.add_argument("--do", default="")
    breaking.add_argument("--target", default="")
    breaking.add_argument("--ms", type=int, default=200)
    commands.add_parser("down", help="stop everything")
    commands.add_parser("clean", help="stop everything and delete all data")
    commands.add_parser("status", help="what runs")
    commands.add_parser("runtime", help="which runtime, and why")
    for command in (start, logs, breaking):
        command.add_argument("--project", default="dev")
    return parser
