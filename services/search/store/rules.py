"""Business rules. Each change takes the next generation in its own transaction, so that readers see that there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from services.kit.store import Pool
from services.search.ranking.rules import Action, Rule
from services.search.store.connection import connection

MOST_RULES = 10_000
_COLUMNS = (
    "id, action, products, brands, categories, query, category, priority, starts_at, ends_at, note, changed_at, version"
)
_ONE = f"SELECT {_COLUMNS} FROM rules WHERE id = $1"  # noqa: S608
_ALL = f"SELECT {_COLUMNS} FROM rules WHERE ends_at IS NULL OR ends_at > clock_timestamp() ORDER BY id"  # noqa: S608
_PAGE = f"SELECT {_COLUMNS} FROM rules WHERE id > $1 ORDER BY id LIMIT $2"  # noqa: S608
_GENERATION = "SELECT generation FROM rule_generation"
_NEXT = "UPDATE rule_generation SET generation = generation + 1"
_PUT = f"""
    INSERT INTO rules (id, action, products, brands, categories, query, category, priority, starts_at, ends_at, note)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
    ON CONFLICT (id) DO UPDATE SET action = $2, products = $3, brands = $4, categories = $5, query = $6, category = $7,
        priority = $8, starts_at = $9, ends_at = $10, note = $11, version = rules.version + 1,
        changed_at = clock_timestamp()
    RETURNING {_COLUMNS}
"""  # noqa: S608
_DELETE = "DELETE FROM rules WHERE id = $1"


class VersionMismatch(Exception):
    """The rule is not the one that was read."""


class TooManyRules(Exception):
    """There is no room for another one."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A rule and its version."""

    rule: Rule
    version: int


class RuleStore:
    """Every method raises StoreUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def generation(self) -> int:
        """Grows with each change."""
        async with connection(self._pool) as held:
            return int(await held.fetchval(_GENERATION))

    async def all(self) -> Sequence[Rule]:
        """Those that are valid or will be."""
        async with connection(self._pool) as held:
            return [_kept(row).rule for row in await held.fetch(_ALL)]

    async def get(self, identity: str) -> Kept | None:
        """None if there is no such rule."""
        async with connection(self._pool) as held:
            row = await held.fetchrow(_ONE, identity)
        return None if row is None else _kept(row)

    async def page(self, after: str, limit: int) -> list[Kept]:
        """By id."""
        async with connection(self._pool) as held:
            return [_kept(row) for row in await held.fetch(_PAGE, after, limit)]

    async def put(self, rule: Rule, version: int | None) -> Kept:
        """Make it, or replace it. With a version only that one; 0: only if it is new. Raises VersionMismatch, TooManyRules."""
        async with connection(self._pool) as held, held.transaction():
            # Taken first: it puts all changes in one row, so that generations and versions have one order.
            await held.execute(_NEXT)
            present = await held.fetchval("SELECT version FROM rules WHERE id = $1", rule.id)
            if version is not None and version != (present or 0):
                raise VersionMismatch
            if present is None and await held.fetchval("SELECT count(*) FROM rules") >= MOST_RULES:
                raise TooManyRules
            row = await held.fetchrow(
                _PUT, rule.id, rule.action.value, list(rule.products), list(rule.brands), list(rule.categories),
                rule.query, rule.category, rule.priority, rule.starts_at, rule.ends_at, rule.note,
            )  # fmt: skip
            assert row is not None
            return _kept(row)

    async def delete(self, identity: str, version: int | None) -> bool:
        """False if there was none. Raises VersionMismatch."""
        async with connection(self._pool) as held, held.transaction():
            await held.execute(_NEXT)
            present = await held.fetchval("SELECT version FROM rules WHERE id = $1", identity)
            if version is not None and present is not None and version != present:
                raise VersionMismatch
            return bool(await held.execute(_DELETE, identity) == "DELETE 1")


def _kept(row: asyncpg.Record) -> Kept:
    rule = Rule(
        id=row["id"],
        action=Action(row["action"]),
        products=tuple(row["products"]),
        brands=tuple(row["brands"]),
        categories=tuple(row["categories"]),
        query=row["query"],
        category=row["category"],
        priority=row["priority"],
        starts_at=row["starts_at"],
        ends_at=row["ends_at"],
        changed_at=row["changed_at"],
        note=row["note"],
    )
    return Kept(rule, row["version"])
