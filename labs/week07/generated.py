"""The generated catalogue without its database: titles, and documents as the indexer would write them.

Everything is drawn from the seed, so the same run asks the same questions of the same products.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import lru_cache
from typing import Any

from services.catalog.domain import Product
from services.catalog.generate import brands, categories, products
from services.search import mappings
from services.search.documents import ProductRow, VariantRow, document, encoded
from services.search.engine import Engine, Fate, Write

PORTION = 800
"""Documents of one bulk request: below 1 MB."""
FILL_SECONDS = 120.0

Note = Callable[[str], None]


class FillFailed(OSError):
    """The engine did not take every document."""


@lru_cache(maxsize=2)
def titles(seed: int, count: int) -> tuple[str, ...]:
    """Of the first `count` products."""
    return tuple(each.title for each in products(seed, count))


@lru_cache(maxsize=1)
def _brands() -> Mapping[int, str]:
    return {each.id: each.name for each in brands()}


@lru_cache(maxsize=1)
def _tree() -> Mapping[int, tuple[str, Mapping[str, tuple[str, ...]]]]:
    """Category -> its path and, by language, the names from the root down."""
    known = {each.path: each for each in categories()}
    found: dict[int, tuple[str, Mapping[str, tuple[str, ...]]]] = {}
    for each in known.values():
        parts = each.path.split("/")
        line = [known["/".join(parts[: depth + 1])] for depth in range(len(parts))]
        found[each.id] = (each.path, {lang: tuple(one.names[lang] for one in line) for lang in each.names})
    return found


def row(each: Product) -> ProductRow:
    """As the indexer reads it from the database."""
    path, names = _tree()[each.category]
    return ProductRow(
        id=each.id,
        sku=each.sku,
        title=each.title,
        description=each.description,
        language=each.language,
        brand_id=each.brand,
        brand=_brands()[each.brand],
        path=path,
        category_names=names[each.language],
        model=each.model,
        attributes=dict(each.attributes),
        price=each.price,
        currency=each.currency,
        stock=each.stock,
        popularity=each.popularity,
        created_at=each.created_at,
        variants=tuple(VariantRow(one.sku, dict(one.attributes), one.price, one.stock) for one in each.variants),
    )


def writes(index: str, seed: int, first: int, count: int) -> list[Write]:
    """Products `first` and following."""
    fields = mappings.load().fields
    return [
        Write(index, str(each.id), 1, encoded(document(row(each)), fields)) for each in products(seed, count, first)
    ]


async def fill(
    engine: Engine, index: str, seed: int, count: int, note: Note, similarity: Mapping[str, Any] | None = None
) -> None:
    """A new index by the newest mapping with the first `count` products, ready to be searched. Raises EngineError, FillFailed."""
    body = deepcopy(mappings.load().body)
    if similarity is not None:
        body["settings"]["index"]["similarity"] = {"default": dict(similarity)}
    await engine.create_index(index, body)
    for first in range(0, count, PORTION):
        portion = await asyncio.to_thread(writes, index, seed, first, min(PORTION, count - first))
        await bulk(engine, portion)
        note(f"{first + len(portion):,} of {count:,} documents")
    await engine.refresh(index)


async def bulk(engine: Engine, portion: Sequence[Write]) -> None:
    """Raises FillFailed, EngineError."""
    wrong = [each for each in await engine.bulk(portion, within=FILL_SECONDS) if each.fate is not Fate.DONE]
    if wrong:
        raise FillFailed(
            f"the engine refused {len(wrong)} of {len(portion)} documents: {wrong[0].kind} {wrong[0].reason}"
        )
