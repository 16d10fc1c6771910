"""A product of the catalogue as the index holds it. Pure: the same row gives the same document, byte by byte."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any
from uuid import UUID

import msgspec

from services.patterns.dlq import Unprocessable

CANARY = UUID("00000000-0000-7000-8000-000000000001")
"""The product that is changed every second to see how soon a change is found. It is for no customer's eyes."""

DIGEST_BITS = 28
"""So that the sum of 2^25 digests is still exact in a double, in which the engine adds."""

_MEASURE = re.compile(r"(-?[0-9]{1,15}(?:\.[0-9]{1,9})?)(?: ?[^\W\d_]{1,5}[23²³]?)?")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class VariantRow:
    """`price` in cents."""

    sku: str
    attributes: object
    price: int
    stock: int


@dataclass(frozen=True, slots=True)
class ProductRow:
    """A product with what belongs to it, all as of one instant.

    `path` is its category's; `category_names` are those of the category and all above it, from the root down, in the
    product's language. `attributes` are as the database has them, which need not be an object of texts.
    """

    id: UUID
    sku: str
    title: str
    description: str
    language: str
    brand_id: int
    brand: str
    path: str
    category_names: tuple[str, ...]
    model: str
    attributes: object
    price: int
    currency: str
    stock: int
    popularity: int
    created_at: datetime
    variants: tuple[VariantRow, ...] = ()


def document(row: ProductRow) -> Row:
    """Every field that any mapping has, but the digest. Raises Unprocessable for what no index will ever take."""
    pairs = sorted({*_pairs(row.attributes), *(pair for each in row.variants for pair in _pairs(each.attributes))})
    found: Row = {
        "id": str(row.id),
        "language": row.language,
        "sku": row.sku,
        "skus": sorted(each.sku for each in row.variants),
        "model": row.model,
        "title": row.title,
        f"title_{row.language}": row.title,
        f"description_{row.language}": row.description,
        "brand": row.brand,
        "brand_id": row.brand_id,
        "category": row.path,
        "categories": list(ancestors(row.path)),
        "category_text": list(row.category_names),
        "attributes": [f"{name}={value}" for name, value in pairs],
        "price": row.price,
        "currency": row.currency,
        "stock": row.stock,
        "in_stock": row.stock > 0,
        "popularity": row.popularity,
        "created_at": row.created_at.astimezone(UTC).isoformat(timespec="milliseconds"),
        "suggest": row.title,
    }
    if numbers := _numbers(pairs):
        found["number"] = numbers
    return found


def encoded(whole: Row, fields: Set[str]) -> bytes:
    """The part of a document that a mapping with these `fields` knows, with its digest, as one line of JSON."""
    kept = {name: value for name, value in whole.items() if name in fields}
    kept["digest"] = digest(kept)
    return msgspec.json.encode(kept, order="sorted")


def digest(source: Mapping[str, Any]) -> int:
    """A number of DIGEST_BITS bits for the content of a document, whatever digest it holds itself."""
    content = {name: value for name, value in source.items() if name != "digest"}
    hashed = blake2b(msgspec.json.encode(content, order="sorted"), digest_size=8).digest()
    return int.from_bytes(hashed) >> (64 - DIGEST_BITS)


def ancestors(path: str) -> Iterator[str]:
    """`a/b/c`: a, a/b, a/b/c."""
    place = path.find("/")
    while place >= 0:
        yield path[:place]
        place = path.find("/", place + 1)
    yield path


def measure(text: str) -> float | None:
    """The number of `28 mm` or `46`, in whichever unit the catalogue gives that attribute; None for other texts."""
    found = _MEASURE.fullmatch(text)
    return float(found[1]) if found else None


def _pairs(attributes: object) -> Iterable[tuple[str, str]]:
    if not isinstance(attributes, dict) or not all(isinstance(value, str) for value in attributes.values()):
        raise Unprocessable("malformed_attributes", "The attributes are no object of texts.")
    return attributes.items()


def _numbers(pairs: Sequence[tuple[str, str]]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for name, value in pairs:
        number = measure(value)
        if number is not None and _NAME.fullmatch(name):
            found.setdefault(name, []).append(number)
    return {name: sorted(numbers) for name, numbers in found.items()}
