"""`python -m labs.console start|stop|serve|url`: behind `make console`. Exit codes: 0 done, 1 a problem in one sentence."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from infra import background
from infra.runtime import RuntimeProblem
from labs.console import settings
from labs.console.settings import PORT_VARIABLE, Settings

READY = "/health/ready"


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse and do."""
    parser = argparse.ArgumentParser(prog="python -m labs.console", description="The lab's web page.")
    what = {
        "start": "in the background; says so if it runs",
        "serve": "in the foreground",
        "stop": "end the one in the background; what it has started is interrupted",
    }
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in what.items():
        commands.add_parser(name, help=text)
    chosen = parser.parse_args(arguments)
    try:
        return _do(chosen.command, settings.load())
    except RuntimeProblem as problem:
        print(problem, file=sys.stderr)
        return 1


def _do(command: str, wanted: Settings) -> int:
    match command:
        case "serve":
            serve(wanted)
        case "stop":
            print("the console has stopped" if background.console(wanted.root).stop() else "the console does not run")
        case _:
            start(wanted)
    return 0


def start(wanted: Settings) -> None:
    """Returns when it answers. Raises RuntimeProblem, also for a port that somebody else holds."""
    argv = (sys.executable, "-m", "labs.console", "serve")
    life, fresh = background.console(wanted.root).start(
        argv, port=wanted.port, variable=PORT_VARIABLE, ready=READY, root=wanted.root
    )
    said = "The console is at" if fresh else "The console runs at"
    print(f"{said} http://{settings.HOST}:{life.port}   ('make down' ends it)", flush=True)


def serve(wanted: Settings) -> None:
    """Until SIGTERM or SIGINT."""
    from labs.console.app import NAME, create_app, process_settings
    from services.kit.http import serve as serve_app

    serve_app(create_app(wanted), process_settings(wanted), name=NAME)


if __name__ == "__main__":
    sys.exit(main())
