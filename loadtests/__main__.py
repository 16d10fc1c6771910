"""`python -m loadtests --system payments --rate 200 --minutes 2 [--headless 0]`: load on what `make up` started.

`--steps 50:400:50 --seconds 10` climbs from rate to rate instead, finds the knee and draws latency against throughput.
Exit codes: Locust's own; of a staircase 0 measured, 1 the generator failed, 3 no step can be believed, 130 interrupted;
2 for a wrong command line.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.choose import open_runtime
from infra.runtime import Runtime, RuntimeProblem
from loadtests import staircase
from loadtests.arguments import USAGE, Arguments, parse
from loadtests.steps import StepProblem
from services.contracts.ports import PORTS

HERE = Path(__file__).resolve().parent
VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")


@dataclass(frozen=True, slots=True)
class System:
    """What can be loaded: the Locust file, the compose service that it speaks to, and what one operation is.

    In `options`, `${NAME}` is a variable of the compose file as the runtime sees it.
    """

    script: str
    service: str
    operations: str
    options: tuple[str, ...] = ()


SUBSCRIBED = (
    *("--types", "25", "--skew", "1", "--endpoints", "100"),
    *("--receivers-url", "http://${SIM_RECEIVERS_HOST}:${SIM_RECEIVERS_HOOKS_PORT}"),
    *("--receivers-secret", "${SIM_RECEIVERS_SECRET}"),
)
SYSTEMS = {
    "catalog": System("catalog.py", "catalog-api", "changes"),
    "search": System("search.py", "search-api", "queries"),
    "checkout": System("checkout.py", "checkout-api", "checkouts"),
    "payments": System("payments.py", "payments-api", "payments"),
    "webhooks": System("webhooks.py", "webhooks-api", "events", SUBSCRIBED),
    "cron": System("cron.py", "cron-api", "jobs", ("--target-url", "http://${SIM_TARGET_HOST}:${SIM_TARGET_PORT}")),
}


def base_url(address: tuple[str, int]) -> str:
    """Of host and port."""
    return f"http://{address[0]}:{address[1]}"


def locust(system: System, address: tuple[str, int], variable: Callable[[str], str]) -> list[str]:
    """Locust's command line without the load itself."""
    return [
        *(sys.executable, "-m", "locust", "-f", str(HERE / system.script), "--host", base_url(address)),
        *(VARIABLE.sub(lambda match: variable(match[1]), one) for one in system.options),
    ]


def steady(arguments: Arguments, web_port: str) -> list[str]:
    """What is added for one rate. With a web page it waits for the button there, so its fields hold the same values."""
    page = ["--headless"] if arguments.headless else ["--web-host", "127.0.0.1", "--web-port", web_port]
    load = ("--rate", f"{arguments.rate:g}", "--seconds", f"{arguments.minutes * 60:g}", "--seed", str(arguments.seed))
    return [*load, *page]


def reached(system: System) -> Runtime:
    """The learner's running stack. Raises RuntimeProblem if there is nothing to load."""
    runtime = open_runtime("dev", edges=False)
    if not runtime.healthy(system.service):
        raise RuntimeProblem(f"{system.service} does not run; `make up` starts it.")
    return runtime


def main(words: Sequence[str]) -> int:
    """Climbs a staircase, or becomes Locust, so that Ctrl-C and the exit code are Locust's own."""
    try:
        arguments = parse(words, SYSTEMS)
        system = SYSTEMS[arguments.system]
        runtime = reached(system)
    except (StepProblem, RuntimeProblem) as problem:
        sys.stderr.write(f"{problem}\n")
        return USAGE if isinstance(problem, StepProblem) else 1
    address = runtime.address(system.service)
    argv = locust(system, address, runtime.variable)
    if arguments.plan is None:
        return become(argv, system, arguments)
    target = staircase.Target(arguments.system, system.operations, base_url(address), [*argv, "--headless"])
    return staircase.run(target, arguments.plan, HERE.parent)


def become(argv: list[str], system: System, arguments: Arguments) -> int:
    """Does not return."""
    web_port = os.environ.get("LOCUST_PORT") or str(PORTS["LOCUST_PORT"])
    sys.stdout.write(f"{arguments.rate:g} {system.operations}/s from a schedule, not from users.\n")
    if not arguments.headless:
        sys.stdout.write(f"Open http://127.0.0.1:{web_port} and press Start; Ctrl-C ends it.\n")
    sys.stdout.flush()
    return os.execv(argv[0], [*argv, *steady(arguments, web_port)])  # noqa: S606


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
