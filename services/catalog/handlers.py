"""One function per command."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from services.catalog import metrics, problems
from services.catalog.domain import LARGEST_STOCK, Offer, Offered, OfferOutcome, Product, Stored, Variant
from services.catalog.schemas import OfferBody, PatchProduct, ProductBody, VariantBody, product_view
from services.catalog.settings import ApiSettings
from services.catalog.store.imports import ImportStore
from services.catalog.store.products import (
    KeyTaken,
    NewKey,
    NoSuchReference,
    ProductStore,
    SkuTaken,
    VersionDiffers,
)
from services.catalog.store.tree import TreeStore
from services.kit import ids
from services.kit.clock import Clock

OLDEST = datetime(1970, 1, 1, tzinfo=UTC)
NEWEST = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Context:
    """What the commands need; put together once, in app.py."""

    products: ProductStore
    tree: TreeStore
    imports: ImportStore
    settings: ApiSettings
    clock: Clock


@dataclass(frozen=True, slots=True)
class Key:
    """An idempotency key and the request that it came with."""

    key: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Created:
    """The answer to the request that made the product, byte by byte. `replayed`: it was an earlier one under the same key."""

    product: UUID
    body: bytes
    replayed: bool = False


def product_of(body: ProductBody, product: UUID, created_at: datetime) -> Product:
    """Raises InvalidProduct."""
    variants = variants_of(body.variants, body.sku)
    if variants and body.stock is not None:
        raise problems.InvalidProduct("stock is that of the variants; leave it out.")
    given = body.created_at
    if given is not None and not OLDEST <= given < NEWEST:
        raise problems.InvalidProduct("created_at is a time from 1970 on.")
    return Product(
        id=product,
        sku=body.sku,
        title=body.title,
        description=body.description,
        language=body.language,
        brand=body.brand_id,
        category=body.category_id,
        model=body.model,
        attributes=body.attributes,
        price=body.price,
        currency=body.currency,
        stock=_stock(variants) if variants else body.stock or 0,
        popularity=body.popularity,
        created_at=created_at if given is None else given,
        variants=variants,
    )


def variants_of(bodies: tuple[VariantBody, ...], sku: str) -> tuple[Variant, ...]:
    """In the order of their SKUs. Raises InvalidProduct for one that comes twice or is the product's own."""
    skus = {each.sku for each in bodies}
    if len(skus) < len(bodies) or sku in skus:
        raise problems.InvalidProduct("Each variant has a SKU of its own, which is not the product's.")
    made = [Variant(each.sku, each.attributes, each.price, each.stock) for each in bodies]
    return _checked(tuple(sorted(made, key=lambda variant: variant.sku)))


def _checked(variants: tuple[Variant, ...]) -> tuple[Variant, ...]:
    if _stock(variants) > LARGEST_STOCK:
        raise problems.InvalidProduct(f"The variants' stock together is at most {LARGEST_STOCK}.")
    return variants


def _stock(variants: tuple[Variant, ...]) -> int:
    return sum(each.stock for each in variants)


async def create_product(context: Context, owner: str, body: ProductBody, key: Key | None) -> Created:
    """With a key once, however often the same request comes. Without one the SKU keeps a retry from making a second.

    Raises Problem; a refusal uses up no key.
    """
    if key is not None and (earlier := await _answered(context, owner, key)) is not None:
        return earlier
    product = product_of(body, ids.uuid7(), context.clock.now())
    kept = timedelta(hours=context.settings.key_lifetime_hours)
    new = None if key is None else NewKey(owner, key.key, key.fingerprint, kept)
    try:
        made = await context.products.add(product, _body, new)
    except KeyTaken:
        assert key is not None
        # The same request at the same moment; it has committed by now.
        if (earlier := await _answered(context, owner, key)) is not None:
            return earlier
        raise problems.Contended from None
    except SkuTaken as taken:
        raise problems.SkuInUse(taken.sku) from None
    except NoSuchReference as missing:
        raise problems.UnknownReference(missing.field) from None
    return Created(product.id, _body(made))


def _body(stored: Stored) -> bytes:
    return msgspec.json.encode(product_view(stored))


async def _answered(context: Context, owner: str, key: Key) -> Created | None:
    found = await context.products.answered(owner, key.key)
    if found is None:
        return None
    if found.fingerprint != key.fingerprint:
        raise problems.KeyReused
    return Created(found.product, found.response, replayed=True)


async def get_product(context: Context, product: UUID) -> Stored:
    """Raises Problem."""
    found = await context.products.get(product)
    if found is None:
        raise problems.NoSuchProduct
    return found


async def put_product(context: Context, product: UUID, body: ProductBody, version: int | None) -> Stored:
    """Replace a product, if it has this version (None: whatever it has). Raises Problem."""
    return await _change(context, product, version, lambda was: product_of(body, was.id, was.created_at))


async def patch_product(context: Context, product: UUID, patch: PatchProduct, version: int | None) -> Stored:
    """Change what is given. Raises Problem."""
    return await _change(context, product, version, lambda was: patched(was, patch))


_PLAIN = {
    "sku": "sku", "title": "title", "language": "language", "brand_id": "brand", "category_id": "category",
    "price": "price", "currency": "currency", "description": "description", "model": "model",
    "attributes": "attributes", "popularity": "popularity",
}  # fmt: skip


def patched(was: Product, patch: PatchProduct) -> Product:
    """Raises InvalidProduct, HasVariants."""
    changes: dict[str, Any] = {
        field: value for name, field in _PLAIN.items() if (value := getattr(patch, name)) is not UNSET
    }
    now = replace(was, **changes)
    if patch.variants is not UNSET:
        bodies = patch.variants
        variants = variants_of(bodies, now.sku)
        now = replace(now, variants=variants, stock=_stock(variants) if variants or was.variants else now.stock)
    elif now.sku in {each.sku for each in now.variants}:
        raise problems.InvalidProduct("One of the variants has this SKU.")
    if patch.stock is not UNSET:
        now = with_stock(now, patch.stock)
    return now


async def set_stock(context: Context, product: UUID, stock: int, version: int | None) -> Stored:
    """Of a product without variants. Raises Problem."""
    return await _change(context, product, version, lambda was: with_stock(was, stock))


def with_stock(was: Product, stock: int) -> Product:
    """Raises HasVariants."""
    if was.variants:
        raise problems.HasVariants
    return replace(was, stock=stock)


async def set_price(context: Context, product: UUID, price: int, version: int | None) -> Stored:
    """Raises Problem."""
    return await _change(context, product, version, lambda was: replace(was, price=price))


async def set_popularity(context: Context, product: UUID, popularity: int, version: int | None) -> Stored:
    """Raises Problem."""
    return await _change(context, product, version, lambda was: replace(was, popularity=popularity))


async def set_variant(context: Context, product: UUID, sku: str, version: int | None, **changes: int) -> Stored:
    """`price` or `stock` of one variant. Raises Problem."""
    return await _change(context, product, version, lambda was: with_variant(was, sku, **changes))


def with_variant(was: Product, sku: str, **changes: int) -> Product:
    """Raises NoSuchVariant, InvalidProduct."""
    if sku not in {each.sku for each in was.variants}:
        raise problems.NoSuchVariant
    wanted: dict[str, Any] = dict(changes)
    variants = _checked(tuple(replace(each, **wanted) if each.sku == sku else each for each in was.variants))
    return replace(was, variants=variants, stock=_stock(variants))


async def take_offers(context: Context, bodies: Sequence[OfferBody]) -> list[Offered]:
    """Prices and stocks in one commit, each with an outcome of its own, in their order. Repeating them changes nothing.

    Raises InvalidOffers.
    """
    if len({each.sku for each in bodies}) < len(bodies):
        raise problems.InvalidOffers("Each SKU comes once in a request.")
    offers = [Offer(each.sku, _given(each.price), _given(each.stock)) for each in bodies]
    if nothing := next((each.sku for each in offers if each.price is None and each.stock is None), None):
        raise problems.InvalidOffers(f"The offer of {nothing} has neither price nor stock.")
    done = await context.products.offer(offers, offered)
    for each in done:
        metrics.OFFERS.labels(each.outcome.value).inc()
    return done


def _given(value: int | UnsetType) -> int | None:
    return None if isinstance(value, UnsetType) else value


def offered(was: Product, offer: Offer) -> Product | OfferOutcome:
    """The product as the offer wants it, or why it cannot be so. The SKU is the product's or one of its variants'."""
    if offer.sku != was.sku:
        given = {"price": offer.price, "stock": offer.stock}
        try:
            return with_variant(was, offer.sku, **{name: value for name, value in given.items() if value is not None})
        except problems.InvalidProduct:
            return OfferOutcome.TOO_MUCH_STOCK
    if offer.stock is not None and was.variants:
        return OfferOutcome.HAS_VARIANTS
    price = was.price if offer.price is None else offer.price
    return replace(was, price=price, stock=was.stock if offer.stock is None else offer.stock)


async def _change(context: Context, product: UUID, version: int | None, change: Callable[[Product], Product]) -> Stored:
    try:
        changed = await context.products.change(product, version, change)
    except VersionDiffers:
        raise problems.Changed from None
    except SkuTaken as taken:
        raise problems.SkuInUse(taken.sku) from None
    except NoSuchReference as missing:
        raise problems.UnknownReference(missing.field) from None
    if changed is None:
        raise problems.NoSuchProduct
    return changed


async def delete_product(context: Context, product: UUID, version: int | None) -> None:
    """Raises Problem."""
    try:
        if not await context.products.delete(product, version):
            raise problems.NoSuchProduct
    except VersionDiffers:
        raise problems.Changed from None
