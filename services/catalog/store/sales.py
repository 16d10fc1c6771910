"""Sales: the inbox of payments' events, the stock that they take, and what there was too little of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import asyncpg

from services.catalog.domain import Product, Sale
from services.catalog.store.products import SELECT, rewrite, stored_of
from services.kit import postgres
from services.kit.store import Connection, Pool, transaction

_KNOWN = "SELECT EXISTS (SELECT FROM sales WHERE event_id = $1)"
_LOCK = """
    SELECT id FROM products WHERE id = (
        SELECT id FROM products WHERE sku = $1 UNION ALL SELECT product_id FROM variants WHERE sku = $1 LIMIT 1
    ) FOR UPDATE
"""
_GET = f"{SELECT} WHERE id = $1"
_INSERT = """
    INSERT INTO sales (event_id, payment_id, product_id, sku, quantity, short) VALUES ($1, $2, $3, $4, $5, $6)
"""
# Popularity is what was sold in the last days: what leaves the window leaves it, too.
_FORGET = """
    WITH gone AS (
        DELETE FROM sales WHERE event_id IN (
            SELECT event_id FROM sales WHERE sold_at < now() - make_interval(days => $1) ORDER BY sold_at LIMIT $2
            FOR UPDATE SKIP LOCKED
        )
        RETURNING product_id, quantity
    ), sums AS (SELECT product_id, sum(quantity)::bigint AS sold FROM gone GROUP BY product_id), lowered AS (
        UPDATE products p SET popularity = greatest(0, popularity - sold), version = version + 1,
            updated_at = clock_timestamp(), traceparent = NULL
        FROM sums WHERE p.id = sums.product_id
    )
    SELECT count(*) FROM gone
"""


class Taken(StrEnum):
    """What became of a sale. KNOWN: it was there before, and nothing changed."""

    SOLD = "sold"
    OVERSOLD = "oversold"
    KNOWN = "known"
    NO_SUCH_ARTICLE = "no_such_article"


@dataclass(frozen=True, slots=True)
class SaleStore:
    """Raises StoreUnavailable everywhere."""

    pool: Pool

    async def answers(self) -> bool:
        """Readiness."""
        return await postgres.answers(self.pool)

    async def take(self, sale: Sale, sold: Callable[[Product, Sale], tuple[Product, int]]) -> Taken:
        """Inbox, stock and popularity in one commit, once for each event. `sold`: see domain."""
        try:
            async with transaction(self.pool) as db:
                return await _take(db, sale, sold)
        except asyncpg.UniqueViolationError:
            return Taken.KNOWN  # another reader of the group took the same record meanwhile

    async def forget(self, days: int, limit: int) -> int:
        """Delete sales that are older, and take them off their products' popularity; return how many."""
        async with transaction(self.pool) as db:
            return int(await db.fetchval(_FORGET, days, limit) or 0)


async def _take(db: Connection, sale: Sale, sold: Callable[[Product, Sale], tuple[Product, int]]) -> Taken:
    if await db.fetchval(_KNOWN, sale.event_id):
        return Taken.KNOWN
    product = await db.fetchval(_LOCK, sale.sku)
    row = None if product is None else await db.fetchrow(_GET, product)
    if row is None:
        return Taken.NO_SUCH_ARTICLE
    before = stored_of(row).product
    after, short = sold(before, sale)
    await db.execute(_INSERT, sale.event_id, sale.payment_id, product, sale.sku, sale.quantity, short)
    await rewrite(db, before, after)
    return Taken.OVERSOLD if short else Taken.SOLD
