"""Whole catalogues into the database: by COPY, a portion in each commit, so that a killed fill goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence

import asyncpg

from services.catalog.domain import Brand, Category, Product

PRODUCTS = (
    "id", "sku", "title", "description", "language", "brand_id", "category_id", "model", "attributes", "price",
    "currency", "stock", "popularity", "created_at",
)  # fmt: skip
VARIANTS = ("product_id", "sku", "attributes", "price", "stock")

_BEGIN = """
    INSERT INTO fills (seed, products) VALUES ($1, $2)
    ON CONFLICT (seed) DO UPDATE SET products = greatest(fills.products, $2),
        finished_at = CASE WHEN fills.products >= $2 THEN fills.finished_at END
    RETURNING products, next_number
"""
_ADVANCE = """
    UPDATE fills SET next_number = $3, finished_at = CASE WHEN $3 = products THEN clock_timestamp() END
    WHERE seed = $1 AND next_number = $2
"""


class OtherFill(Exception):
    """The database holds a catalogue of another seed, or somebody else fills it right now."""


async def begin(connection: asyncpg.Connection[asyncpg.Record], seed: int, count: int) -> tuple[int, int]:
    """(how many products are wanted, how many are there). A larger count than before extends. Raises OtherFill."""
    if other := await connection.fetchval("SELECT seed FROM fills WHERE seed <> $1", seed):
        raise OtherFill(f"The catalogue was generated with seed {other}; with {seed} it would be a mixture.")
    row = await connection.fetchrow(_BEGIN, seed, count)
    assert row is not None
    return row["products"], row["next_number"]


async def write_tree(
    connection: asyncpg.Connection[asyncpg.Record], categories: Iterable[Category], brands: Iterable[Brand]
) -> None:
    """Categories and brands; those that are there stay."""
    await connection.executemany(
        "INSERT INTO categories (id, path, names) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        [(each.id, each.path, json.dumps(dict(each.names))) for each in categories],
    )
    await connection.executemany(
        "INSERT INTO brands (id, name) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        [(each.id, each.name) for each in brands],
    )


async def write_portion(
    connection: asyncpg.Connection[asyncpg.Record], seed: int, first: int, portion: Sequence[Product]
) -> None:
    """Products `first` and following with their variants, and that they are there, in one commit. Raises OtherFill."""
    async with connection.transaction():
        moved = await connection.execute(_ADVANCE, seed, first, first + len(portion))
        if moved != "UPDATE 1":
            raise OtherFill("Somebody else fills this catalogue.")
        await connection.copy_records_to_table("products", columns=PRODUCTS, records=map(_product, portion))
        variants = [_variant(product, place) for product in portion for place in range(len(product.variants))]
        await connection.copy_records_to_table("variants", columns=VARIANTS, records=variants)


def _product(product: Product) -> tuple[object, ...]:
    return (
        product.id,
        product.sku,
        product.title,
        product.description,
        product.language,
        product.brand,
        product.category,
        product.model,
        json.dumps(dict(product.attributes), ensure_ascii=False),
        product.price,
        product.currency,
        product.stock,
        product.popularity,
        product.created_at,
    )


def _variant(product: Product, place: int) -> tuple[object, ...]:
    variant = product.variants[place]
    return product.id, variant.sku, json.dumps(dict(variant.attributes)), variant.price, variant.stock


Progress = Callable[[int, int], None]
"""Told how many products are there, and how many there will be."""
