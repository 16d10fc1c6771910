"""Products, variants, categories and brands: pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from uuid import UUID

PREFIX = "prd"
LARGEST_PRICE = 100_000_000
"""Cents."""
LARGEST_STOCK = 1_000_000_000
LARGEST_POPULARITY = 1_000_000_000_000
MOST_VARIANTS = 200
MOST_OFFERS = 500
"""Prices and stocks in one request, which is one commit."""

LARGEST_SALE = 10_000
"""Pieces of one article in one order."""


class Language(StrEnum):
    """What a product's title and description are written in (ISO 639-1)."""

    EN = "en"
    DE = "de"
    FR = "fr"
    ES = "es"


@dataclass(frozen=True, slots=True)
class Category:
    """A node of the tree. `path` holds the keys from the root to itself, separated by slashes."""

    id: int
    path: str
    names: Mapping[Language, str]

    @property
    def parent(self) -> str:
        """Empty for a root."""
        return self.path.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class Brand:
    """A maker. Its name is part of its products' titles."""

    id: int
    name: str


@dataclass(frozen=True, slots=True)
class Variant:
    """What can be bought: a size or colour of a product, with a stock of its own."""

    sku: str
    attributes: Mapping[str, str]
    price: int
    stock: int


@dataclass(frozen=True, slots=True)
class Product:
    """`price` in cents; `popularity` is sales of the last thirty days; `stock` counts the product and its variants."""

    id: UUID
    sku: str
    title: str
    description: str
    language: Language
    brand: int
    category: int
    model: str
    attributes: Mapping[str, str]
    price: int
    currency: str
    stock: int
    popularity: int
    created_at: datetime
    variants: tuple[Variant, ...] = ()


@dataclass(frozen=True, slots=True)
class Offer:
    """What a feed says of one SKU, a product's or a variant's. None: it does not say."""

    sku: str
    price: int | None
    stock: int | None


class OfferOutcome(StrEnum):
    """What became of an offer. Only CHANGED moves the product's version on."""

    CHANGED = "changed"
    UNCHANGED = "unchanged"
    NO_SUCH_SKU = "no_such_sku"
    HAS_VARIANTS = "has_variants"
    """The stock of this product is that of its variants; nothing of the offer was taken."""
    TOO_MUCH_STOCK = "too_much_stock"
    """The variants' stock together would be above LARGEST_STOCK; nothing of the offer was taken."""


@dataclass(frozen=True, slots=True)
class Offered:
    """`version` is the product's after all offers of the request; both None where nobody has the SKU."""

    sku: str
    outcome: OfferOutcome
    product: UUID | None = None
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Sale:
    """A paid order of one article, `sku` being a product's or a variant's. `event_id` says whether it is known already."""

    event_id: str
    payment_id: str
    sku: str
    quantity: int


def sold(product: Product, sale: Sale) -> tuple[Product, int]:
    """The product after a sale, and how many pieces there were too few. What is paid is wanted, whether it is there or not."""
    variants = {each.sku: each for each in product.variants}
    stock = variants[sale.sku].stock if sale.sku in variants else 0 if product.variants else product.stock
    left = max(0, stock - sale.quantity)
    if sale.sku in variants:
        variants[sale.sku] = replace(variants[sale.sku], stock=left)
    popularity = min(LARGEST_POPULARITY, product.popularity + sale.quantity)
    after = replace(product, popularity=popularity, variants=tuple(variants.values()))
    total = sum(each.stock for each in after.variants) if after.variants else left
    return replace(after, stock=total), max(0, sale.quantity - stock)


@dataclass(frozen=True, slots=True)
class Stored:
    """A product as the database has it. `version` counts its changes from 1."""

    product: Product
    version: int
    updated_at: datetime
