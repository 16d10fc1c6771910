"""Load on a checkout, open model: `locust -f loadtests/checkout.py --headless --host URL --rate 40 --seconds 60`.

Arrivals: a Poisson process of --rate checkouts a second. Mix: only POST /v1/checkouts, which makes one payment each. Skew:
none; amounts are uniform over 1.00 to 499.99 EUR. The client is the first of the chain's hops: `--client naive` has three
attempts of 1 s, `--client deadline` one budget.
"""

from __future__ import annotations

import random
import time

import gevent
from locust.argument_parser import LocustArgumentParser

from loadtests.checkout_client import NAIVE_TIMEOUT_SECONDS, DeadlineClient, NaiveClient
from loadtests.client import Ending
from loadtests.fasthttp import FastHttp
from loadtests.open_load import FromSchedule, Idle, Operate, Options, System, install

__all__ = ["FromSchedule", "Idle"]

PATIENCE_SECONDS = 2.0
"""The client with a budget waits so much longer than it says: an answer that comes too late is then seen as such."""


def _arguments(parser: LocustArgumentParser) -> None:
    parser.add_argument("--client", choices=("naive", "deadline"), default="deadline", help="how the client retries")
    parser.add_argument("--budget-ms", type=int, default=1000, help="of the client with a deadline, for all attempts")


def _client(options: Options) -> Operate:
    amounts = random.Random(options.seed)
    client: NaiveClient | DeadlineClient
    if options.more.client == "naive":
        http = FastHttp(options.host, concurrency=options.max_in_flight, timeout=NAIVE_TIMEOUT_SECONDS)
        client = NaiveClient(http, options.api_key, gevent.sleep)
    else:
        budget = options.more.budget_ms / 1000
        http = FastHttp(options.host, concurrency=options.max_in_flight, timeout=budget + PATIENCE_SECONDS)
        jitter = random.Random(options.seed + 1)
        client = DeadlineClient(http, options.api_key, budget, time.monotonic, gevent.sleep, jitter)

    def check_out(key: str) -> Ending:
        return client.check_out(key, amounts.randrange(100, 50_000))

    return check_out


install(System("checkout", _client, _arguments))
