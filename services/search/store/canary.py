"""The one product that search writes: its stock counts its changes."""

from __future__ import annotations

from services.kit.store import Pool
from services.search.documents import CANARY
from services.search.store.connection import connection

SKU = "SEARCH-CANARY"
TURN = 1_000_000_000
"""The catalogue's bound on a stock; the count begins again there."""

_CHANGE = """
    UPDATE products SET stock = (stock + 1) % $2, version = version + 1, updated_at = clock_timestamp()
    WHERE id = $1 RETURNING stock
"""
_MAKE = """
    INSERT INTO products (id, sku, title, description, language, brand_id, category_id, model, attributes, price, currency,
        stock, popularity, created_at)
    SELECT $1, $2, 'Canary of the search index', '', 'en', b.id, c.id, '', '{}', 1, 'EUR', 1, 0, '2020-01-01Z'
    FROM (SELECT min(id) AS id FROM brands) b, (SELECT min(id) AS id FROM categories) c
    WHERE b.id IS NOT NULL AND c.id IS NOT NULL
    ON CONFLICT DO NOTHING RETURNING stock
"""


class NoCatalogue(Exception):
    """There is no brand or no category yet."""


class CanaryStore:
    """Changes as catalog_app."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def change(self) -> int:
        """Commit one more change; return its number. Makes the product first. Raises StoreUnavailable, NoCatalogue."""
        async with connection(self._pool) as held:
            number = await held.fetchval(_CHANGE, CANARY, TURN)
            if number is None:
                number = await held.fetchval(_MAKE, CANARY, SKU)
        if number is None:
            raise NoCatalogue("The catalogue has no brand and no category yet; the canary waits.")
        return int(number)
