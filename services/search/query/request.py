"""A search request from its query string: each parameter read strictly, what would cost too much refused with its reason."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

from services.kit import ids
from services.search.problems import InvalidParameter, InvalidQuery, TooExpensive
from services.search.query.build import FIELDS
from services.search.query.parser import Clause, QueryError, parse
from services.search.query.synonyms import LANGUAGES
from services.search.ranking.rules import normal

PRODUCT = "prd"

PAGE, LARGEST_PAGE = 20, 100
MOST_VALUES = 50
"""Of one filter. A list of ten thousand is a join, which belongs in the caller's database."""
MOST_FILTERS = 20
LONGEST_VALUE = 200
DEEPEST_CATEGORY = 10
LARGEST_FACET = 100
MOST_PARAMETERS = 200

TERM_FILTERS = {
    "brand": "brand",
    "category": "categories",
    "language": "language",
    "currency": "currency",
    "in_stock": "in_stock",
}
"""Parameter -> field of the index."""
RANGE_FILTERS = {"price": "price", "stock": "stock", "popularity": "popularity", "created_at": "created_at"}
ATTRIBUTE, NUMBER = "attr.", "number."
FACETS = ("brand", "category", "price", "in_stock", "attributes", "language")
DEFAULT_FACETS = ("brand", "category", "price", "in_stock", "attributes")
FIELD_NAMES = (
    "id", "sku", "title", "description", "brand", "category", "attributes", "price", "currency", "in_stock", "stock",
    "popularity", "language", "model", "created_at",
)  # fmt: skip
DEFAULT_FIELDS = ("id", "sku", "title", "brand", "category", "price", "currency", "in_stock")

_PLAIN = frozenset(
    {"q", "lang", "sort", "limit", "cursor", "facets", "facet_size", "fields", "highlight", "explain", "id", "user", "ranking"}
)  # fmt: skip
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_WHOLE = re.compile(r"-?[0-9]{1,15}")
_DECIMAL = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,6})?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_WORD = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Sort(StrEnum):
    """The orders that there are; each ends with the id, so that it is total."""

    RELEVANCE = "relevance"
    CHEAPEST = "price"
    DEAREST = "-price"
    NEWEST = "newest"
    POPULARITY = "popularity"


@dataclass(frozen=True, slots=True, order=True)
class Terms:
    """One of `values` in `field`. `facet` names what shows it."""

    facet: str
    field: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, order=True)
class Range:
    """`low` and `high` are included; None is open."""

    facet: str
    field: str
    low: float | int | str | None
    high: float | int | str | None


Filter = Terms | Range


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """What is asked for. `user` is a caller's own id of a person, for taste and experiments."""

    q: str = ""
    clauses: tuple[Clause, ...] = ()
    language: str | None = None
    filters: tuple[Filter, ...] = ()
    sort: Sort = Sort.RELEVANCE
    limit: int = PAGE
    cursor: str | None = None
    facets: tuple[str, ...] = DEFAULT_FACETS
    facet_size: int = 10
    fields: tuple[str, ...] = DEFAULT_FIELDS
    highlight: bool = False
    explain: UUID | None = None
    user: str | None = None
    ranking: str | None = None

    @property
    def meaning(self) -> tuple[tuple[object, ...], ...]:
        """Equal for texts that are the same query."""
        return tuple((normal(each.text), each.field, each.phrase, each.prefix, each.excluded) for each in self.clauses)

    @property
    def category(self) -> str | None:
        """That the search is within, if it is one."""
        chosen = [each.values for each in self.filters if isinstance(each, Terms) and each.facet == "category"]
        return chosen[0][0] if chosen and len(chosen[0]) == 1 else None

    @property
    def matching_key(self) -> tuple[object, ...]:
        """What decides which documents are found."""
        return (self.meaning, self.language, self.filters)

    @property
    def order_key(self) -> tuple[object, ...]:
        """What a cursor belongs to."""
        return (*self.matching_key, self.sort)


@dataclass(frozen=True, slots=True)
class SuggestRequest:
    """A beginning of a query."""

    q: str = ""
    limit: int = 8
    language: str | None = None


@dataclass(slots=True)
class _Parameters:
    """Each name with its values, in the order they came."""

    values: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, pairs: Sequence[tuple[str, str]]) -> _Parameters:
        if len(pairs) > MOST_PARAMETERS:
            raise TooExpensive(
                "long_list", f"A request has at most {MOST_PARAMETERS} parameters; this one has {len(pairs)}."
            )
        found = cls()
        for name, value in pairs:
            found.values.setdefault(name, []).append(value)
        return found

    def one(self, name: str) -> str | None:
        values = self.values.get(name)
        if values is None:
            return None
        if len(values) > 1:
            raise InvalidParameter(name, f"{name} stands once.")
        return values[0]

    def choice(self, name: str, allowed: Iterable[str]) -> str | None:
        value, known = self.one(name), tuple(allowed)
        if value is not None and value not in known:
            raise InvalidParameter(name, f"{name} is one of {', '.join(known)}.")
        return value

    def whole(self, name: str, default: int, most: int) -> int:
        text = self.one(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and int(text[:9]) >= 1):
            raise InvalidParameter(name, f"{name} is a whole number from 1 to {most}.")
        if len(text) > 9 or int(text) > most:
            raise TooExpensive("huge_page", f"{name} is at most {most}; further results are on further pages.")
        return int(text)

    def flag(self, name: str) -> bool:
        return self.choice(name, ("0", "1")) == "1"

    def names(self, name: str, allowed: Sequence[str], default: tuple[str, ...]) -> tuple[str, ...]:
        text = self.one(name)
        if text is None:
            return default
        chosen = tuple(dict.fromkeys(part for part in text.split(",") if part))
        if chosen == ("none",):
            return ()
        if not chosen or not set(chosen) <= set(allowed):
            raise InvalidParameter(name, f"{name} is a list, by commas, of {', '.join(allowed)}.")
        return tuple(each for each in allowed if each in chosen)


def read_search(pairs: Sequence[tuple[str, str]], rankings: Iterable[str] = ()) -> SearchRequest:
    """Raises InvalidQuery, InvalidParameter, TooExpensive."""
    given = _Parameters.of(pairs)
    filters = _filters(given)
    q = given.one("q") or ""
    made = SearchRequest(
        q=q,
        clauses=_parsed(q),
        language=given.choice("lang", LANGUAGES),
        filters=filters,
        sort=Sort(given.choice("sort", tuple(Sort)) or Sort.RELEVANCE),
        limit=given.whole("limit", PAGE, LARGEST_PAGE),
        cursor=given.one("cursor") or None,
        facets=given.names("facets", FACETS, DEFAULT_FACETS),
        facet_size=given.whole("facet_size", 10, LARGEST_FACET),
        fields=("id", *(each for each in given.names("fields", FIELD_NAMES, DEFAULT_FIELDS) if each != "id")),
        highlight=given.flag("highlight"),
        explain=_explained(given),
        user=_word(given, "user"),
        ranking=given.choice("ranking", tuple(rankings)),
    )
    if made.explain is not None and made.cursor is not None:
        raise InvalidParameter("explain", "explain=1 looks at one product, not at a page.")
    return made


def read_suggest(pairs: Sequence[tuple[str, str]]) -> SuggestRequest:
    """Raises InvalidParameter, TooExpensive."""
    given = _Parameters.of(pairs)
    if unknown := set(given.values) - {"q", "limit", "lang"}:
        raise InvalidParameter("q", f"There are q, limit and lang; {len(unknown)} other parameters were sent.")
    q = given.one("q") or ""
    if len(q) > LONGEST_VALUE:
        raise TooExpensive("long_query", f"The beginning of a query has at most {LONGEST_VALUE} characters.")
    return SuggestRequest(_CONTROL.sub(" ", q).strip(), given.whole("limit", 8, 20), given.choice("lang", LANGUAGES))


def _parsed(q: str) -> tuple[Clause, ...]:
    try:
        return parse(q, FIELDS)
    except QueryError as error:
        raise InvalidQuery(str(error), error.position) from None


def _explained(given: _Parameters) -> UUID | None:
    identity = given.one("id")
    if not given.flag("explain"):
        if identity is not None:
            raise InvalidParameter("id", "id goes with explain=1.")
        return None
    found = ids.decode(PRODUCT, identity or "")
    if found is None:
        raise InvalidParameter("id", "explain=1 needs id, the id of a product.")
    return found


def _word(given: _Parameters, name: str) -> str | None:
    value = given.one(name)
    if value is not None and not _WORD.fullmatch(value):
        raise InvalidParameter(name, f"{name} is 1 to 64 letters, digits, dots, dashes and underscores.")
    return value


def _filters(given: _Parameters) -> tuple[Filter, ...]:
    found: list[Filter] = []
    unknown = 0
    for name, values in given.values.items():
        if name in TERM_FILTERS:
            found.append(_terms(name, TERM_FILTERS[name], values))
        elif name in RANGE_FILTERS:
            found.append(_range(name, RANGE_FILTERS[name], given))
        elif name.startswith(ATTRIBUTE) and _NAME.fullmatch(name.removeprefix(ATTRIBUTE)):
            attribute = name.removeprefix(ATTRIBUTE)
            chosen = _terms(name, "attributes", values)
            found.append(Terms(name, "attributes", tuple(f"{attribute}={value}" for value in chosen.values)))
        elif name.startswith(NUMBER) and _NAME.fullmatch(name.removeprefix(NUMBER)):
            found.append(_range(name, name, given))
        elif name not in _PLAIN:
            unknown += 1
    if unknown:
        known = sorted({*_PLAIN, *TERM_FILTERS, *RANGE_FILTERS, "attr.<name>", "number.<name>"})
        raise InvalidParameter("", f"There are {', '.join(known)}; {unknown} other parameters were sent.")
    if len(found) > MOST_FILTERS:
        raise TooExpensive("many_filters", f"A query has at most {MOST_FILTERS} filters; this one has {len(found)}.")
    return tuple(sorted(found, key=lambda each: each.facet))


def _terms(name: str, target: str, values: Sequence[str]) -> Terms:
    chosen = tuple(sorted(set(values)))
    if len(chosen) > MOST_VALUES:
        raise TooExpensive("long_list", f"{name} takes at most {MOST_VALUES} values; this query has {len(chosen)}.")
    if any(not value or len(value) > LONGEST_VALUE or _CONTROL.search(value) for value in chosen):
        raise InvalidParameter(name, f"Each {name} is 1 to {LONGEST_VALUE} characters without control characters.")
    if name == "category" and any(value.count("/") >= DEEPEST_CATEGORY for value in chosen):
        raise TooExpensive("deep_nesting", f"A category is at most {DEEPEST_CATEGORY} levels deep.")
    if name == "in_stock" and not set(chosen) <= {"true", "false"}:
        raise InvalidParameter(name, "in_stock is true or false.")
    return Terms(name, target, chosen)


def _range(name: str, target: str, given: _Parameters) -> Range:
    text = given.one(name) or ""
    low, dots, high = text.partition("..")
    if not dots or not (low or high):
        raise InvalidParameter(name, f"{name} is a range such as 10..20, 10.. or ..20.")
    ends = _bound(name, low), _bound(name, high)
    if ends[0] is not None and ends[1] is not None and ends[0] > ends[1]:  # type: ignore[operator]  # one kind by name
        raise InvalidParameter(name, f"{name} begins above its end.")
    return Range(name, target, *ends)


def _bound(name: str, text: str) -> float | int | str | None:
    if not text:
        return None
    if name == "created_at":
        return _moment(name, text)
    if not name.startswith(NUMBER):
        if not (text.isascii() and _WHOLE.fullmatch(text)):
            raise InvalidParameter(name, f"The ends of {name} are whole numbers.")
        return int(text)
    if not (text.isascii() and _DECIMAL.fullmatch(text)):
        raise InvalidParameter(name, f"The ends of {name} are numbers.")
    return float(text)


def _moment(name: str, text: str) -> str:
    try:
        found = datetime.fromisoformat(text)
        moment = (found.replace(tzinfo=UTC) if found.tzinfo is None else found).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidParameter(
            name, f"The ends of {name} are dates, such as 2026-01-31 or 2026-01-31T12:00:00Z."
        ) from None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
