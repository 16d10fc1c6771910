"""Load on a catalogue, open model: `locust -f loadtests/catalog.py --headless --host URL --rate 50 --seconds 60`.

Arrivals: a Poisson process of --rate operations a second. Mix: 40 % prices, 40 % stock (prices for what has variants), 14 %
titles, 3 % new products, 3 % of those gone again; with --search-url a share of the operations are queries instead. Skew: the
newest products (--products of them, found by listing at the start) are changed by Zipf's law with exponent --skew.

With --feed-share most operations may be offers of a supplier's feed (price and stock, many in a request, see catalog_feed):
every second product is his then, and the other changes are of those that are not.
"""

from __future__ import annotations

import random
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import gevent
from locust.argument_parser import LocustArgumentParser

from loadtests.catalog_client import CatalogClient, CatalogProblem, Known, Patient, Shop, read_products
from loadtests.catalog_feed import MOST, Feed
from loadtests.client import Ending
from loadtests.fasthttp import FastHttp
from loadtests.open_load import FromSchedule, Idle, Operate, Options, System, install
from loadtests.search_client import Mix, QueriesProblem, Searcher, read_queries

__all__ = ["FromSchedule", "Idle"]

TIMEOUT_SECONDS = 3.0
QUERIES = Path(__file__).with_name("queries.txt")


def _arguments(parser: LocustArgumentParser) -> None:
    parser.add_argument("--products", type=int, default=2000, help="so many of the newest products are changed")
    parser.add_argument(
        "--skew", type=float, default=0.8, help="exponent of Zipf's law over the products; 0: all alike"
    )
    parser.add_argument("--search-url", default="", include_in_web_ui=False, help="where queries go; empty: none")
    parser.add_argument("--query-share", type=float, default=0.5, help="share of the operations that are queries")
    parser.add_argument("--queries", default=str(QUERIES), include_in_web_ui=False, help="file, one query a line")
    parser.add_argument(
        "--feed-share", type=float, default=0.0, help="share of the operations that are a feed's offers"
    )
    parser.add_argument("--feed-size", type=int, default=100, help="offers in one request of the feed at most")
    parser.add_argument(
        "--catalog-key", default="lab_demo_catalog_key", include_in_web_ui=False, help="the key at the catalogue"
    )


def _check(more: Namespace) -> None:
    """Exits with what is allowed."""
    if not 1 <= more.products <= 100_000:
        sys.exit("--products is 1 to 100000")
    if not 0 <= more.skew <= 10:
        sys.exit("--skew is 0 to 10")
    if not 0 <= more.query_share <= 1:
        sys.exit("--query-share is 0 to 1")
    if not 0 <= more.feed_share <= 1:
        sys.exit("--feed-share is 0 to 1")
    if not 1 <= more.feed_size <= MOST:
        sys.exit(f"--feed-size is 1 to {MOST}")


def _writer(options: Options) -> Operate:
    more = options.more
    _check(more)
    draw = random.Random(options.seed)
    api = FastHttp(options.host, concurrency=options.max_in_flight, timeout=TIMEOUT_SECONDS)
    try:
        products = read_products(api, more.catalog_key, more.products)
        queries = read_queries(Path(more.queries)) if more.search_url else ()
    except (CatalogProblem, QueriesProblem) as problem:
        sys.exit(str(problem))
    patient = Patient(api, more.catalog_key, draw, time.monotonic, gevent.sleep)
    if not more.feed_share:
        return _shopper(options, patient, products, queries, draw)
    if len(products) < 2:
        sys.exit("a feed and other changes need two products at least")
    feed = Feed(patient, products[1::2], draw, more.feed_size)
    others = _shopper(options, patient, products[::2], queries, draw)
    return lambda key: feed.write(key) if draw.random() < more.feed_share else others(key)


def _shopper(
    options: Options, patient: Patient, products: Sequence[Known], queries: Sequence[str], draw: random.Random
) -> Operate:
    """Single changes, and queries among them."""
    more = options.more
    client = CatalogClient(patient, Shop(products, draw, more.skew))
    if not more.search_url:
        return client.write
    search = FastHttp(more.search_url, concurrency=options.max_in_flight, timeout=TIMEOUT_SECONDS)
    searcher = Searcher(search, Mix.of(queries, draw), patience_ms=int(TIMEOUT_SECONDS * 1000))

    def operate(key: str) -> Ending:
        return searcher.search() if draw.random() < more.query_share else client.write(key)

    return operate


install(System("write", _writer, _arguments))
