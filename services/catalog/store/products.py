"""Products with their variants. Every write is one transaction and moves the product's version on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg

from services.catalog.domain import Language, Offer, Offered, OfferOutcome, Product, Stored, Variant
from services.kit import postgres, tracing
from services.kit.store import Connection, Pool, connection, transaction

COLUMNS = {
    "id": "id", "sku": "sku", "title": "title", "description": "description", "language": "language",
    "brand": "brand_id", "category": "category_id", "model": "model", "attributes": "attributes", "price": "price",
    "currency": "currency", "stock": "stock", "popularity": "popularity", "created_at": "created_at",
}  # fmt: skip
"""Field of a Product -> column."""
_NAMES = ", ".join(COLUMNS.values())
_VARIANTS = """
    (SELECT json_agg(json_build_array(v.sku, v.attributes, v.price, v.stock) ORDER BY v.sku COLLATE "C")
     FROM variants v WHERE v.product_id = p.id) AS variants
"""
SELECT = f"SELECT {_NAMES}, updated_at, version, {_VARIANTS} FROM products p"  # noqa: S608  # constants
_GET = f"{SELECT} WHERE id = $1"
_LIST = f"{SELECT} WHERE id < coalesce($1, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid) ORDER BY id DESC LIMIT $2"
_BY_SKU = f"""
    {SELECT} WHERE id = (
        SELECT id FROM products WHERE sku = $1 UNION ALL SELECT product_id FROM variants WHERE sku = $1 LIMIT 1
    )
"""  # noqa: S608  # constants
_LOCK = "SELECT version FROM products WHERE id = $1 FOR UPDATE"
# In the order of their ids, as everybody who changes several does: they wait for each other, and never in a circle.
_LOCK_SKUS = """
    SELECT id FROM products WHERE id IN (
        SELECT id FROM products WHERE sku = ANY($1::text[])
        UNION ALL SELECT product_id FROM variants WHERE sku = ANY($1::text[])
    )
    ORDER BY id FOR UPDATE
"""
_THESE = f"{SELECT} WHERE id = ANY($1::uuid[])"
_SET_OFFERS = """
    UPDATE products p SET price = given.price, stock = given.stock, version = version + 1,
        updated_at = clock_timestamp(), traceparent = $4
    FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS given(id, price, stock)
    WHERE p.id = given.id
    RETURNING p.id, p.version
"""
_SET_VARIANTS = """
    UPDATE variants v SET price = given.price, stock = given.stock
    FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[]) AS given(product_id, sku, price, stock)
    WHERE v.product_id = given.product_id AND v.sku = given.sku
"""
_INSERT = f"""
    INSERT INTO products ({_NAMES}, traceparent)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
    RETURNING updated_at
"""  # noqa: S608  # constants
INSERT_VARIANTS = """
    INSERT INTO variants (product_id, sku, attributes, price, stock)
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::jsonb[], $4::bigint[], $5::bigint[])
"""
_UPDATE_VARIANT = "UPDATE variants SET attributes = $3, price = $4, stock = $5 WHERE product_id = $1 AND sku = $2"
_DELETE_VARIANTS = "DELETE FROM variants WHERE product_id = $1 AND sku = ANY($2::text[])"
_OWNER_OF = "SELECT owner FROM api_keys WHERE key_sha256 = $1 AND revoked_at IS NULL"
_KEY = """
    SELECT product_id, fingerprint, response_body FROM idempotency_keys
    WHERE owner = $1 AND key = $2 AND expires_at > now()
"""
_INSERT_KEY = """
    INSERT INTO idempotency_keys AS k (owner, key, fingerprint, product_id, response_body, expires_at)
    VALUES ($1, $2, $3, $4, $5, now() + $6::interval)
    ON CONFLICT (owner, key) DO UPDATE SET fingerprint = $3, product_id = $4, response_body = $5,
        expires_at = now() + $6::interval
    WHERE k.expires_at <= now()
    RETURNING 1
"""
_SWEEP_KEYS = """
    DELETE FROM idempotency_keys WHERE (owner, key) IN
    (SELECT owner, key FROM idempotency_keys WHERE expires_at < now() LIMIT $1)
"""


class SkuTaken(Exception):
    """Another product or variant has it."""

    def __init__(self, sku: str) -> None:
        super().__init__(sku)
        self.sku = sku


class NoSuchReference(Exception):
    """`field`: brand_id or category_id."""

    def __init__(self, field: str) -> None:
        super().__init__(field)
        self.field = field


class KeyTaken(Exception):
    """A request has been answered under this key."""


class VersionDiffers(Exception):
    """The product has another version than was asked for."""


@dataclass(frozen=True, slots=True)
class NewKey:
    """An idempotency key, stored with the product that its request makes and with the answer."""

    owner: str
    key: str
    fingerprint: bytes
    kept: timedelta


@dataclass(frozen=True, slots=True)
class Answered:
    """What a key that has not expired stands for."""

    product: UUID
    fingerprint: bytes
    response: bytes


class ProductStore:
    """Raises StoreUnavailable everywhere."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def answers(self) -> bool:
        """Readiness."""
        return await postgres.answers(self._pool)

    async def owner_of(self, digest: bytes) -> str | None:
        """Whose API key this is."""
        async with connection(self._pool) as db:
            owner: str | None = await db.fetchval(_OWNER_OF, digest)
            return owner

    async def get(self, product: UUID) -> Stored | None:
        async with connection(self._pool) as db:
            row = await db.fetchrow(_GET, product)
        return None if row is None else stored_of(row)

    async def by_sku(self, sku: str) -> Stored | None:
        """The product that has this SKU itself or as a variant."""
        async with connection(self._pool) as db:
            row = await db.fetchrow(_BY_SKU, sku)
        return None if row is None else stored_of(row)

    async def page(self, before: UUID | None, limit: int) -> list[Stored]:
        """The newest first."""
        async with connection(self._pool) as db:
            return [stored_of(row) for row in await db.fetch(_LIST, before, limit)]

    async def answered(self, owner: str, key: str) -> Answered | None:
        """What was answered under this key, unless it has expired."""
        async with connection(self._pool) as db:
            row = await db.fetchrow(_KEY, owner, key)
        return None if row is None else Answered(*row)

    async def add(self, product: Product, answer: Callable[[Stored], bytes], key: NewKey | None) -> Stored:
        """Store it, and the key with its answer in the same commit. Raises KeyTaken, SkuTaken, NoSuchReference."""
        try:
            async with transaction(self._pool) as db:
                updated_at = await db.fetchval(_INSERT, *row_of(product), tracing.to_link())
                await insert_variants(db, product.id, product.variants)
                made = Stored(product, version=1, updated_at=updated_at)
                if key is not None and not await db.fetchval(
                    _INSERT_KEY, key.owner, key.key, key.fingerprint, product.id, answer(made), key.kept
                ):
                    raise KeyTaken
                return made
        except asyncpg.IntegrityConstraintViolationError as error:
            if key is not None and await self.answered(key.owner, key.key):
                raise KeyTaken from None  # the same request at the same moment took the SKU
            raise refused(error) from None

    async def change(self, product: UUID, expected: int | None, change: Callable[[Product], Product]) -> Stored | None:
        """Replace a product by what `change` makes of it, under its lock. None: there is none.

        If nothing differs, nothing is written and the version stays. Raises VersionDiffers, SkuTaken, NoSuchReference, and
        what `change` raises.
        """
        try:
            async with transaction(self._pool) as db:
                version = await db.fetchval(_LOCK, product)
                if version is None:
                    return None
                if expected is not None and version != expected:
                    raise VersionDiffers
                row = await db.fetchrow(_GET, product)  # a statement of its own: it sees what the lock has waited for
                assert row is not None
                before = stored_of(row)
                after = change(before.product)
                return before if after == before.product else await rewrite(db, before.product, after)
        except asyncpg.IntegrityConstraintViolationError as error:
            raise refused(error) from None

    async def offer(
        self, offers: Sequence[Offer], wanted: Callable[[Product, Offer], Product | OfferOutcome]
    ) -> list[Offered]:
        """Change price and stock, all in one commit; what `wanted` refuses stays as it is. SKUs must differ."""
        async with transaction(self._pool) as db:
            held = [row["id"] for row in await db.fetch(_LOCK_SKUS, [each.sku for each in offers])]
            there = {row["id"]: stored_of(row) for row in await db.fetch(_THESE, held)}
            holder = {sku: one.product.id for one in there.values() for sku in skus_of(one.product)}
            now, outcomes = {key: one.product for key, one in there.items()}, {}
            for each in offers:
                outcomes[each.sku] = _take(each, holder.get(each.sku), now, wanted)
            versions = {key: one.version for key, one in there.items()}
            versions |= await _write_offers(db, [(there[key].product, now[key]) for key in now])
        return [
            Offered(sku, outcome, holder.get(sku), versions.get(holder.get(sku))) for sku, outcome in outcomes.items()
        ]

    async def delete(self, product: UUID, expected: int | None) -> bool:
        """With its variants. False: there was none. Raises VersionDiffers."""
        async with transaction(self._pool) as db:
            version = await db.fetchval(_LOCK, product)
            if version is None:
                return False
            if expected is not None and version != expected:
                raise VersionDiffers
            await db.execute("DELETE FROM products WHERE id = $1", product)
            return True

    async def sweep_keys(self, limit: int) -> int:
        """Forget expired keys; return how many."""
        async with connection(self._pool) as db:
            return count(await db.execute(_SWEEP_KEYS, limit))


def count(command: str) -> int:
    """Rows, from the server's answer to a command."""
    return int(command.rpartition(" ")[2])


def refused(error: asyncpg.IntegrityConstraintViolationError) -> Exception:
    """What a constraint says, in our words. Raises the error itself for a constraint that nothing should break."""
    constraint, detail = error.constraint_name or "", error.detail or ""
    if constraint in ("products_sku_key", "variants_sku_key", "variants_pkey"):
        return SkuTaken(detail.partition(")=(")[2].rpartition(")")[0].rpartition(", ")[2])
    for field in ("brand_id", "category_id"):
        if constraint == f"products_{field}_fkey":
            return NoSuchReference(field)
    raise error


async def rewrite(db: Connection, before: Product, after: Product) -> Stored:
    """Write what differs, the version moved on. The product's row must be locked."""
    changed = [field.name for field in fields(Product) if field.name in COLUMNS and _differs(before, after, field.name)]
    sets = ["version = version + 1", "updated_at = clock_timestamp()", "traceparent = $2"]
    sets += [f"{COLUMNS[name]} = ${place}" for place, name in enumerate(changed, 3)]
    statement = f"UPDATE products SET {', '.join(sets)} WHERE id = $1 RETURNING version, updated_at"  # noqa: S608  # names of columns
    row = await db.fetchrow(statement, before.id, tracing.to_link(), *(_value(after, name) for name in changed))
    assert row is not None
    await rewrite_variants(db, after.id, before.variants, after.variants)
    return Stored(after, row["version"], row["updated_at"])


def skus_of(product: Product) -> list[str]:
    """Its own, and its variants'."""
    return [product.sku, *(each.sku for each in product.variants)]


def _take(
    offer: Offer,
    holder: UUID | None,
    now: dict[UUID, Product],
    wanted: Callable[[Product, Offer], Product | OfferOutcome],
) -> OfferOutcome:
    if holder is None:
        return OfferOutcome.NO_SUCH_SKU
    after = wanted(now[holder], offer)
    if isinstance(after, OfferOutcome):
        return after
    before, now[holder] = now[holder], after
    return OfferOutcome.UNCHANGED if after == before else OfferOutcome.CHANGED


async def _write_offers(db: Connection, pairs: Sequence[tuple[Product, Product]]) -> dict[UUID, int]:
    """Of products that are locked, before and after; the new version of each that differs."""
    changed = [after for before, after in pairs if after != before]
    if not changed:
        return {}
    variants = [
        (after.id, each)
        for before, after in pairs
        for was, each in zip(before.variants, after.variants, strict=True)
        if each != was
    ]
    if variants:
        products, skus, _, prices, stocks = variant_columns(variants)
        await db.execute(_SET_VARIANTS, products, skus, prices, stocks)
    columns = zip(*((each.id, each.price, each.stock) for each in changed), strict=True)
    rows = await db.fetch(_SET_OFFERS, *columns, tracing.to_link())
    return {row["id"]: row["version"] for row in rows}


async def rewrite_variants(db: Connection, product: UUID, before: Sequence[Variant], after: Sequence[Variant]) -> None:
    """Write what differs. Those that go are gone first, since their SKUs are free then."""
    had, has = {each.sku: each for each in before}, {each.sku: each for each in after}
    if gone := [sku for sku in had if sku not in has]:
        await db.execute(_DELETE_VARIANTS, product, gone)
    for sku, variant in has.items():
        if sku in had and had[sku] != variant:
            await db.execute(_UPDATE_VARIANT, product, sku, encode(variant.attributes), variant.price, variant.stock)
    await insert_variants(db, product, [variant for sku, variant in has.items() if sku not in had])


async def insert_variants(db: Connection, product: UUID, variants: Sequence[Variant]) -> None:
    if variants:
        await db.execute(INSERT_VARIANTS, *variant_columns([(product, variant) for variant in variants]))


def variant_columns(rows: Sequence[tuple[UUID, Variant]]) -> tuple[list[Any], ...]:
    """As arrays, one a column."""
    return (
        [product for product, _ in rows],
        [variant.sku for _, variant in rows],
        [encode(variant.attributes) for _, variant in rows],
        [variant.price for _, variant in rows],
        [variant.stock for _, variant in rows],
    )


def encode(attributes: object) -> str:
    """For jsonb."""
    return json.dumps(attributes, ensure_ascii=False)


def row_of(product: Product) -> tuple[Any, ...]:
    """In the order of COLUMNS."""
    return tuple(_value(product, name) for name in COLUMNS)


def _value(product: Product, name: str) -> Any:
    value = getattr(product, name)
    return encode(dict(value)) if name == "attributes" else value


def _differs(before: Product, after: Product, name: str) -> bool:
    return bool(getattr(before, name) != getattr(after, name))


def stored_of(row: asyncpg.Record) -> Stored:
    """A row of SELECT."""
    values = {name: row[column] for name, column in COLUMNS.items()}
    values |= {"language": Language(row["language"]), "attributes": json.loads(row["attributes"])}
    variants = tuple(Variant(*each) for each in json.loads(row["variants"] or "[]"))
    return Stored(Product(**values, variants=variants), row["version"], row["updated_at"])
