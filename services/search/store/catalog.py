"""What search reads of the catalogue's database: the columns that services.contracts.catalog declares, and nothing else.

Each statement returns products with all that belongs to them *and* its own snapshot, see services.search.snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from services.kit.store import Pool
from services.search.documents import ProductRow, VariantRow
from services.search.snapshot import Snapshot
from services.search.store.connection import connection

_THESE = """
    WITH wanted AS MATERIALIZED (SELECT DISTINCT id FROM unnest($1::uuid[]) AS given(id)),
    tree AS (
        SELECT c.id, c.path, jsonb_agg(a.names ORDER BY length(a.path)) AS names
        FROM categories c JOIN categories a ON a.path = c.path OR starts_with(c.path, a.path || '/')
        WHERE c.id IN (SELECT p.category_id FROM wanted JOIN products p USING (id))
        GROUP BY c.id
    )
    SELECT pg_current_snapshot()::text AS snapshot, wanted.id AS wanted, p.id, p.sku, p.title, p.description, p.language,
        p.brand_id, b.name AS brand, tree.path, tree.names, p.model, p.attributes, p.price, p.currency, p.stock,
        p.popularity, p.created_at,
        (SELECT jsonb_agg(jsonb_build_object('sku', v.sku, 'attributes', v.attributes, 'price', v.price, 'stock', v.stock)
                          ORDER BY v.sku)
         FROM variants v WHERE v.product_id = p.id) AS variants
    FROM wanted LEFT JOIN products p ON p.id = wanted.id
    LEFT JOIN brands b ON b.id = p.brand_id LEFT JOIN tree ON tree.id = p.category_id
    ORDER BY wanted.id
"""
_AFTER = "SELECT id FROM products WHERE id > $1 ORDER BY id LIMIT $2"
_OF_BRAND = "SELECT id FROM products WHERE brand_id = $1 AND id > $2 ORDER BY id LIMIT $3"
_OF_CATEGORY = """
    SELECT p.id FROM products p JOIN categories c ON c.id = p.category_id
    WHERE p.id > $2 AND EXISTS (
        SELECT FROM categories a WHERE a.id = $1 AND (a.path = c.path OR starts_with(c.path, a.path || '/'))
    )
    ORDER BY p.id LIMIT $3
"""
_STATUS = "SELECT pg_xact_status($1::text::xid8)"
"""Fails for an id that is not given out yet."""
_UNREADABLE = (VariantRow("", None, 0, 0),)
FIRST_NORMAL = 3
"""The ids below it, of any epoch, are given to no transaction, and Postgres has no status for them."""
NOBODY = UUID(int=0)
"""Before every product."""


class NotThePrimary(Exception):
    """A standby was given, whose snapshots have another order."""


@dataclass(frozen=True, slots=True)
class State:
    """Products as of one instant, by id and in its order; None for one that does not exist then."""

    snapshot: Snapshot
    products: Mapping[UUID, ProductRow | None]


class Catalog:
    """Reads with `pool`, whose statements are bounded. Every method raises StoreUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def check(self) -> None:
        """Raises NotThePrimary."""
        async with connection(self._pool) as held:
            if await held.fetchval("SELECT pg_is_in_recovery()"):
                raise NotThePrimary("SEARCH_CATALOG_DATABASE_URL names a standby; search reads from the primary.")

    async def these(self, products: Sequence[UUID]) -> State:
        """The products asked for, at least one."""
        async with connection(self._pool) as held:
            return _state(await held.fetch(_THESE, products))

    async def after(self, last: UUID | None, limit: int) -> State | None:
        """The `limit` products next after `last` in the order of ids; None if there are no more.

        Their ids by one statement, they themselves by the next: one that is deleted in between is None. As one statement the
        planner scans the whole table for it.
        """
        async with connection(self._pool) as held:
            ids = [row["id"] for row in await held.fetch(_AFTER, last or NOBODY, limit)]
            return _state(await held.fetch(_THESE, ids)) if ids else None

    async def snapshot(self) -> Snapshot:
        """Of now."""
        async with connection(self._pool) as held:
            return Snapshot.parse(await held.fetchval("SELECT pg_current_snapshot()::text"))

    async def begun(self, transaction: int) -> bool:
        """Whether the database has given this id out; with the epoch. Asked of the primary: a replica learns of it later."""
        if transaction % (1 << 32) < FIRST_NORMAL:
            return False
        async with connection(self._pool) as held:
            try:
                await held.fetchval(_STATUS, str(transaction))
            except asyncpg.DataError:
                return False
            return True

    async def of_brand(self, brand: int, after: UUID, limit: int) -> list[UUID]:
        """Ids of its products, in their order."""
        return await self._ids(_OF_BRAND, brand, after, limit)

    async def of_category(self, category: int, after: UUID, limit: int) -> list[UUID]:
        """Ids of the products in it and below it, in their order."""
        return await self._ids(_OF_CATEGORY, category, after, limit)

    async def _ids(self, statement: str, whose: int, after: UUID, limit: int) -> list[UUID]:
        async with connection(self._pool) as held:
            return [row["id"] for row in await held.fetch(statement, whose, after, limit)]


def _state(rows: Sequence[asyncpg.Record]) -> State:
    return State(Snapshot.parse(rows[0]["snapshot"]), {row["wanted"]: _product(row) for row in rows})


def _product(row: asyncpg.Record) -> ProductRow | None:
    if row["id"] is None:
        return None
    language, names, variants = row["language"], _read(row["names"] or "[]"), _read(row["variants"] or "[]")
    return ProductRow(
        id=row["id"],
        sku=row["sku"],
        title=row["title"],
        description=row["description"],
        language=language,
        brand_id=row["brand_id"],
        brand=row["brand"] or "",
        path=row["path"] or "",
        category_names=tuple(str(each[language]) for each in names or () if language in each),
        model=row["model"],
        attributes=_read(row["attributes"]),
        price=row["price"],
        currency=row["currency"],
        stock=row["stock"],
        popularity=row["popularity"],
        created_at=row["created_at"],
        variants=_UNREADABLE if variants is None else tuple(VariantRow(**each) for each in variants),
    )


def _read(text: str) -> Any:
    """None for JSON with numbers that no double holds, which Postgres keeps."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None
