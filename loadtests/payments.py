"""Load on the payments API, open model: `locust -f loadtests/payments.py --headless --host URL --rate 50 --seconds 60`.

Arrivals: a Poisson process of --rate payments a second. Mix: only POST /v1/payments with automatic capture, each with a
key, a reference and a card of its own; a 202 is polled at its Location until it is final, so reads come with slowness.
Skew: none that matters here. Amounts are uniform over 1.00 to 499.99 EUR, one merchant, and the hash of a new card each time
spreads the bank's shards evenly. The client retries up to --attempts times under the same key (see `client.py`).

With --articles-url each payment buys one to three pieces of one of the catalogue's articles, all alike.
"""

from __future__ import annotations

import random
import sys
import time
from argparse import Namespace

import gevent
from locust.argument_parser import LocustArgumentParser

from loadtests.catalog_client import CatalogProblem, Known, read_products
from loadtests.client import ATTEMPTS, Ending, Order, PaymentClient
from loadtests.fasthttp import FastHttp
from loadtests.open_load import FromSchedule, Idle, Operate, Options, System, install

__all__ = ["FromSchedule", "Idle"]


def _arguments(parser: LocustArgumentParser) -> None:
    parser.add_argument("--attempts", type=int, default=ATTEMPTS, help="how often one payment is posted at most")
    parser.add_argument("--articles-url", default="", include_in_web_ui=False, help="the catalogue; empty: no articles")
    parser.add_argument("--articles", type=int, default=100, help="so many of its newest products are bought")
    parser.add_argument(
        "--catalog-key", default="lab_demo_catalog_key", include_in_web_ui=False, help="the key at the catalogue"
    )


def _articles(more: Namespace) -> list[str]:
    """SKUs; none without a catalogue. Exits with what is wrong."""
    if not 1 <= more.articles <= 5000:
        sys.exit("--articles is 1 to 5000")
    if not more.articles_url:
        return []
    try:
        products = read_products(FastHttp(more.articles_url, concurrency=1), more.catalog_key, more.articles)
    except CatalogProblem as problem:
        sys.exit(str(problem))
    return [_article(product) for product in products]


def _article(product: Known) -> str:
    return product.variants[0].sku if product.variants else product.sku


def _payer(options: Options) -> Operate:
    amounts = random.Random(options.seed)
    client = PaymentClient(
        FastHttp(options.host, concurrency=options.max_in_flight),
        options.api_key,
        clock=time.monotonic,
        sleep=gevent.sleep,
        jitter=random.Random(options.seed + 1),
        attempts=options.more.attempts,
    )

    articles = _articles(options.more)
    bought = random.Random(options.seed + 2)

    def pay(key: str) -> Ending:
        about = {"sku": bought.choice(articles), "quantity": str(bought.randint(1, 3))} if articles else {}
        return client.pay(Order(key, amounts.randrange(100, 50_000), "EUR", about))

    return pay


install(System("payment", _payer, _arguments))
