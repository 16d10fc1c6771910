"""What the Locust files of all systems share: a schedule of arrivals, a record of each operation, the command line.

A system's file names its operation and makes the function that performs one: see `loadtests/payments.py`. Locust finds
`Idle` and `FromSchedule` in that file. The rate comes from --rate, not from users: there is one idle user, as Locust
wants one.
"""

from __future__ import annotations

import signal
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gevent
from locust import LoadTestShape, User, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from loadtests.client import Ending
from loadtests.history import History, Outcome, Record
from loadtests.pacing import Arrival, OpenModel
from loadtests.summary import Summary

DRAIN_SECONDS = 20.0
TICK_SECONDS = 1.0
LARGEST_CAP = 8_000
"""Locust raises the limit of open files to 10,000."""
LOOK_SECONDS = 0.1
LEAST_TIMES = 0.01
REFUSED = "generator in-flight cap"
STILL_IN_FLIGHT = "in flight when the load ended"


@dataclass(frozen=True, slots=True)
class Options:
    """The command line, checked. `more` holds what only this system's file knows."""

    host: str
    rate: float
    seconds: float
    seed: int
    run: str
    max_in_flight: int
    api_key: str
    history: Path | None
    live: Path | None
    times: Path | None
    more: Namespace


class Times:
    """What the rate is multiplied with: the number in a file, read again when it has changed; 1 without a file."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._changed_at = 0
        self._read_at = 0.0
        self._times = 1.0

    def __call__(self) -> float:
        """Looks at the file every LOOK_SECONDS."""
        if self._path is not None and time.monotonic() >= self._read_at + LOOK_SECONDS:
            self._read_at = time.monotonic()
            self._look(self._path)
        return self._times

    def _look(self, path: Path) -> None:
        try:
            changed_at = path.stat().st_mtime_ns
            if changed_at != self._changed_at:
                self._times, self._changed_at = max(float(path.read_text()), LEAST_TIMES), changed_at
        except (OSError, ValueError):
            return  # not there yet, or just being written


Operate = Callable[[str], Ending]
"""Performs the operation of this key (a merchant reference) and blocks until the client knows or gives up."""


@dataclass(frozen=True, slots=True)
class System:
    """What is loaded. `kind` is one operation ("payment"), `operate` makes the client of a run.

    `arguments` adds options of this system's own; `operate` finds them in `Options.more`.
    """

    kind: str
    operate: Callable[[Options], Operate]
    arguments: Callable[[LocustArgumentParser], None] = lambda _: None


class OpenLoad:
    """One run of the load: pacing, client, history."""

    def __init__(self, system: System, options: Options, environment: Environment) -> None:
        self._kind = system.kind
        self._options = options
        self._request_event = environment.events.request
        self._history = History(options.history, options.live)
        self._summary = Summary(system.kind)
        self._perform = system.operate(options)
        self._open: dict[int, Record] = {}
        self._pacing = OpenModel(
            rate=options.rate,
            seed=options.seed,
            seconds=options.seconds,
            max_in_flight=options.max_in_flight,
            operate=self._operate,
            refuse=self._refuse,
            times=Times(options.times),
        )
        self._finished = False
        self._dispatcher = gevent.spawn(self._pacing.run)
        self._ticker = gevent.spawn(self._tick)

    @property
    def over(self) -> bool:
        """The schedule has been dispatched."""
        return bool(self._dispatcher.ready())

    def stop(self) -> None:
        """No further operation is started."""
        self._pacing.stop()

    def finish(self) -> None:
        """Stop intake, wait at most DRAIN_SECONDS, write the rest as unknown. Idempotent."""
        if self._finished:
            return
        self._finished = True
        self._pacing.stop()
        self._pacing.drain(DRAIN_SECONDS)
        for record in self._open.values():
            self._write(record)
        self._ticker.kill()
        self._history.tick(0)
        self._history.close()
        sys.stdout.write(self._summary.text())
        sys.stdout.flush()

    def _write(self, record: Record) -> None:
        self._history.write(record)
        self._summary.add(record)

    def _tick(self) -> None:
        while True:
            gevent.sleep(TICK_SECONDS)
            self._history.tick(self._pacing.in_flight)

    def _record(self, arrival: Arrival, sent_at: float | None, done_at: float | None, ending: Ending) -> Record:
        key = f"{self._options.run}-{arrival.number:06d}"
        return Record(
            id=f"{self._options.seed}-{arrival.number}",
            key=key,
            kind=ending.kind or self._kind,
            intended_at=arrival.intended_at,
            sent_at=sent_at,
            done_at=done_at,
            attempts=ending.attempts,
            status=ending.status,
            outcome=ending.outcome,
            error=ending.error,
            result=ending.shown,
        )

    def _operate(self, arrival: Arrival) -> None:
        sent_at = time.monotonic()
        self._history.sent(arrival.intended_at, sent_at)
        unfinished = self._record(arrival, sent_at, None, Ending(Outcome.UNKNOWN, error=STILL_IN_FLIGHT))
        self._open[arrival.number] = unfinished
        ending = self._perform(unfinished.key)
        record = self._record(arrival, sent_at, time.monotonic(), ending)
        del self._open[arrival.number]
        self._write(record)
        self._report(record)

    def _refuse(self, arrival: Arrival) -> None:
        # Never sent, so nothing can have happened: a failure of the generator, and the history says so.
        record = self._record(arrival, None, None, Ending(Outcome.FAIL, error=REFUSED))
        self._write(record)
        self._report(record)

    def _report(self, record: Record) -> None:
        """To Locust's own statistics, with the latency from the intended time."""
        done_at = record.done_at or record.intended_at
        failed = record.outcome is not Outcome.OK
        self._request_event.fire(
            request_type=self._kind.upper(),
            name=f"{self._kind}, from the intended time",
            response_time=(done_at - record.intended_at) * 1000,
            response_length=0,
            exception=RuntimeError(f"{record.outcome}: {record.error}") if failed else None,
            context={},
        )


class Idle(User):
    """Locust wants a user; arrivals come from the schedule."""

    @task
    def wait(self) -> None:
        """Do nothing."""
        gevent.sleep(3600)


_loads: list[OpenLoad] = []


class FromSchedule(LoadTestShape):
    """Takes the number of users out of the game and ends the test when the schedule has ended."""

    def tick(self) -> tuple[int, float] | None:
        """One idle user while the schedule lasts."""
        return None if _loads and _loads[-1].over else (1, 1.0)


def _options(parser: LocustArgumentParser, kind: str) -> None:
    parser.add_argument("--rate", type=float, default=50.0, help=f"{kind}s per second, whatever the system does")
    parser.add_argument("--seconds", type=float, default=600.0, help=f"how long {kind}s are started")
    parser.add_argument("--seed", type=int, default=42, help="the same seed gives the same arrivals and amounts")
    parser.add_argument("--max-in-flight", type=int, default=500, help="further arrivals are recorded as failed")
    parser.add_argument(
        "--run", default="", include_in_web_ui=False, help="first part of the references; empty: from the time"
    )
    parser.add_argument(
        "--api-key", default="lab_demo_merchant_key", include_in_web_ui=False, help="the merchant's key"
    )
    parser.add_argument("--history", default="", include_in_web_ui=False, help=f"file for one JSON line per {kind}")
    parser.add_argument(
        "--times", default="", include_in_web_ui=False, help="file with a number that the rate is multiplied with"
    )
    parser.add_argument("--live", default="", include_in_web_ui=False, help="file for one JSON line per second")


def checked(parsed: Any, host: str | None) -> Options:
    """Raises ValueError with what is allowed."""
    if not host:
        raise ValueError("--host is the base URL of what is loaded")
    if not 0 < parsed.rate <= 10_000:
        raise ValueError("--rate is above 0 and at most 10000 per second")
    if parsed.seconds <= 0:
        raise ValueError("--seconds is above 0")
    if not 1 <= parsed.max_in_flight <= LARGEST_CAP:
        raise ValueError(f"--max-in-flight is 1 to {LARGEST_CAP}")
    return Options(
        host=host,
        rate=parsed.rate,
        seconds=parsed.seconds,
        seed=parsed.seed,
        run=parsed.run or f"o{time.time_ns() // 1_000_000:x}",
        max_in_flight=parsed.max_in_flight,
        api_key=parsed.api_key,
        history=Path(parsed.history) if parsed.history else None,
        live=Path(parsed.live) if parsed.live else None,
        times=Path(parsed.times) if parsed.times else None,
        more=parsed,
    )


def _check(environment: Environment, **_: Any) -> None:
    parsed = environment.parsed_options
    if parsed is None or not parsed.headless:
        return
    try:
        checked(parsed, environment.host)
    except ValueError as error:
        sys.exit(str(error))


def _stop(**_: Any) -> None:
    if _loads:
        _loads.pop().finish()


def _quit(environment: Environment, **_: Any) -> None:
    # Failed operations are results, not an error of the generator.
    environment.process_exit_code = 0


def install(system: System) -> None:
    """Make the Locust file that calls this a load on `system`."""

    def options(parser: LocustArgumentParser, **_: Any) -> None:
        _options(parser, system.kind)
        system.arguments(parser)

    def start(environment: Environment, **_: Any) -> None:
        _loads.append(OpenLoad(system, checked(environment.parsed_options, environment.host), environment))
        # With a shape and no web page Locust installs its own handler only when the test is over.
        gevent.signal_handler(signal.SIGTERM, _loads[-1].stop)

    events.init_command_line_parser.add_listener(options)
    events.init.add_listener(_check)
    events.test_start.add_listener(start)
    events.test_stopping.add_listener(_stop)
    events.quitting.add_listener(_quit)
