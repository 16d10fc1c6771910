"""Load on a search API, open model: `locust -f loadtests/search.py --headless --host URL --rate 50 --seconds 60`.

Arrivals: a Poisson process of --rate queries a second. Mix: GET /v1/search with the texts of --queries (4,800 of every form:
nouns, brands, models, synonyms, typos), each with facets as the service gives them; nobody retries. Skew: Zipf's law with
--skew as its exponent, so that at 1 the most frequent text is a ninth of all; --hot adds to that one. --writes-url: a share of
the operations puts documents there instead, number n of --documents in turn, and keeps the version that was acknowledged.
"""

from __future__ import annotations

import random
import sys
from argparse import Namespace
from pathlib import Path

from locust.argument_parser import LocustArgumentParser

from loadtests.client import Ending
from loadtests.documents_client import DocumentWriter
from loadtests.fasthttp import FastHttp
from loadtests.open_load import FromSchedule, Idle, Operate, Options, System, install
from loadtests.search_client import Mix, QueriesProblem, Searcher, read_queries

__all__ = ["FromSchedule", "Idle"]

TIMEOUT_SECONDS = 10.0
"""For an answer: how late it comes is what is measured."""
QUERIES = Path(__file__).with_name("queries.txt")


def _arguments(parser: LocustArgumentParser) -> None:
    parser.add_argument("--queries", default=str(QUERIES), include_in_web_ui=False, help="file, one query a line")
    parser.add_argument("--skew", type=float, default=1.0, help="exponent of Zipf's law over the queries; 0: all alike")
    parser.add_argument("--hot", type=float, default=0.0, help="share of one query, on top of its own")
    parser.add_argument(
        "--hot-text", default="", include_in_web_ui=False, help="that query; empty: the most frequent one"
    )
    parser.add_argument("--parameters", default="", help="added to each query: size=20&sort=price")
    parser.add_argument("--clients", type=int, default=1000, help="so many people ask")
    parser.add_argument(
        "--writes-url", default="", include_in_web_ui=False, help="where documents are put; empty: none"
    )
    parser.add_argument("--write-share", type=float, default=0.1, help="share of the operations that put a document")
    parser.add_argument("--documents", type=int, default=500, help="so many different ones are put")


def _check(more: Namespace) -> None:
    """Exits with what is allowed."""
    if not 0 <= more.skew <= 10:
        sys.exit("--skew is 0 to 10")
    if not 0 <= more.hot < 1:
        sys.exit("--hot is 0 to below 1")
    if not 1 <= more.clients <= 1_000_000:
        sys.exit("--clients is 1 to 1000000")
    if not 0 <= more.write_share <= 1:
        sys.exit("--write-share is 0 to 1")
    if not 1 <= more.documents <= 100_000:
        sys.exit("--documents is 1 to 100000")


def _searcher(options: Options) -> Operate:
    more = options.more
    _check(more)
    try:
        queries = read_queries(Path(more.queries))
    except QueriesProblem as problem:
        sys.exit(str(problem))
    draw = random.Random(options.seed)
    mix = Mix.of(queries, draw, skew=more.skew, hot=more.hot, hot_text=more.hot_text)
    api = FastHttp(options.host, concurrency=options.max_in_flight, timeout=TIMEOUT_SECONDS)
    searcher = Searcher(api, mix, more.parameters, more.clients)
    writer = None
    if more.writes_url:
        writes = FastHttp(more.writes_url, concurrency=options.max_in_flight, timeout=TIMEOUT_SECONDS)
        writer = DocumentWriter(writes, options.run, more.documents)

    def operate(key: str) -> Ending:
        if writer is not None and draw.random() < more.write_share:
            return writer.write(key)
        return searcher.search()

    return operate


install(System("search", _searcher, _arguments))
