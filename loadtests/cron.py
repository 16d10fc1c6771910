"""Load on a job scheduler, open model: `locust -f loadtests/cron.py --headless --host URL --rate 2 --seconds 60`.

Arrivals: a Poisson process of --rate jobs a second. Mix: only POST /v1/jobs, with intervals of 2, 3 or 4 s; half of them call
the target that dedups and fences, a quarter each the ones that do only one of both (see `cron_client.py`). Skew: none. The
jobs stay, so the calls that they cause add up: r jobs a second for t seconds fire about 0.36 r t times a second afterwards.
"""

from __future__ import annotations

import random

import gevent
from locust.argument_parser import LocustArgumentParser

from loadtests.client import Ending
from loadtests.cron_client import JobClient
from loadtests.fasthttp import FastHttp
from loadtests.open_load import FromSchedule, Idle, Operate, Options, System, install

__all__ = ["FromSchedule", "Idle"]


def _arguments(parser: LocustArgumentParser) -> None:
    parser.add_argument(
        "--target-url",
        default="http://127.0.0.1:18840",
        include_in_web_ui=False,
        help="base URL of sim-target, as the scheduler sees it",
    )
    parser.add_argument(
        "--cron-key", default="lab_demo_cron_key", include_in_web_ui=False, help="the tenant's key at the scheduler"
    )


def _creator(options: Options) -> Operate:
    client = JobClient(
        FastHttp(options.host, concurrency=options.max_in_flight),
        options.more.cron_key,
        options.more.target_url,
        random.Random(options.seed),
        gevent.sleep,
    )

    def create(key: str) -> Ending:
        return client.create(key)

    return create


install(System("job", _creator, _arguments))
