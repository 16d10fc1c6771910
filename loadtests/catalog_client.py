"""Writes of a shop's catalogue: prices, stock, titles, new products, gone products. The few that sell are changed most.

Each change sets a value, so that sending it twice is harmless: what got no answer is tried again. A product that this client
made may be ended by it later; the others stay.
"""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, count
from typing import Protocol

import msgspec

from loadtests.client import Answer, Ending
from loadtests.history import Outcome, ShownWrite

ATTEMPTS = 5
DEADLINE_SECONDS = 12.0
BACKOFF_SECONDS = 0.2
LONGEST_BACKOFF_SECONDS = 2.0
LONGEST_RETRY_AFTER_SECONDS = 5.0
PAGE = 100
MOST_PRODUCTS = 5_000
"""Of a larger catalogue the newest are changed."""
KINDS = ("price", "stock", "title", "create", "delete")
SHARES = (40, 40, 14, 3, 3)
WORDS = ("light", "new", "classic", "city", "trail", "winter", "summer", "compact", "family", "travel", "pro", "eco")


class CatalogProblem(Exception):
    """There is nothing to change; says why."""


class Http(Protocol):
    """The one call of this client; a timeout or a broken connection is an Answer too."""

    def send(self, method: str, path: str, body: str | None, headers: Mapping[str, str]) -> Answer: ...


class _Variant(msgspec.Struct, frozen=True):
    sku: str


class Known(msgspec.Struct, frozen=True):
    """A product as far as this client minds it."""

    id: str
    sku: str
    brand_id: int
    category_id: int
    version: int = 0
    variants: tuple[_Variant, ...] = ()


class _Page(msgspec.Struct, frozen=True):
    data: list[Known]
    next_cursor: str | None = None


class _Problem(msgspec.Struct, frozen=True):
    type: str = "about:blank"


@dataclass(frozen=True, slots=True)
class Change:
    """One request. `product` is empty for a creation."""

    kind: str
    method: str
    path: str
    body: Mapping[str, object] | None
    product: str = ""


@dataclass(slots=True)
class Shop:
    """What there is to change. Zipf's law with `skew`: product n is changed (n + 1) ** skew times more seldom than product 0."""

    products: Sequence[Known]
    draw: random.Random
    skew: float = 0.8
    made: list[str] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    _sums: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Products in the order of a shuffle: who is changed often is no matter of age."""
        order = list(self.products)
        self.draw.shuffle(order)
        self.products = order
        self._sums = list(accumulate((n + 1) ** -self.skew for n in range(len(order))))

    def change(self, key: str) -> Change:
        """The next one."""
        (kind,) = self.draw.choices(KINDS, SHARES)
        product = self.products[min(bisect(self._sums, self.draw.random() * self._sums[-1]), len(self.products) - 1)]
        path = f"/v1/products/{product.id}"
        if kind == "delete" and self.made:
            identifier = self.made.pop(self.draw.randrange(len(self.made)))
            self.gone.add(identifier)
            return Change(kind, "DELETE", f"/v1/products/{identifier}", None, identifier)
        if kind in ("create", "delete"):
            return Change("create", "POST", "/v1/products", self._new(key, product))
        if kind == "title":
            words = " ".join(self.draw.sample(WORDS, 3))
            return Change(kind, "PATCH", path, {"title": f"{words} {product.sku}"}, product.id)
        if kind == "stock" and not product.variants:
            return Change(kind, "PUT", f"{path}/stock", {"stock": self.draw.randrange(500)}, product.id)
        return Change("price", "PUT", f"{path}/price", {"price": self.draw.randrange(100, 50_000)}, product.id)

    def _new(self, key: str, like: Known) -> Mapping[str, object]:
        return {
            "sku": f"NEW-{key}",
            "title": f"{' '.join(self.draw.sample(WORDS, 3))} {key}",
            "language": "en",
            "brand_id": like.brand_id,
            "category_id": like.category_id,
            "price": self.draw.randrange(100, 50_000),
            "currency": "EUR",
            "stock": self.draw.randrange(500),
        }


@dataclass(frozen=True, slots=True)
class Patient:
    """Sends what is harmless to send twice until an answer means something, or too much time is gone."""

    api: Http
    api_key: str
    draw: random.Random
    clock: Callable[[], float]
    sleep: Callable[[float], None]

    def send(self, method: str, path: str, content: object, key: str = "") -> tuple[Answer, int]:
        """The last answer, and how many attempts it took. `content` None: no body; `key`: an Idempotency-Key."""
        give_up_at = self.clock() + DEADLINE_SECONDS
        body = None if content is None else msgspec.json.encode(content).decode()
        headers = {"Authorization": f"Bearer {self.api_key}", "Content-Type": "application/json"}
        if key:
            headers["Idempotency-Key"] = key
        for attempt in count(1):
            answer = self.api.send(method, path, body, headers)
            pause = self._pause(answer, attempt)
            if not _worth_retrying(answer) or attempt >= ATTEMPTS or self.clock() + pause > give_up_at:
                break
            self.sleep(pause)
        return answer, attempt

    def _pause(self, answer: Answer, attempts: int) -> float:
        most = min(BACKOFF_SECONDS * 2 ** (attempts - 1), LONGEST_BACKOFF_SECONDS)
        return max(self.draw.uniform(0, most), _retry_after(answer))


@dataclass(frozen=True, slots=True)
class CatalogClient:
    """`write` blocks until the client knows or gives up."""

    patient: Patient
    shop: Shop

    def write(self, key: str) -> Ending:
        """Send the next change until an answer means something."""
        change = self.shop.change(key)
        answer, attempts = self.patient.send(
            change.method, change.path, change.body, key if change.method == "POST" else ""
        )
        ending = Ending(Outcome.UNKNOWN, attempts, answer.status, answer.error, kind=change.kind)
        return self._concluded(answer, change, ending)

    def _concluded(self, answer: Answer, change: Change, ending: Ending) -> Ending:
        if answer.status is None or answer.status >= 500:
            ending.error = ending.error or problem_type(answer)
            return ending
        if change.kind == "delete" and answer.status == 404 and ending.attempts > 1:
            answer = Answer(204, {}, b"")  # an attempt without an answer has ended it
        if answer.status is not None and answer.status >= 400:
            ending.outcome, ending.error = Outcome.FAIL, problem_type(answer)
            return ending
        product, version = change.product, ""
        if change.kind != "delete":
            try:
                known = msgspec.json.decode(answer.body, type=Known)
            except (msgspec.DecodeError, UnicodeDecodeError):
                ending.error = f"{answer.status} without a product"
                return ending
            product, version = known.id, str(known.version)
        if change.kind == "create":
            self.shop.made.append(product)
        ending.outcome, ending.error, ending.shown = Outcome.OK, None, ShownWrite(product, version)
        return ending


def read_products(api: Http, api_key: str, most: int = MOST_PRODUCTS) -> list[Known]:
    """The newest products of the catalogue. Raises CatalogProblem."""
    found: list[Known] = []
    cursor = ""
    while len(found) < most:
        answer = api.send("GET", f"/v1/products?limit={PAGE}{cursor}", None, {"Authorization": f"Bearer {api_key}"})
        if answer.status != 200:
            raise CatalogProblem(f"The catalogue was not listed: {answer.error or f'HTTP {answer.status}'}")
        try:
            page = msgspec.json.decode(answer.body, type=_Page)
        except msgspec.DecodeError as error:
            raise CatalogProblem(f"The catalogue's list cannot be read: {error}") from error
        found += page.data
        if page.next_cursor is None:
            break
        cursor = f"&cursor={page.next_cursor}"
    if not found:
        raise CatalogProblem("The catalogue is empty: python -m services.catalog fill --products 5000")
    return found[:most]


def _worth_retrying(answer: Answer) -> bool:
    if answer.status is None or answer.status == 429:
        return True
    if answer.status == 409:  # the first request under this key is still in flight
        return answer.header("retry-after") is not None
    return answer.status >= 500 and answer.status != 501


def _retry_after(answer: Answer) -> float:
    try:
        return min(max(float(answer.header("retry-after") or 0), 0.0), LONGEST_RETRY_AFTER_SECONDS)
    except ValueError:
        return 0.0


def problem_type(answer: Answer) -> str:
    """Of a refusal, or its status."""
    try:
        return msgspec.json.decode(answer.body, type=_Problem).type
    except (msgspec.DecodeError, UnicodeDecodeError):
        return f"HTTP {answer.status}"
