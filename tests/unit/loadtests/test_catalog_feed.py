"""A feed's offers leave together and end apart: each has the outcome that its own answer gives it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gevent
import pytest

from loadtests.catalog_client import ATTEMPTS, Known, Patient
from loadtests.catalog_feed import Feed, endings
from loadtests.client import Answer, Ending
from loadtests.history import Outcome, ShownWrite

NOTHING = Answer(None, {}, b"", "TimeoutError")
PRODUCTS = [Known(f"prd_{number}", f"SKU-{number}", 1, 2, 1) for number in range(6)]


def told(*offers: tuple[str, str | None, int | None]) -> Answer:
    body = {"offers": [{"sku": "S", "outcome": outcome, "id": who, "version": v} for outcome, who, v in offers]}
    return Answer(200, {}, json.dumps(body).encode())


def taken(offers: list[Any]) -> Answer:
    return told(*(("changed", one["sku"].replace("SKU", "prd"), 2) for one in offers))


@dataclass
class Api:
    """Answers by `how`, and keeps what was asked."""

    how: Callable[[list[Any]], Answer] = taken
    sent: list[list[Any]] = field(default_factory=list)

    def send(self, method: str, path: str, body: str | None, headers: Mapping[str, str]) -> Answer:
        assert (method, path, headers["Authorization"]) == ("POST", "/v1/offers", "Bearer a-key")
        assert body is not None
        self.sent.append(json.loads(body)["offers"])
        return self.how(self.sent[-1])


def feed(api: Api, size: int = 3, products: list[Known] = PRODUCTS) -> Feed:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    draw = random.Random(3)
    return Feed(Patient(api, "a-key", draw, lambda: now[0], sleep), products, draw, size)


def written(made: Feed, operations: int) -> list[Ending]:
    greenlets = [gevent.spawn(made.write, f"k-{number}") for number in range(operations)]
    gevent.joinall(greenlets, timeout=30, raise_error=True)
    return [one.value for one in greenlets]


def test_a_full_request_leaves_at_once_and_what_is_left_a_moment_later() -> None:
    api = Api()
    found = written(feed(api), 8)
    assert [len(each) for each in api.sent] == [3, 3, 2]
    assert {(one.outcome, one.attempts, one.kind) for one in found} == {(Outcome.OK, 1, "offer")}


def test_each_operation_is_told_of_its_own_product() -> None:
    api = Api()
    found = written(feed(api), 6)
    sent = [offer["sku"].replace("SKU", "prd") for batch in api.sent for offer in batch]
    assert [one.shown for one in found] == [ShownWrite(who, "2") for who in sent]


def test_no_product_is_twice_in_a_request_and_each_has_its_turn() -> None:
    api = Api()
    written(feed(api, size=4), 60)
    skus = [[offer["sku"] for offer in batch] for batch in api.sent]
    assert all(len(set(batch)) == len(batch) == 4 for batch in skus)
    assert {sum(batch.count(one.sku) for batch in skus) for one in PRODUCTS} == {10}


def test_the_stock_of_a_product_with_variants_is_left_out() -> None:
    many = [Known("prd_1", "SKU-1", 1, 2, 1, ({"sku": "x"},))]  # type: ignore[arg-type]  # any truthy tuple will do
    api = Api()
    written(feed(api, products=many), 1)
    assert api.sent[0][0].keys() == {"sku", "price"}


def test_a_request_that_never_gets_an_answer_leaves_all_of_them_unknown_and_is_repeated_as_it_was() -> None:
    api = Api(lambda _: NOTHING)
    found = written(feed(api), 3)
    assert {(one.outcome, one.attempts, one.error) for one in found} == {(Outcome.UNKNOWN, ATTEMPTS, "TimeoutError")}
    assert len({json.dumps(batch) for batch in api.sent}) == 1


def test_outcomes_of_one_request_differ() -> None:
    mixed = told(
        ("changed", "prd_1", 3), ("no_such_sku", None, None), ("unchanged", "prd_2", 9), ("has_variants", "p", 1)
    )
    assert endings(mixed, 1, 4) == [
        Ending(Outcome.OK, 1, 200, None, ShownWrite("prd_1", "3"), "offer"),
        Ending(Outcome.FAIL, 1, 200, "no_such_sku", None, "offer"),
        Ending(Outcome.OK, 1, 200, None, ShownWrite("prd_2", "9"), "offer"),
        Ending(Outcome.FAIL, 1, 200, "has_variants", None, "offer"),
    ]


@pytest.mark.parametrize(
    ("answer", "outcome", "error"),
    [
        (Answer(503, {}, b'{"type": "urn:lab:busy"}'), Outcome.UNKNOWN, "urn:lab:busy"),
        (Answer(422, {}, b'{"type": "urn:lab:invalid_offers"}'), Outcome.FAIL, "urn:lab:invalid_offers"),
        (Answer(200, {}, b"ok"), Outcome.UNKNOWN, "200 without an outcome for each offer"),
        (told(("changed", "prd_1", 2)), Outcome.UNKNOWN, "200 without an outcome for each offer"),
    ],
)
def test_an_answer_to_the_whole_request_is_that_of_each_offer(answer: Answer, outcome: Outcome, error: str) -> None:
    assert [(one.outcome, one.error) for one in endings(answer, 2, 2)] == [(outcome, error)] * 2
