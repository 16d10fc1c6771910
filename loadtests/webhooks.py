"""Load on a webhooks service, open model: `locust -f loadtests/webhooks.py --headless --host URL --rate 20 --seconds 60`.

Arrivals: a Poisson process of --rate events a second, each published once under an id of its own and retried under it.
Mix: POST /v1/messages with a payload of three fields; --feed-share of the events go through Kafka instead if there is a
feed. Skew: event types are drawn by Zipf's law with --skew as its exponent (0: all alike), so that at 1 the most frequent
of 25 types is a quarter of the events. Who gets an event depends on the endpoints: --endpoints registers that many at the
simulated receivers, number n for type n modulo --types, and leaves those alone that are there.
"""

from __future__ import annotations

import random
import sys
import time
from argparse import Namespace

import gevent
from locust.argument_parser import LocustArgumentParser

from loadtests.client import Ending
from loadtests.fasthttp import FastHttp
from loadtests.open_load import FromSchedule, Idle, Operate, Options, System, install
from loadtests.webhooks_client import TYPE_PREFIX, Publisher
from loadtests.webhooks_endpoints import EndpointsProblem, Subscribers

__all__ = ["FromSchedule", "Idle"]

TIMEOUT_SECONDS = 10.0
"""For an answer: a service that delivers within the request takes its time."""


def _arguments(parser: LocustArgumentParser) -> None:
    parser.add_argument("--types", type=int, default=125, help="events are of so many types, lab.group0 and so on")
    parser.add_argument("--skew", type=float, default=0.0, help="exponent of Zipf's law over the types; 0: all alike")
    parser.add_argument("--endpoints", type=int, default=0, help="so many are registered at the simulated receivers")
    parser.add_argument(
        "--receivers-url", default="", include_in_web_ui=False, help="their base URL, as the service sees it"
    )
    parser.add_argument("--receivers-secret", default="", include_in_web_ui=False, help="their master secret")
    parser.add_argument(
        "--feed-url", default="", include_in_web_ui=False, help="where events for Kafka go; empty: none"
    )
    parser.add_argument("--feed-share", type=float, default=0.25, help="share of the events that go through Kafka")
    parser.add_argument(
        "--application-key", default="lab_demo_application_key", include_in_web_ui=False, help="the application's key"
    )


def _check(more: Namespace) -> None:
    """Exits with what is allowed."""
    if not 1 <= more.types <= 10_000:
        sys.exit("--types is 1 to 10000")
    if not 0 <= more.skew <= 10:
        sys.exit("--skew is 0 to 10")
    if not 0 <= more.endpoints <= 5_000:
        sys.exit("--endpoints is 0 to 5000")
    if not 0 <= more.feed_share <= 1:
        sys.exit("--feed-share is 0 to 1")
    if more.endpoints and not more.receivers_url:
        sys.exit("--endpoints needs --receivers-url")


def _publisher(options: Options) -> Operate:
    more = options.more
    _check(more)
    api = FastHttp(options.host, concurrency=options.max_in_flight, timeout=TIMEOUT_SECONDS)
    if more.endpoints:
        _subscribe(api, options)
    feed = (
        FastHttp(more.feed_url, concurrency=options.max_in_flight, timeout=TIMEOUT_SECONDS) if more.feed_url else None
    )
    publisher = Publisher(
        api,
        feed,
        more.application_key,
        more.types,
        more.feed_share,
        random.Random(options.seed),
        time.monotonic,
        gevent.sleep,
        more.skew,
    )

    def publish(key: str) -> Ending:
        return publisher.publish(key)

    return publish


def _subscribe(api: FastHttp, options: Options) -> None:
    more = options.more
    subscribers = Subscribers(
        api, more.application_key, more.receivers_url, more.receivers_secret, more.types, TYPE_PREFIX
    )
    try:
        new = subscribers.register(more.endpoints)
    except EndpointsProblem as problem:
        sys.exit(str(problem))
    sys.stdout.write(f"{more.endpoints} endpoints are subscribed, {new} of them new\n")


install(System("event", _publisher, _arguments))
