"""Brands and categories."""

from __future__ import annotations

import json
from collections.abc import Mapping

import asyncpg

from services.catalog.domain import Brand, Category, Language
from services.catalog.store.products import count
from services.kit.store import Pool, connection, transaction

_CATEGORIES = "SELECT id, path, names FROM categories WHERE path > $1 ORDER BY path LIMIT $2"
_ADD_CATEGORY = """
    INSERT INTO categories (path, names) SELECT $1::text, $2::jsonb
    WHERE $3::text = '' OR EXISTS (SELECT FROM categories WHERE path = $3 FOR KEY SHARE)
    RETURNING id
"""
_BELOW = "SELECT EXISTS (SELECT FROM categories WHERE path LIKE $1)"


class NameTaken(Exception):
    """`holder`: the id of the one that has the name; None if it is gone again."""

    def __init__(self, holder: int | None) -> None:
        super().__init__(holder)
        self.holder = holder


class StillUsed(Exception):
    """Something belongs to it."""


class TreeStore:
    """Raises StoreUnavailable everywhere."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def brands(self, after: int, limit: int) -> list[Brand]:
        """By id."""
        async with connection(self._pool) as db:
            rows = await db.fetch("SELECT id, name FROM brands WHERE id > $1 ORDER BY id LIMIT $2", after, limit)
        return [Brand(*row) for row in rows]

    async def brand(self, brand: int) -> Brand | None:
        async with connection(self._pool) as db:
            row = await db.fetchrow("SELECT id, name FROM brands WHERE id = $1", brand)
        return None if row is None else Brand(*row)

    async def add_brand(self, name: str) -> Brand:
        """Raises NameTaken."""
        async with connection(self._pool) as db:
            try:
                return Brand(await db.fetchval("INSERT INTO brands (name) VALUES ($1) RETURNING id", name), name)
            except asyncpg.UniqueViolationError:
                raise NameTaken(await db.fetchval("SELECT id FROM brands WHERE name = $1", name)) from None

    async def rename_brand(self, brand: int, name: str) -> bool:
        """False: there is none. Raises NameTaken."""
        async with connection(self._pool) as db:
            try:
                return count(await db.execute("UPDATE brands SET name = $2 WHERE id = $1", brand, name)) == 1
            except asyncpg.UniqueViolationError:
                raise NameTaken(await db.fetchval("SELECT id FROM brands WHERE name = $1", name)) from None

    async def delete_brand(self, brand: int) -> bool:
        """False: there was none. Raises StillUsed."""
        async with connection(self._pool) as db:
            try:
                return count(await db.execute("DELETE FROM brands WHERE id = $1", brand)) == 1
            except asyncpg.ForeignKeyViolationError:
                raise StillUsed from None

    async def categories(self, after: str, limit: int) -> list[Category]:
        """By path: each parent before its children."""
        async with connection(self._pool) as db:
            return [_category(row) for row in await db.fetch(_CATEGORIES, after, limit)]

    async def category(self, category: int) -> Category | None:
        async with connection(self._pool) as db:
            row = await db.fetchrow("SELECT id, path, names FROM categories WHERE id = $1", category)
        return None if row is None else _category(row)

    async def add_category(self, path: str, names: Mapping[Language, str]) -> Category | None:
        """None: its parent is missing. Raises NameTaken."""
        parent = path.rpartition("/")[0]
        async with connection(self._pool) as db:
            try:
                made = await db.fetchval(_ADD_CATEGORY, path, _names(names), parent)
            except asyncpg.UniqueViolationError:
                raise NameTaken(await db.fetchval("SELECT id FROM categories WHERE path = $1", path)) from None
        return None if made is None else Category(made, path, names)

    async def rename_category(self, category: int, names: Mapping[Language, str]) -> Category | None:
        """None: there is none. The path stays: it is what links and filters hold."""
        statement = "UPDATE categories SET names = $2 WHERE id = $1 RETURNING id, path, names"
        async with connection(self._pool) as db:
            row = await db.fetchrow(statement, category, _names(names))
        return None if row is None else _category(row)

    async def delete_category(self, category: int) -> bool:
        """False: there was none. Raises StillUsed while products or categories are below it."""
        async with transaction(self._pool) as db:
            path = await db.fetchval("SELECT path FROM categories WHERE id = $1 FOR UPDATE", category)
            if path is None:
                return False
            # A path has no wildcard of LIKE but `_`, which is escaped.
            if await db.fetchval(_BELOW, path.replace("_", r"\_") + "/%"):
                raise StillUsed
            try:
                await db.execute("DELETE FROM categories WHERE id = $1", category)
            except asyncpg.ForeignKeyViolationError:
                raise StillUsed from None
            return True


def _names(names: Mapping[Language, str]) -> str:
    return json.dumps(dict(names), ensure_ascii=False)


def _category(row: asyncpg.Record) -> Category:
    names = {Language(language): name for language, name in json.loads(row["names"]).items()}
    return Category(row["id"], row["path"], names)
