"""What the story buys: the product that is named, or one of its own that it makes where there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from labs.story.house import Outside, Reply
from labs.story.judges import Figures, as_text, field_of
from services.kit import ids

KEY = "lab_demo_catalog_key"
OWN_SKU = "STORY-LAMP"
OWN_STOCK = 1000
BRAND, CATEGORY = "Storyteller", "story"


class NoArticle(Exception):
    """Nothing can be bought; says why in one sentence."""


@dataclass(frozen=True, slots=True)
class Article:
    """`id` is `prd_...`, `uuid` the same in tables; `sku` is what is bought: the product's, or that of one of its variants."""

    id: str
    uuid: str
    sku: str
    title: str
    price: int
    currency: str
    figures: Figures


async def find(outside: Outside, named: str, quantity: int) -> Article:
    """The product of this id or SKU; "" for the story's own. Raises NoArticle, and what Outside raises."""
    if not named:
        return await _own(outside, quantity)
    found = await _by_name(outside, named)
    if found is None:
        raise NoArticle(f"The catalogue has no product with the id or SKU {named}.")
    article = _article(found, "" if named.startswith("prd_") else named)
    if article is None:
        raise NoArticle(f"Nothing of {named} is in stock.")
    if _left(found, article.sku) < quantity:
        raise NoArticle(f"There are fewer than {quantity} of {article.sku} in stock.")
    return article


async def _by_name(outside: Outside, named: str) -> Mapping[str, Any] | None:
    if named.startswith("prd_"):
        answer = await outside.call("GET", "catalog-api", f"/v1/products/{quote(named, safe='')}", key=KEY)
        return _product(answer) if answer.status == 200 else None
    answer = await outside.call("GET", "catalog-api", f"/v1/products?sku={quote(named, safe='')}", key=KEY)
    data = field_of(answer.document, "data")
    return data[0] if answer.status == 200 and isinstance(data, list) and data else None


def _product(answer: Reply) -> Mapping[str, Any]:
    if not isinstance(answer.document, Mapping):
        raise NoArticle(f"The catalogue answered {answer.status} with something that is no product.")
    return answer.document


def _left(product: Mapping[str, Any], sku: str) -> int:
    return next((int(each["stock"]) for each in product["variants"] if each["sku"] == sku), int(product["stock"]))


def _article(product: Mapping[str, Any], sku: str) -> Article | None:
    """A variant's price is its own. Without a SKU: the variant there is most of, or the product. None: nothing to buy."""
    variants = {str(each["sku"]): each for each in product["variants"]}
    if variants and sku not in variants:
        sku = max(variants, key=lambda name: int(variants[name]["stock"]))
    bought = variants.get(sku, product)
    uuid = ids.decode("prd", str(product["id"]))
    if uuid is None or int(bought["stock"]) < 1:
        return None
    return Article(
        id=str(product["id"]),
        uuid=str(uuid),
        sku=str(bought["sku"]),
        title=str(product["title"]),
        price=int(bought["price"]),
        currency=str(product["currency"]),
        figures=Figures(int(product["stock"]), int(product["popularity"])),
    )


async def _own(outside: Outside, quantity: int) -> Article:
    found = await _by_name(outside, OWN_SKU)
    if found is None:
        found = await _make(outside)
    elif int(found["stock"]) < quantity:
        path = f"/v1/products/{found['id']}/stock"
        found = _product(_expect(await outside.call("PUT", "catalog-api", path, key=KEY, body={"stock": OWN_STOCK})))
    article = _article(found, OWN_SKU)
    if article is None:
        raise NoArticle("The story's own product has no stock.")
    return article


async def _make(outside: Outside) -> Mapping[str, Any]:
    brand = await _ensured(outside, "/v1/brands", {"name": BRAND})
    category = await _ensured(outside, "/v1/categories", {"path": CATEGORY, "names": {"en": "Stories"}})
    body = {
        "sku": OWN_SKU,
        "title": "Storyteller reading lamp",
        "description": "Sold by make story, again and again.",
        "language": "en",
        "brand_id": brand,
        "category_id": category,
        "price": 1250,
        "currency": "EUR",
        "stock": OWN_STOCK,
    }
    return _product(_expect(await outside.call("POST", "catalog-api", "/v1/products", key=KEY, body=body)))


async def _ensured(outside: Outside, path: str, body: Mapping[str, object]) -> object:
    """The id of a brand or category, made or found."""
    answer = await outside.call("POST", "catalog-api", path, key=KEY, body=body)
    if answer.status != 409:
        _expect(answer)
    return field_of(answer.document, "id")


def _expect(answer: Reply) -> Reply:
    if answer.status not in (200, 201):
        raise NoArticle(
            f"The catalogue answered {answer.status}: {as_text(field_of(answer.document, 'title'))}".strip()
        )
    return answer
