from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from loadtests.catalog_client import (
    ATTEMPTS,
    DEADLINE_SECONDS,
    PAGE,
    CatalogClient,
    CatalogProblem,
    Change,
    Known,
    Patient,
    Shop,
    read_products,
)
from loadtests.client import Answer, Ending
from loadtests.history import Outcome, ShownWrite

PRODUCTS = [Known(f"prd_{number}", f"SKU-{number}", 1, 2, 1) for number in range(50)]
NOTHING = Answer(None, {}, b"", "TimeoutError")


def product(identifier: str = "prd_9", version: int = 4) -> Answer:
    body = {"id": identifier, "sku": "S", "brand_id": 1, "category_id": 2, "version": version}
    return Answer(200, {}, json.dumps(body).encode())


@dataclass
class Scripted:
    """Gives the answers in order and keeps what was asked."""

    answers: list[Answer]
    sent: list[tuple[str, str, object, Mapping[str, str]]] = field(default_factory=list)

    def send(self, method: str, path: str, body: str | None, headers: Mapping[str, str]) -> Answer:
        self.sent.append((method, path, None if body is None else json.loads(body), headers))
        return self.answers.pop(0)


@dataclass
class Time:
    now: float = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class OneChange(Shop):
    """Always the same change."""

    wanted: Change | None = None

    def change(self, key: str) -> Change:
        assert self.wanted is not None
        return self.wanted


def write(change: Change, *answers: Answer) -> tuple[Ending, Scripted, OneChange]:
    api, time, draw = Scripted(list(answers)), Time(), random.Random(1)
    shop = OneChange(PRODUCTS, draw, wanted=change)
    client = CatalogClient(Patient(api, "a-key", draw, lambda: time.now, time.sleep), shop)
    return client.write("k-1"), api, shop


PRICE = Change("price", "PUT", "/v1/products/prd_9/price", {"price": 5}, "prd_9")
NEW = Change("create", "POST", "/v1/products", {"sku": "NEW"})
GONE = Change("delete", "DELETE", "/v1/products/prd_9", None, "prd_9")


def test_an_acknowledged_change_says_of_which_product_and_version() -> None:
    ending, api, _ = write(PRICE, product())
    assert ending == Ending(Outcome.OK, 1, 200, None, ShownWrite("prd_9", "4"), "price")
    assert api.sent[0][:3] == ("PUT", "/v1/products/prd_9/price", {"price": 5})
    assert api.sent[0][3]["Authorization"] == "Bearer a-key"


def test_what_got_no_answer_is_sent_again_as_it_was() -> None:
    ending, api, _ = write(PRICE, NOTHING, Answer(503, {"retry-after": "1"}, b""), product())
    assert (ending.outcome, ending.attempts) == (Outcome.OK, 3)
    assert len({json.dumps(each[2]) for each in api.sent}) == 1


def test_who_never_gets_an_answer_does_not_know() -> None:
    ending, _, _ = write(PRICE, *[NOTHING] * ATTEMPTS)
    assert (ending.outcome, ending.error) == (Outcome.UNKNOWN, "TimeoutError")
    ending, _, _ = write(PRICE, *[Answer(503, {"retry-after": "5"}, b"")] * ATTEMPTS)
    assert ending.outcome is Outcome.UNKNOWN
    assert ending.attempts < ATTEMPTS, f"{DEADLINE_SECONDS:g} s are over before"


def test_a_refusal_is_a_failure_with_its_type() -> None:
    ending, _, _ = write(PRICE, Answer(404, {}, b'{"type": "urn:lab:no_such_product"}'))
    assert (ending.outcome, ending.error) == (Outcome.FAIL, "urn:lab:no_such_product")


def test_a_200_that_is_no_product_is_no_acknowledgement() -> None:
    ending, _, _ = write(PRICE, Answer(200, {}, b"ok"))
    assert (ending.outcome, ending.error) == (Outcome.UNKNOWN, "200 without a product")


def test_a_creation_carries_a_key_and_may_be_ended_later() -> None:
    ending, api, shop = write(NEW, NOTHING, product("prd_new"))
    assert ending.shown == ShownWrite("prd_new", "4")
    assert {each[3]["Idempotency-Key"] for each in api.sent} == {"k-1"}
    assert shop.made == ["prd_new"]


def test_a_deletion_that_was_done_by_an_attempt_without_an_answer_is_done() -> None:
    gone = Answer(404, {}, b"")
    assert write(GONE, Answer(204, {}, b""))[0].outcome is Outcome.OK
    assert write(GONE, NOTHING, gone)[0].outcome is Outcome.OK
    assert write(GONE, gone)[0].outcome is Outcome.FAIL


def test_the_mix_is_what_it_says_and_the_frequent_products_are_few() -> None:
    shop = Shop(PRODUCTS, random.Random(5), skew=1.0)
    changes = []
    for number in range(4000):
        changes.append(shop.change(f"k{number}"))
        if changes[-1].kind == "create":
            shop.made.append(f"new-{number}")
    kinds = Counter(change.kind for change in changes)
    assert set(kinds) == {"price", "stock", "title", "create", "delete"}
    assert kinds["price"] / 4000 == pytest.approx(0.40, abs=0.03)
    touched = Counter(change.product for change in changes if change.kind == "price").most_common()
    assert touched[0][1] > 8 * touched[-1][1]


def test_only_products_of_its_own_are_ended_and_each_once() -> None:
    shop = Shop(PRODUCTS, random.Random(5))
    shop.made += [f"new-{number}" for number in range(30)]
    ended = [change.product for change in (shop.change(f"k{n}") for n in range(3000)) if change.kind == "delete"]
    assert len(ended) == len(set(ended)) == 30
    assert all(name.startswith("new-") for name in ended)


def test_the_stock_of_a_product_with_variants_is_left_alone() -> None:
    with_variants = [Known("prd_1", "S", 1, 2, 1, ({"sku": "S-1"},))]  # type: ignore[arg-type]  # any truthy tuple will do
    shop = Shop(with_variants, random.Random(5))
    assert "stock" not in {shop.change(f"k{number}").kind for number in range(500)}


def page(first: int, count: int, cursor: str | None) -> Answer:
    data = [{"id": f"prd_{n}", "sku": "S", "brand_id": 1, "category_id": 1} for n in range(first, first + count)]
    return Answer(200, {}, json.dumps({"data": data, "next_cursor": cursor}).encode())


def test_the_catalogue_is_listed_page_by_page() -> None:
    api = Scripted([page(0, PAGE, "prd_99"), page(PAGE, 5, None)])
    assert len(read_products(api, "a-key")) == PAGE + 5
    assert api.sent[1][1].endswith("&cursor=prd_99")


def test_no_more_is_listed_than_wanted() -> None:
    assert len(read_products(Scripted([page(0, PAGE, "more")]), "a-key", 30)) == 30


@pytest.mark.parametrize("answer", [page(0, 0, None), NOTHING, Answer(401, {}, b""), Answer(200, {}, b"[]")])
def test_a_catalogue_that_cannot_be_changed_is_told(answer: Answer) -> None:
    with pytest.raises(CatalogProblem):
        read_products(Scripted([answer]), "a-key")
