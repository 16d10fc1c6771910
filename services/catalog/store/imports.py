"""Imports: a portion's products, the bad lines and the place where it goes on, in one commit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from services.catalog.domain import Product, Stored
from services.catalog.store import products as product_store
from services.catalog.store.products import COLUMNS, SkuTaken, count, refused, stored_of
from services.kit import tracing
from services.kit.store import Connection, Pool, connection, transaction

_COLUMNS = "id, next_line, created, updated, unchanged, rejected, started_at, moved_at, finished_at"
_BEGIN = f"""
    INSERT INTO imports (owner, id) VALUES ($1, $2)
    ON CONFLICT (owner, id) DO UPDATE SET moved_at = clock_timestamp()
    RETURNING {_COLUMNS}
"""  # noqa: S608  # constants
_GET = f"SELECT {_COLUMNS} FROM imports WHERE owner = $1 AND id = $2"  # noqa: S608  # constants
_ADVANCE = f"""
    UPDATE imports SET next_line = $4, created = created + $5, updated = updated + $6, unchanged = unchanged + $7,
        rejected = rejected + $8, moved_at = clock_timestamp()
    WHERE owner = $1 AND id = $2 AND next_line = $3
    RETURNING {_COLUMNS}
"""  # noqa: S608  # constants
_FINISH = f"""
    UPDATE imports SET finished_at = clock_timestamp() WHERE owner = $1 AND id = $2 RETURNING {_COLUMNS}
"""  # noqa: S608  # constants
_ERRORS = """
    INSERT INTO import_errors (owner, import_id, line, problem)
    SELECT $1, $2, * FROM unnest($3::bigint[], $4::text[])
"""
_ERROR_PAGE = """
    SELECT line, problem FROM import_errors WHERE owner = $1 AND import_id = $2 AND line > $3 ORDER BY line LIMIT $4
"""
_SWEEP = """
    DELETE FROM imports WHERE (owner, id) IN
    (SELECT owner, id FROM imports WHERE moved_at < now() - make_interval(days => $1) LIMIT $2)
"""
# Locked in the order of their ids, so that two portions with common products wait for each other and never in a circle.
_LOCK = "SELECT id FROM products WHERE sku = ANY($1::text[]) ORDER BY id FOR UPDATE"
_FOUND = f"{product_store.SELECT} WHERE id = ANY($1::uuid[])"
_BRANDS = "SELECT id FROM brands WHERE id = ANY($1::int[]) FOR KEY SHARE"
_CATEGORIES = "SELECT id FROM categories WHERE id = ANY($1::int[]) FOR KEY SHARE"
_VARIANT_HOLDERS = "SELECT sku, product_id FROM variants WHERE sku = ANY($1::text[])"
_TYPES = (
    "uuid", "text", "text", "text", "text", "int", "int", "text", "jsonb", "bigint", "text", "bigint", "bigint",
    "timestamptz",
)  # fmt: skip
_INSERT = f"""
    INSERT INTO products ({", ".join(COLUMNS.values())}, traceparent)
    SELECT given.*, ${len(_TYPES) + 1}
    FROM unnest({", ".join(f"${place}::{kind}[]" for place, kind in enumerate(_TYPES, 1))}) AS given
"""  # noqa: S608  # constants


class Moved(Exception):
    """Somebody else has carried the import on."""


@dataclass(frozen=True, slots=True)
class Import:
    """All lines below `next_line` are decided."""

    id: str
    next_line: int
    created: int
    updated: int
    unchanged: int
    rejected: int
    started_at: datetime
    moved_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A line that can be read, and the product that it wants. Its id counts only if the SKU is new."""

    line: int
    product: Product
    dated: bool
    """Whether the line says when the product was created; otherwise a product that is there keeps its date."""


@dataclass(frozen=True, slots=True)
class Bad:
    """A line that is not taken, and why, for whoever sent it."""

    line: int
    problem: str


@dataclass(frozen=True, slots=True)
class Portion:
    """Consecutive lines, from where the import stands to `next_line`. No SKU of a product comes twice in it."""

    next_line: int
    wanted: Sequence[Wanted]
    bad: Sequence[Bad]


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a portion. `bad` holds those that only the database could refuse, too."""

    now: Import
    created: int
    updated: int
    unchanged: int
    bad: tuple[Bad, ...]


Hook = Callable[[], Awaitable[None]]


class ImportStore:
    """Raises StoreUnavailable everywhere."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def begin(self, owner: str, name: str) -> Import:
        """Make it, or find it where it stands."""
        async with connection(self._pool) as db:
            row = await db.fetchrow(_BEGIN, owner, name)
        assert row is not None
        return Import(*row)

    async def get(self, owner: str, name: str) -> Import | None:
        async with connection(self._pool) as db:
            row = await db.fetchrow(_GET, owner, name)
        return None if row is None else Import(*row)

    async def errors(self, owner: str, name: str, after: int, limit: int) -> list[Bad]:
        """By line."""
        async with connection(self._pool) as db:
            return [Bad(*row) for row in await db.fetch(_ERROR_PAGE, owner, name, after, limit)]

    async def finish(self, owner: str, name: str) -> Import:
        """A body was read to its end."""
        async with connection(self._pool) as db:
            row = await db.fetchrow(_FINISH, owner, name)
        assert row is not None
        return Import(*row)

    async def write(self, owner: str, at: Import, portion: Portion, before_commit: Hook) -> Done:
        """One commit. Raises Moved, and SkuTaken when somebody else took a SKU at this moment: then the same may be tried again."""
        try:
            async with transaction(self._pool) as db:
                made = await _decide(db, portion)
                await _write(db, made)
                bad = (*portion.bad, *made.bad)
                numbers = (len(made.new), len(made.changed), made.unchanged, len(bad))
                row = await db.fetchrow(_ADVANCE, owner, at.id, at.next_line, portion.next_line, *numbers)
                if row is None:
                    raise Moved
                if bad:
                    await db.execute(_ERRORS, owner, at.id, [one.line for one in bad], [one.problem for one in bad])
                await before_commit()
                return Done(Import(*row), *numbers[:3], tuple(sorted(bad, key=lambda one: one.line)))
        except asyncpg.IntegrityConstraintViolationError as error:
            raise refused(error) from None

    async def sweep(self, days: int, limit: int) -> int:
        """Forget imports that have not moved for so long; return how many."""
        async with connection(self._pool) as db:
            return count(await db.execute(_SWEEP, days, limit))


@dataclass(slots=True)
class _Made:
    new: list[Product]
    changed: list[tuple[Product, Product]]
    bad: list[Bad]
    unchanged: int = 0


async def _decide(db: Connection, portion: Portion) -> _Made:
    """Compare a portion with what is there; all that it touches is locked."""
    products = [each.product for each in portion.wanted]
    held = [row["id"] for row in await db.fetch(_LOCK, [product.sku for product in products])]
    there = {one.product.sku: one for one in map(stored_of, await db.fetch(_FOUND, held))}
    brands = {row["id"] for row in await db.fetch(_BRANDS, list({product.brand for product in products}))}
    categories = {row["id"] for row in await db.fetch(_CATEGORIES, list({product.category for product in products}))}
    skus = [variant.sku for product in products for variant in product.variants]
    holders: dict[str, UUID] = {}
    if skus:
        holders = {row["sku"]: row["product_id"] for row in await db.fetch(_VARIANT_HOLDERS, skus)}
    made = _Made([], [], [])
    for each in portion.wanted:
        found = there.get(each.product.sku)
        wanted = _in_place(each, found)
        if problem := _problem(wanted, brands, categories, holders):
            made.bad.append(Bad(each.line, problem))
            continue
        holders |= {variant.sku: wanted.id for variant in wanted.variants}
        if found is None:
            made.new.append(wanted)
        elif found.product == wanted:
            made.unchanged += 1
        else:
            made.changed.append((found.product, wanted))
    return made


def _in_place(each: Wanted, found: Stored | None) -> Product:
    if found is None:
        return each.product
    created_at = each.product.created_at if each.dated else found.product.created_at
    return replace(each.product, id=found.product.id, created_at=created_at)


def _problem(product: Product, brands: set[int], categories: set[int], holders: dict[str, UUID]) -> str | None:
    if product.brand not in brands:
        return "brand_id names none that exists"
    if product.category not in categories:
        return "category_id names none that exists"
    taken = next((one.sku for one in product.variants if holders.get(one.sku, product.id) != product.id), None)
    return None if taken is None else f"another product has a variant with the SKU {taken}"


async def _write(db: Connection, made: _Made) -> None:
    if made.new:
        columns = list(zip(*(product_store.row_of(product) for product in made.new), strict=True))
        await db.execute(_INSERT, *columns, tracing.to_link())
    for before, after in made.changed:
        await product_store.rewrite(db, before, after)
    variants: list[tuple[UUID, Any]] = [(product.id, one) for product in made.new for one in product.variants]
    if variants:
        await db.execute(product_store.INSERT_VARIANTS, *product_store.variant_columns(variants))


__all__ = ["Bad", "Done", "Import", "ImportStore", "Moved", "Portion", "SkuTaken", "Wanted"]
