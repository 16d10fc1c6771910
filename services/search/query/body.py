"""Whole search bodies: a page of hits, one hit explained, suggestions. And what their answers say."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from services.search.query import filters
from services.search.query.build import Asked, Matching, matching_query, whole_query
from services.search.query.cursor import Cursor
from services.search.query.request import SearchRequest, Sort
from services.search.query.synonyms import LANGUAGES, Synonyms, fold, typos_allowed
from services.search.ranking import Context, Effect, Ranking
from services.search.ranking.boosts import Query
from services.search.ranking.rules import without

NO_EFFECT = Effect()

_ORDER: Mapping[Sort, dict[str, str]] = {
    Sort.RELEVANCE: {"_score": "desc"},
    Sort.CHEAPEST: {"price": "asc"},
    Sort.DEAREST: {"price": "desc"},
    Sort.NEWEST: {"created_at": "desc"},
    Sort.POPULARITY: {"popularity": "desc"},
}
_DESCRIPTIONS = tuple(f"description_{each}" for each in LANGUAGES)
_BEGIN, _END = "\ue000", "\ue001"
"""Around what is highlighted: private-use characters, so that everything else can be escaped afterwards."""
_MARKED = re.compile(f"{_BEGIN}(.*?){_END}", re.DOTALL)


def hits_body(
    request: SearchRequest,
    ranking: Ranking,
    context: Context,
    synonyms: Synonyms,
    matching: Matching,
    *,
    effect: Effect = NO_EFFECT,
    cursor: Cursor | None = None,
    total_limit: int = 10_000,
) -> dict[str, Any]:
    """One page. One more hit than it has places is asked for, so that a last page is known as such."""
    body: dict[str, Any] = {
        "size": request.limit + 1,
        "query": _unnamed(_query(request, ranking, context, synonyms, matching, effect)),
        "sort": [_ORDER[request.sort], {"id": "asc"}],
        "_source": _source(request),
        "track_total_hits": total_limit if cursor is None else False,
    }
    if cursor is not None:
        body["search_after"] = cursor.after
    if request.highlight:
        body["highlight"] = _highlight(request, synonyms, ranking)
    if cursor is None and matching is not Matching.EXACTLY and (spelling := _spelling(request)):
        body["suggest"] = spelling
    return body


def explain_body(
    request: SearchRequest,
    ranking: Ranking,
    context: Context,
    synonyms: Synonyms,
    matching: Matching,
    effect: Effect = NO_EFFECT,
) -> dict[str, Any]:
    """The one product of the request, with the names of what matched and the engine's account of the score."""
    query = _query(request, ranking, context, synonyms, matching, effect)
    return {
        "size": 1,
        "query": {"bool": {"must": [query], "filter": [{"term": {"id": str(request.explain)}}]}},
        "explain": True,
        "track_total_hits": False,
    }


def asked(request: SearchRequest) -> Asked:
    """The text of a request."""
    return Asked(request.clauses, request.language)


def counting_query(
    request: SearchRequest, synonyms: Synonyms, matching: Matching, ranking: Ranking, effect: Effect = NO_EFFECT
) -> Query:
    """What facets are counted in: the found documents, before any filter."""
    return dict(_unnamed(_unscored(request, synonyms, matching, ranking, effect)))


def _query(
    request: SearchRequest,
    ranking: Ranking,
    context: Context,
    synonyms: Synonyms,
    matching: Matching,
    effect: Effect,
) -> Query:
    narrowing = filters.clauses(request.filters)
    if request.sort is Sort.RELEVANCE:
        return whole_query(
            asked(request), ranking, context, synonyms, matching=matching, effect=effect, filters=narrowing
        )
    return {"bool": {"filter": [_unscored(request, synonyms, matching, ranking, effect), *narrowing]}}


def _unscored(
    request: SearchRequest, synonyms: Synonyms, matching: Matching, ranking: Ranking, effect: Effect
) -> Query:
    # Sorted by price nobody is on top, so a pin has no place; whoever is excluded stays so.
    query = matching_query(asked(request), synonyms, matching, ranking.weights)
    if unwanted := without(effect):
        query = {"bool": {"filter": [query], "must_not": unwanted}}
    if request.sort is Sort.RELEVANCE and effect.pinned:
        pinned = {"terms": {"id": [str(each) for each in effect.pinned]}}
        query = {"bool": {"should": [query, pinned], "minimum_should_match": 1, "must_not": without(effect)}}
    return query


def _source(request: SearchRequest) -> list[str]:
    wanted = [name for name in request.fields if name != "description"]
    return [*wanted, *(_DESCRIPTIONS if "description" in request.fields else ())]


def _highlight(request: SearchRequest, synonyms: Synonyms, ranking: Ranking) -> dict[str, Any]:
    # In descriptions too, where they do not decide.
    words = matching_query(asked(request), synonyms, Matching.LOOSELY, ranking.weights)
    texts = ["title", *(f"title_{each}" for each in LANGUAGES)]
    return {
        "pre_tags": [_BEGIN],
        "post_tags": [_END],
        "require_field_match": True,
        "highlight_query": _unnamed(words),
        "fields": {
            **{name: {"number_of_fragments": 0} for name in texts},
            **{name: {"number_of_fragments": 1, "fragment_size": 160} for name in _DESCRIPTIONS},
        },
    }


def highlighted(found: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """`title` and `description` as HTML: of the fields that hold the same text the one in which most was found."""
    best: dict[str, str] = {}
    for field, fragments in found.items():
        name = field.partition("_")[0]
        text = " … ".join(fragments)
        if text.count(_BEGIN) > best.get(name, "").count(_BEGIN):
            best[name] = text
    return {name: _marked(text) for name, text in best.items()}


def _marked(text: str) -> str:
    html = _MARKED.sub(lambda match: f"<mark>{match[1]}</mark>", escape(text))
    return html.replace(_BEGIN, "").replace(_END, "")


def _spelling(request: SearchRequest) -> dict[str, Any]:
    """For each word that may be misspelt, what the titles have instead; only for words that they lack."""
    found: dict[str, Any] = {}
    for place, clause in enumerate(request.clauses):
        word = fold(clause.text)
        if clause.excluded or clause.field or clause.phrase or clause.prefix or not typos_allowed(word) or " " in word:
            continue
        found[f"word{place}"] = {
            "text": word,
            "term": {"field": "title", "size": 1, "suggest_mode": "missing", "min_word_length": 4, "prefix_length": 1},
        }
    return found


def respelt(request: SearchRequest, suggestions: Mapping[str, Any]) -> str | None:
    """The query with its misspelt words put right; None if there is nothing to put right."""
    text, changed = request.q, False
    for place, clause in reversed(list(enumerate(request.clauses))):
        options = [each for entry in suggestions.get(f"word{place}", ()) for each in entry.get("options", ())]
        if options and isinstance(better := options[0].get("text"), str):
            text = text[: clause.start] + better + text[clause.end :]
            changed = True
    return text if changed else None


def _unnamed(query: Any) -> Any:
    """Names are for the explanation; for a page of hits the engine would look up each name for each hit."""
    if isinstance(query, dict):
        return {
            key: _unnamed(value) if isinstance(value, (dict, list)) else value
            for key, value in query.items()
            if key != "_name"
        }
    return [_unnamed(each) for each in query] if isinstance(query, list) else query


SUGGESTED = ("id", "title", "category", "popularity")


LONGEST_BEGINNING = 20
"""Letters, as the index has them."""
MOST_WORDS = 10


def _beginnings(text: str) -> str:
    return " ".join(word[:LONGEST_BEGINNING] for word in fold(text).split()[:MOST_WORDS])


def suggest_bodies(text: str, language: str | None, limit: int) -> list[dict[str, Any]]:
    """Titles that begin so; titles with words that begin so. By popularity alone, which the engine need not score."""
    queries: list[Query] = [
        {"match": {"suggest": {"query": text[:LONGEST_BEGINNING]}}},
        {"match": {"suggest.infix": {"query": _beginnings(text), "operator": "and"}}},
    ]
    return [_suggest_body(query, language, limit) for query in queries]


def misspelt_body(text: str, language: str | None, limit: int) -> dict[str, Any]:
    """The same with typos, for when there is too little without."""
    near = {
        "query": _beginnings(text),
        "operator": "and",
        "fuzziness": "AUTO:4,8",
        "prefix_length": 1,
        "max_expansions": 30,
    }
    return _suggest_body({"match": {"suggest.infix": near}}, language, limit)


def _suggest_body(query: Query, language: str | None, limit: int) -> dict[str, Any]:
    narrowing = [query, filters.NOT_THE_CANARY]
    if language is not None:
        narrowing.append({"term": {"language": language}})
    return {
        "size": limit,
        "query": {"bool": {"filter": narrowing}},
        "sort": [{"popularity": "desc"}, {"id": "asc"}],
        "_source": list(SUGGESTED),
        "track_total_hits": False,
    }


POPULAR = 500
POPULAR_SOURCE = (
    "id", "sku", "title", *_DESCRIPTIONS, "brand", "category", "categories", "attributes", "price", "currency",
    "in_stock", "stock", "popularity", "language", "model", "created_at", "number",
)  # fmt: skip


def popular_body() -> dict[str, Any]:
    """The most popular products, and which brands and categories there are."""
    return {
        "size": POPULAR,
        "query": {"bool": {"filter": [filters.NOT_THE_CANARY]}},
        "sort": [{"popularity": "desc"}, {"id": "asc"}],
        "_source": list(POPULAR_SOURCE),
        "track_total_hits": False,
    }


def names_body() -> dict[str, Any]:
    """How many products each brand and each category has."""
    counted = {name: {"terms": {"field": field, "size": 1000}} for name, field in _NAMES.items()}
    return {"size": 0, "track_total_hits": False, "aggs": counted}


_NAMES = {"brand": "brand", "category": "categories"}
