"""Bodies and answers of the catalogue's API."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from services.catalog.domain import (
    LARGEST_POPULARITY,
    LARGEST_PRICE,
    LARGEST_STOCK,
    MOST_OFFERS,
    MOST_VARIANTS,
    PREFIX,
    Brand,
    Category,
    Language,
    Offered,
    OfferOutcome,
    Stored,
)
from services.kit import ids

# NUL cannot be stored, and no control character belongs into a line of text.
_LINE = r"^[^\x00-\x1f\x7f]*\Z"
_TEXT = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*\Z"
LARGEST_ID = 2**31 - 1

Sku = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/+-]*\Z")]
Title = Annotated[str, Meta(min_length=1, max_length=300, pattern=r"^(?=.*\S)[^\x00-\x1f\x7f]*\Z")]
Description = Annotated[str, Meta(max_length=10_000, pattern=_TEXT)]
Model = Annotated[str, Meta(max_length=100, pattern=_LINE)]
AttributeName = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,39}\Z")]
AttributeValue = Annotated[str, Meta(min_length=1, max_length=200, pattern=_LINE)]
Attributes = Annotated[dict[AttributeName, AttributeValue], Meta(max_length=50)]
Price = Annotated[int, Meta(ge=1, le=LARGEST_PRICE, description="Cents")]
Currency = Annotated[str, Meta(pattern=r"^[A-Z]{3}\Z", description="ISO 4217")]
Stock = Annotated[int, Meta(ge=0, le=LARGEST_STOCK)]
Popularity = Annotated[int, Meta(ge=0, le=LARGEST_POPULARITY, description="Sales of the last thirty days")]
Id = Annotated[int, Meta(ge=1, le=LARGEST_ID)]
BrandName = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^(?=.*\S)[^\x00-\x1f\x7f]*\Z")]
CategoryName = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^(?=.*\S)[^\x00-\x1f\x7f]*\Z")]
CategoryNames = Annotated[dict[Language, CategoryName], Meta(min_length=1, description="Language -> name")]
CategoryPath = Annotated[
    str,
    Meta(
        max_length=200,
        pattern=r"^[a-z0-9][a-z0-9_-]{0,39}(/[a-z0-9][a-z0-9_-]{0,39}){0,7}\Z",
        description="Keys from the root, separated by slashes; its parent must exist",
    ),
]


class VariantBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A size or colour that can be bought."""

    sku: Sku
    price: Price
    stock: Stock = 0
    attributes: Attributes = {}


Variants = Annotated[tuple[VariantBody, ...], Meta(max_length=MOST_VARIANTS)]


class ProductBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A whole product. With variants its stock is theirs, and must not be given."""

    sku: Sku
    title: Title
    language: Language
    brand_id: Id
    category_id: Id
    price: Price
    currency: Currency
    description: Description = ""
    model: Model = ""
    attributes: Attributes = {}
    stock: Stock | None = None
    popularity: Popularity = 0
    created_at: Annotated[datetime, Meta(tz=True)] | None = None
    variants: Variants = ()


class PatchProduct(Struct, frozen=True, forbid_unknown_fields=True):
    """What is given replaces what was; `attributes` and `variants` each as a whole."""

    sku: Sku | UnsetType = UNSET
    title: Title | UnsetType = UNSET
    language: Language | UnsetType = UNSET
    brand_id: Id | UnsetType = UNSET
    category_id: Id | UnsetType = UNSET
    price: Price | UnsetType = UNSET
    currency: Currency | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    model: Model | UnsetType = UNSET
    attributes: Attributes | UnsetType = UNSET
    stock: Stock | UnsetType = UNSET
    popularity: Popularity | UnsetType = UNSET
    variants: Variants | UnsetType = UNSET


class SetStock(Struct, frozen=True, forbid_unknown_fields=True):
    stock: Stock


class SetPrice(Struct, frozen=True, forbid_unknown_fields=True):
    price: Price


class SetPopularity(Struct, frozen=True, forbid_unknown_fields=True):
    popularity: Popularity


class OfferBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Price, stock or both of a SKU, a product's or a variant's."""

    sku: Sku
    price: Price | UnsetType = UNSET
    stock: Stock | UnsetType = UNSET


class OffersBody(Struct, frozen=True, forbid_unknown_fields=True):
    """What a feed sends at once."""

    offers: Annotated[tuple[OfferBody, ...], Meta(min_length=1, max_length=MOST_OFFERS)]


class OfferView(Struct, frozen=True):
    """`id` and `version` are the product's; null where nobody has the SKU."""

    sku: str
    outcome: OfferOutcome
    id: str | None
    version: int | None


class OfferList(Struct, frozen=True):
    """In the order of the request."""

    offers: list[OfferView]


class BrandBody(Struct, frozen=True, forbid_unknown_fields=True):
    name: BrandName


class CategoryBody(Struct, frozen=True, forbid_unknown_fields=True):
    path: CategoryPath
    names: CategoryNames


class NamesBody(Struct, frozen=True, forbid_unknown_fields=True):
    names: CategoryNames


class VariantView(Struct, frozen=True):
    sku: str
    price: int
    stock: int
    attributes: dict[str, str]


class ProductView(Struct, frozen=True):
    """`version` is the ETag."""

    id: str
    sku: str
    title: str
    description: str
    language: Language
    brand_id: int
    category_id: int
    model: str
    attributes: dict[str, str]
    price: int
    currency: str
    stock: int
    popularity: int
    variants: list[VariantView]
    created_at: datetime
    updated_at: datetime
    version: int


class ProductList(Struct, frozen=True):
    """`next_cursor` null: this is the last page."""

    data: list[ProductView]
    next_cursor: str | None


class BrandView(Struct, frozen=True):
    id: int
    name: str


class BrandList(Struct, frozen=True):
    data: list[BrandView]
    next_cursor: str | None


class CategoryView(Struct, frozen=True):
    id: int
    path: str
    names: dict[str, str]


class CategoryList(Struct, frozen=True):
    data: list[CategoryView]
    next_cursor: str | None


class ImportView(Struct, frozen=True):
    """All lines below `next_line` are decided. `finished_at`: when a body was last read to its end; null if none was."""

    id: str
    next_line: int
    created: int
    updated: int
    unchanged: int
    rejected: int
    started_at: datetime
    moved_at: datetime
    finished_at: datetime | None


class BadLine(Struct, frozen=True):
    line: int
    problem: str


class BadLineList(Struct, frozen=True):
    data: list[BadLine]
    next_cursor: str | None


class ImportResult(Struct, frozen=True):
    """What this request did: `skipped` lines were decided before. `errors`: the first of its bad lines."""

    of: ImportView
    skipped: int
    errors: list[BadLine]


def product_view(stored: Stored) -> ProductView:
    product = stored.product
    return ProductView(
        id=ids.encode(PREFIX, product.id),
        sku=product.sku,
        title=product.title,
        description=product.description,
        language=product.language,
        brand_id=product.brand,
        category_id=product.category,
        model=product.model,
        attributes=dict(product.attributes),
        price=product.price,
        currency=product.currency,
        stock=product.stock,
        popularity=product.popularity,
        variants=[VariantView(each.sku, each.price, each.stock, dict(each.attributes)) for each in product.variants],
        created_at=product.created_at.astimezone(UTC),
        updated_at=stored.updated_at.astimezone(UTC),
        version=stored.version,
    )


def offer_view(offered: Offered) -> OfferView:
    product = None if offered.product is None else ids.encode(PREFIX, offered.product)
    return OfferView(offered.sku, offered.outcome, product, offered.version)


def brand_view(brand: Brand) -> BrandView:
    return BrandView(brand.id, brand.name)


def category_view(category: Category) -> CategoryView:
    names = {language.value: name for language, name in category.names.items()}
    return CategoryView(category.id, category.path, names)


product_line = msgspec.json.Decoder(ProductBody)
"""For lines of an import."""
