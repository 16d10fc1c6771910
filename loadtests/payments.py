"""Load on the payments API, open model: `locust -f loadtests/payments.py --headless --host URL --rate 50 --seconds 60`.

The rate comes from --rate (on the web page: the field `rate`), not from users: there is one idle user, as Locust wants one.
"""

from __future__ import annotations

import random
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gevent
from locust import LoadTestShape, User, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from loadtests.client import Ending, Order, PaymentClient
from loadtests.fasthttp import FastHttp
from loadtests.history import History, Outcome, Record
from loadtests.pacing import Arrival, OpenModel

DRAIN_SECONDS = 20.0
TICK_SECONDS = 1.0
LARGEST_CAP = 8_000
"""Locust raises the limit of open files to 10,000."""
KIND = "payment"
REFUSED = "generator in-flight cap"
STILL_IN_FLIGHT = "in flight when the load ended"


@dataclass(frozen=True, slots=True)
class Options:
    """The command line, checked."""

    host: str
    rate: float
    seconds: float
    seed: int
    run: str
    max_in_flight: int
    api_key: str
    history: Path | None
    live: Path | None


class PaymentLoad:
    """One run of the load: pacing, client, history."""

    def __init__(self, options: Options, environment: Environment) -> None:
        self._options = options
        self._request_event = environment.events.request
        self._history = History(options.history, options.live)
        self._amounts = random.Random(options.seed)
        self._client = PaymentClient(
            FastHttp(options.host, concurrency=options.max_in_flight),
            options.api_key,
            clock=time.monotonic,
            sleep=gevent.sleep,
            jitter=random.Random(options.seed + 1),
        )
        self._open: dict[int, Record] = {}
        self._pacing = OpenModel(
            rate=options.rate,
            seed=options.seed,
            seconds=options.seconds,
            max_in_flight=options.max_in_flight,
            operate=self._operate,
            refuse=self._refuse,
        )
        self._finished = False
        self._dispatcher = gevent.spawn(self._pacing.run)
        self._ticker = gevent.spawn(self._tick)

    @property
    def over(self) -> bool:
        """The schedule has been dispatched."""
        return bool(self._dispatcher.ready())

    def stop(self) -> None:
        """No further payment is started."""
        self._pacing.stop()

    def finish(self) -> None:
        """Stop intake, wait at most DRAIN_SECONDS, write the rest as unknown. Idempotent."""
        if self._finished:
            return
        self._finished = True
        self._pacing.stop()
        self._pacing.drain(DRAIN_SECONDS)
        for record in self._open.values():
            self._history.write(record)
        self._ticker.kill()
        self._history.tick(0)
        self._history.close()

    def _tick(self) -> None:
        while True:
            gevent.sleep(TICK_SECONDS)
            self._history.tick(self._pacing.in_flight)

    def _record(self, arrival: Arrival, sent_at: float | None, done_at: float | None, ending: Ending) -> Record:
        key = f"{self._options.run}-{arrival.number:06d}"
        return Record(
            id=f"{self._options.seed}-{arrival.number}",
            key=key,
            kind=KIND,
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
        ending = self._client.pay(Order(unfinished.key, self._amounts.randrange(100, 50_000), "EUR"))
        record = self._record(arrival, sent_at, time.monotonic(), ending)
        del self._open[arrival.number]
        self._history.write(record)
        self._report(record)

    def _refuse(self, arrival: Arrival) -> None:
        # Never sent, so the card cannot have been charged: a failure of the generator, and the history says so.
        record = self._record(arrival, None, None, Ending(Outcome.FAIL, error=REFUSED))
        self._history.write(record)
        self._report(record)

    def _report(self, record: Record) -> None:
        """To Locust's own statistics, with the latency from the intended time."""
        done_at = record.done_at or record.intended_at
        failed = record.outcome is not Outcome.OK
        self._request_event.fire(
            request_type="PAY",
            name="payment, from the intended time",
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


_loads: list[PaymentLoad] = []


class FromSchedule(LoadTestShape):
    """Takes the number of users out of the game and ends the test when the schedule has ended."""

    def tick(self) -> tuple[int, float] | None:
        """One idle user while the schedule lasts."""
        return None if _loads and _loads[-1].over else (1, 1.0)


def _options(parser: LocustArgumentParser, **_: Any) -> None:
    parser.add_argument("--rate", type=float, default=50.0, help="payments per second, whatever the system does")
    parser.add_argument("--seconds", type=float, default=600.0, help="how long payments are started")
    parser.add_argument("--seed", type=int, default=42, help="the same seed gives the same arrivals and amounts")
    parser.add_argument("--max-in-flight", type=int, default=500, help="further arrivals are recorded as failed")
    parser.add_argument(
        "--run", default="", include_in_web_ui=False, help="first part of the merchant references; empty: from the time"
    )
    parser.add_argument(
        "--api-key", default="lab_demo_merchant_key", include_in_web_ui=False, help="the merchant's key"
    )
    parser.add_argument("--history", default="", include_in_web_ui=False, help="file for one JSON line per payment")
    parser.add_argument("--live", default="", include_in_web_ui=False, help="file for one JSON line per second")


def checked(parsed: Any, host: str | None) -> Options:
    """Raises ValueError with what is allowed."""
    if not host:
        raise ValueError("--host is the base URL of the payments API")
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
    )


def _check(environment: Environment, **_: Any) -> None:
    parsed = environment.parsed_options
    if parsed is None or not parsed.headless:
        return
    try:
        checked(parsed, environment.host)
    except ValueError as error:
        sys.exit(str(error))


def _start(environment: Environment, **_: Any) -> None:
    _loads.append(PaymentLoad(checked(environment.parsed_options, environment.host), environment))
    # With a shape and no web page Locust installs its own handler only when the test is over.
    gevent.signal_handler(signal.SIGTERM, _loads[-1].stop)


def _stop(**_: Any) -> None:
    if _loads:
        _loads.pop().finish()


def _quit(environment: Environment, **_: Any) -> None:
    # Failed payments are results, not an error of the generator.
    environment.process_exit_code = 0


events.init_command_line_parser.add_listener(_options)
events.init.add_listener(_check)
events.test_start.add_listener(_start)
events.test_stopping.add_listener(_stop)
events.quitting.add_listener(_quit)
