"""A catalogue of any size from a seed: product number n is always the same, whichever are made, in whatever order.

What real catalogues have and toy ones lack: words by Zipf's law, makers of very different size, model numbers, units,
several names for one thing, several languages, near duplicates from resellers, out of stock, a long tail of sales. What a
product *is* (`Traits`) is drawn first and its text is written from that, so that a query's right answers are known
without reading the text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from math import exp
from uuid import UUID

from services.catalog import vocabulary as words
from services.catalog.domain import Brand, Category, Language, Product, Variant
from services.catalog.draw import Draw, number_for

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
"""The newest product is as old as this. Ids count milliseconds from here."""
BRANDS = 600
SERIES = 5_000
TAIL = 200_000
"""Invented words, by Zipf's law."""
DUPLICATE_PERCENT = 2
FIRST_COPY = 100
CURRENCY = "EUR"
_LANGUAGES = ((Language.EN, 70), (Language.DE, 15), (Language.FR, 10), (Language.ES, 5))
_DAYS = 1095
_EPOCH_MS = int(EPOCH.timestamp() * 1000)


@dataclass(frozen=True, slots=True)
class Traits:
    """What a product is, apart from how it is written. Indices into the vocabulary; None: it has none of it."""

    leaf: int
    brand: int
    series: int
    model: str
    language: Language
    colour: int | None
    material: int | None
    quality: int | None
    audience: int | None
    measures: tuple[tuple[str, int], ...]
    copy_of: int | None = None


def categories() -> list[Category]:
    """The whole tree, parents first; ids are positions from 1."""
    languages = tuple(Language)
    inner = [(path, dict(zip(languages, names, strict=True))) for path, names in words.ROOTS.items()]
    leaves = [(leaf.path, {language: leaf.nouns[language][0] for language in languages}) for leaf in words.LEAVES]
    return [Category(number, path, names) for number, (path, names) in enumerate([*inner, *leaves], 1)]


def category_of(leaf: int) -> int:
    """The id of a leaf's category."""
    return len(words.ROOTS) + leaf + 1


def brands() -> list[Brand]:
    """All makers, the biggest first; ids are positions from 1."""
    return [Brand(number + 1, _brand(number)) for number in range(BRANDS)]


@cache
def _brand(number: int) -> str:
    return words.invented(number * 3 + 7).title()


def traits(seed: int, number: int) -> Traits:
    """What product `number` (from 0) is. A reseller's copy is what its original is."""
    draw = Draw(seed, f"product {number}")
    kind = _traits(draw)
    if number < FIRST_COPY or not draw.chance(DUPLICATE_PERCENT):
        return kind
    original = draw.below(number)
    return replace(_traits(Draw(seed, f"product {original}")), copy_of=original)


def _traits(draw: Draw) -> Traits:
    leaf_number = draw.below(len(words.LEAVES))
    leaf = words.LEAVES[leaf_number]
    brand, series = draw.rank(BRANDS), draw.rank(SERIES)
    return Traits(
        leaf=leaf_number,
        brand=brand,
        series=series,
        model=_model(draw),
        language=_language(draw.below(100)),
        colour=draw.below(len(words.COLOURS[Language.EN])) if "colour" in leaf.attributes else None,
        material=draw.below(len(words.MATERIALS[Language.EN])) if "material" in leaf.attributes else None,
        quality=draw.below(len(words.QUALITIES[Language.EN])) if draw.chance(60) else None,
        audience=draw.below(len(words.AUDIENCES[Language.EN])) if draw.chance(25) else None,
        measures=tuple((name, draw.one(words.MEASURES[name][1])) for name in leaf.attributes if name in words.MEASURES),
    )


_tail = lru_cache(maxsize=50_000)(words.invented)


def _language(percent: int) -> Language:
    for language, share in _LANGUAGES:
        if percent < share:
            return language
        percent -= share
    raise AssertionError("the shares add up to 100")


def _model(draw: Draw) -> str:
    """`911 997`, `XR-2100` or `K55`: what people type when they know what they want."""
    form = draw.below(3)
    if form == 0:
        return f"{100 + draw.below(900)} {100 + draw.below(900)}"
    letters = "ABCDEFGHKLMNPRSTVWXZ"
    if form == 1:
        return f"{draw.one(letters)}{draw.one(letters)}-{100 * (1 + draw.below(90))}"
    return f"{draw.one(letters)}{10 + draw.below(90)}"


def product(seed: int, number: int) -> Product:
    """Product `number`, from 0."""
    kind = traits(seed, number)
    draw = Draw(seed, f"text {number}")
    leaf = words.LEAVES[kind.leaf]
    attributes = _attributes(kind)
    noun = _noun(draw, leaf, kind.language)
    title = _title(draw, kind, noun, attributes)
    if kind.copy_of is not None:
        title = _resold(draw, title)
    price = max(99, round(leaf.price * 100 * exp(0.45 * draw.normal())) // 10 * 10 + 9)
    stock = 0 if draw.chance(12) else 1 + draw.below(500)
    sku = f"{_brand(kind.brand)[:3].upper()}-{number:08d}"
    variants = _variants(draw, kind, sku, price, stock)
    return Product(
        id=product_id(seed, number),
        sku=sku,
        title=title,
        description=_description(draw, kind, noun),
        language=kind.language,
        brand=kind.brand + 1,
        category=category_of(kind.leaf),
        model=kind.model,
        attributes=attributes,
        price=price,
        currency=CURRENCY,
        stock=sum(each.stock for each in variants) if variants else stock,
        popularity=min(1_000_000, int((1 / (1 - draw.share())) ** 1.1) - 1),
        created_at=EPOCH - timedelta(days=draw.below(_DAYS), seconds=draw.below(86_400)),
        variants=variants,
    )


def products(seed: int, count: int, first: int = 0) -> Iterator[Product]:
    """`count` products from number `first` on."""
    return (product(seed, number) for number in range(first, first + count))


def product_id(seed: int, number: int) -> UUID:
    """In the order of the numbers, in the form of UUIDv7."""
    value = (_EPOCH_MS + number & (1 << 48) - 1) << 80 | number_for(seed, f"id {number}", 80)
    value = value & ~(0xF << 76) | 7 << 76
    return UUID(int=value & ~(0x3 << 62) | 2 << 62)


def _attributes(kind: Traits) -> dict[str, str]:
    """Names are English; words are the product's language, as a seller enters them; measures carry their unit."""
    found = {}
    if kind.colour is not None:
        found["colour"] = words.COLOURS[kind.language][kind.colour]
    if kind.material is not None:
        found["material"] = words.MATERIALS[kind.language][kind.material]
    for name, value in kind.measures:
        found[name] = f"{value} {words.MEASURES[name][0]}".rstrip()
    return found


def _noun(draw: Draw, leaf: words.Leaf, language: Language) -> str:
    names = leaf.nouns[language]
    return names[0] if draw.chance(60) else draw.one(names)


def _title(draw: Draw, kind: Traits, noun: str, attributes: dict[str, str]) -> str:
    parts = [_brand(kind.brand), words.invented(10_000 + kind.series).title(), kind.model, noun]
    if kind.quality is not None:
        parts.append(words.QUALITIES[kind.language][kind.quality])
    if kind.audience is not None:
        parts.append(words.AUDIENCES[kind.language][kind.audience])
    parts += [text for text in attributes.values() if draw.chance(55)]
    return " ".join(parts)


def _resold(draw: Draw, title: str) -> str:
    """As a second seller writes the same thing: something added, and now and then two letters swapped."""
    if draw.chance(40):
        place = 1 + draw.below(max(1, len(title) - 3))
        title = f"{title[:place]}{title[place + 1]}{title[place]}{title[place + 2 :]}"
    return f"{title} {draw.one(('NEW', 'original', 'B-stock', '2 pack', 'OVP'))}"


def _description(draw: Draw, kind: Traits, noun: str) -> str:
    """Sentences of function words, words of the trade and a long tail of others."""
    language = kind.language
    glue, own = words.GLUE[language], (noun, *words.QUALITIES[language], *words.MATERIALS[language])
    return " ".join(_sentence(draw, glue, own) for _ in range(2 + draw.below(3)))


def _sentence(draw: Draw, glue: Sequence[str], own: Sequence[str]) -> str:
    text = []
    for _ in range(6 + draw.below(10)):
        choice = draw.share()
        if choice < 0.45:
            text.append(glue[draw.rank(len(glue))])
        elif choice < 0.6:
            text.append(draw.one(own))
        else:
            text.append(_tail(draw.rank(TAIL)))
    return " ".join(text).capitalize() + "."


def _variants(draw: Draw, kind: Traits, sku: str, price: int, stock: int) -> tuple[Variant, ...]:
    sizes = words.MEASURES["size"][1]
    if "size" not in dict(kind.measures) or draw.chance(30):
        return ()
    count = 2 + draw.below(4)
    start = draw.below(len(sizes) - count)
    return tuple(
        Variant(f"{sku}-{size}", {"size": str(size)}, price, draw.below(stock + 1) if stock else 0)
        for size in sizes[start : start + count]
    )
