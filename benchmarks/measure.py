"""`python -m benchmarks.measure --system payments`: one benchmark in a process of its own, its result in `.lab/bench`.

`python -m benchmarks` starts it. Exit codes: 0 done, 1 a problem said in one sentence, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp
import asyncpg
import msgspec
from rich.console import Console

from benchmarks import machine, records
from benchmarks.records import MOMENT, Record
from benchmarks.rows import Figures
from benchmarks.shown import table
from benchmarks.stack import say
from benchmarks.systems import DEFAULT_DOCS, FIGURES, ROUNDS, SEARCH, SECONDS
from infra.choose import choose
from infra.cli import observing, profile_services
from infra.native.runtime import CHECKOUT
from infra.runtime import RuntimeProblem

RESULTS = CHECKOUT / ".lab" / "bench"
ORPHAN_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be measured, and at which commit of the checkout it began."""

    system: str
    rounds: int = ROUNDS
    seconds: int = SECONDS
    docs: int | None = None
    commit: str | None = None
    runtime: str = "native"
    """Told by LAB_RUNTIME, as to all that is started."""

    @property
    def options(self) -> list[str]:
        """Of this program's command line."""
        given = {
            "system": self.system,
            "rounds": self.rounds,
            "seconds": self.seconds,
            "docs": self.docs,
            "commit": self.commit,
        }
        return [f"--{name}={value}" for name, value in given.items() if value is not None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, show, and leave the result."""
    wanted = _parsed(arguments)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    try:
        record = measured(wanted)
    except (RuntimeProblem, RuntimeError, OSError, TimeoutError, aiohttp.ClientError, asyncpg.PostgresError) as problem:
        print(f"{wanted.system}: {problem or type(problem).__name__}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    path = RESULTS / records.file_name(record.system, record.docs, record.runtime)
    records.write(path, records.text_of(record))
    Console(width=None if sys.stdout.isatty() else 180).print(table(record.name, record.read()))
    say(f"as JSON: {path.relative_to(CHECKOUT)}")
    return 0


def measured(wanted: Wanted) -> Record:
    """Raises whatever a benchmark raises."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    runtime, _ = choose()
    around, began = machine.around(RESULTS), time.monotonic()
    figures, services = _figures(wanted)
    foreign = machine.images(CHECKOUT, services)
    return Record(
        system=wanted.system,
        docs=wanted.docs,
        runtime=runtime,
        at=datetime.now(UTC).strftime(MOMENT),
        took_seconds=max(round(time.monotonic() - began), 1),
        commit=wanted.commit,
        rounds=wanted.rounds,
        seconds=wanted.seconds,
        machine=machine.machine(RESULTS),
        around=around,
        versions=machine.versions(CHECKOUT, runtime, foreign),
        stand_ins=machine.stand_ins(runtime, foreign),
        figures=msgspec.Raw(msgspec.json.encode(figures)),
    )


def _figures(wanted: Wanted) -> tuple[Figures, Sequence[str]]:
    """What was found, and which services it was found with. Only what is measured is imported: each process starts lean."""
    rounds, seconds = wanted.rounds, wanted.seconds
    match wanted.system:
        case "payments":
            from benchmarks import payments

            return payments.main(rounds=rounds, seconds=seconds), payments.SERVICES
        case "checkout":
            from benchmarks import checkout

            return checkout.main(rounds=rounds, seconds=seconds), checkout.SERVICES
        case "webhooks":
            from benchmarks import webhooks

            return webhooks.main(rounds=rounds, seconds=seconds), webhooks.SERVICES
        case "cron":
            from benchmarks import cron

            return cron.main(rounds=rounds, seconds=seconds), cron.SERVICES
        case "search":
            from benchmarks import search

            found = search.main(rounds=rounds, seconds=seconds, docs=wanted.docs or DEFAULT_DOCS)
            return found, (*search.READERS, *search.WRITERS)
        case _:
            from benchmarks import profiles

            services = [name for profile in profiles.PROFILES for name in (*profile_services(profile), *observing())]
            return profiles.main(rounds=rounds, seconds=seconds), services


def _end_with_parent(parent: int) -> None:
    """Whoever started this may be killed: then it stops what it runs, as on Ctrl-C."""
    while os.getppid() == parent:
        time.sleep(ORPHAN_SECONDS)
    os.kill(os.getpid(), signal.SIGINT)


def _parsed(arguments: Sequence[str] | None) -> Wanted:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measure", description="One benchmark.")
    parser.add_argument("--system", choices=FIGURES, required=True)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=int, default=SECONDS)
    parser.add_argument("--docs", type=int)
    parser.add_argument("--commit")
    chosen = parser.parse_args(arguments)
    docs = (chosen.docs or DEFAULT_DOCS) if chosen.system == SEARCH else None
    return Wanted(chosen.system, chosen.rounds, chosen.seconds, docs, chosen.commit)


if __name__ == "__main__":
    sys.exit(main())
