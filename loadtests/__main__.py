"""`python -m loadtests --system payments --rate 200 --minutes 2 [--headless 0]`: load on what `make up` started."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from infra.choose import open_runtime
from infra.runtime import RuntimeProblem
from services.contracts.ports import PORTS

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class System:
    """What can be loaded: the Locust file and the compose service that it speaks to."""

    script: str
    service: str


SYSTEMS = {"payments": System("payments.py", "payments-api")}


def command(system: System, address: tuple[str, int], web_port: str, options: argparse.Namespace) -> list[str]:
    """Locust's command line. With a web page it waits for the button there, so its fields hold the same values."""
    host, port = address
    page = ["--headless"] if options.headless else ["--web-host", "127.0.0.1", "--web-port", web_port]
    return [
        *(sys.executable, "-m", "locust", "-f", str(HERE / system.script), "--host", f"http://{host}:{port}"),
        *("--rate", f"{options.rate:g}", "--seconds", f"{options.minutes * 60:g}", "--seed", str(options.seed), *page),
    ]


def prepare(arguments: list[str]) -> list[str]:
    """Locust's command line, after a word on what will happen. Raises RuntimeProblem if there is nothing to load."""
    options = _parser().parse_args(arguments)
    system = SYSTEMS[options.system]
    web_port = os.environ.get("LOCUST_PORT") or str(PORTS["LOCUST_PORT"])
    runtime = open_runtime("dev", edges=False)
    if not runtime.healthy(system.service):
        raise RuntimeProblem(f"{system.service} does not run; `make up` starts it.")
    sys.stdout.write(f"{options.rate:g} payments/s from a schedule, not from users.\n")
    if not options.headless:
        sys.stdout.write(f"Open http://127.0.0.1:{web_port} and press Start; Ctrl-C ends it.\n")
    return command(system, runtime.address(system.service), web_port, options)


def main(arguments: list[str]) -> None:
    """Becomes Locust, so that Ctrl-C and the exit code are Locust's own. Exits 1 with one sentence otherwise."""
    try:
        argv = prepare(arguments)
    except RuntimeProblem as problem:
        sys.exit(str(problem))
    sys.stdout.flush()
    os.execv(argv[0], argv)  # noqa: S606


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtests", description="Load alone, in the open model.")
    parser.add_argument("--system", choices=sorted(SYSTEMS), default="payments")
    parser.add_argument("--rate", type=float, default=50.0, help="operations per second")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--headless", type=int, choices=(0, 1), default=1, help="0: with Locust's own web page")
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])
