"""From parsed clauses to the engine's query.

What a document scores is `tier + boosts * text`:

- `text` is what BM25 says of the words, each in its best field, plus a constant where only a typo matches;
- the boosts (services/search/ranking) multiply it, within MOST_SPREAD;
- the tier is a constant, added outside of the boosts: one for whoever has every word as it was typed (its stem, or what the
  synonyms say is the same), half of one for whoever has the model or article number that was typed.

The lower tier is above anything that boosts can make of text (`ceiling` bounds BM25 from idf and saturation), so a typo never
ranks above an exact match, and `911 997` finds itself before `911 991`, whatever sells better.

`whole_query` puts it together with ranking and rules; what ranks elsewhere (evaluation) calls the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import ceil, log2

from services.search.query.parser import Clause
from services.search.query.synonyms import LANGUAGES, Alternatives, Synonyms, fold, typos_allowed
from services.search.ranking import MOST_SPREAD, Context, Effect, Ranking, apply_rules, ranked
from services.search.ranking.boosts import Query

FIELDS = frozenset({"title", "description", "brand", "category", "sku", "model", "colour", "material", "size"})
"""What may stand before a colon."""

LARGEST_TERM_SCORE = 40.0
"""BM25 of one word at weight 1: idf is ln(1 + 2N) at most, 18.2 for N of forty million; older similarities multiply by k1 + 1."""
TIE = 0.15
"""What the fields that match worse than the best one add."""
TYPO_SHARE = 1.5
"""A word matched by a typo scores so many title weights, however rare it is: idf is high for rare mistakes."""
SYNONYM_SHARE = 0.8
MOST_EXPANSIONS = 30
"""Terms that one misspelt word may stand for."""
LONGEST_CODE = 4
"""Words that may make up one model or article number, `911 997`."""
CODE_FIELDS = ("sku.norm", "skus.norm", "model.norm")

MATCH_ALL: Query = {"match_all": {}}
MATCH_NONE: Query = {"match_none": {}}


class Matching(StrEnum):
    """Which documents are found at all.

    EXACTLY: every word as typed, stems and synonyms included, in what the product is: title, brand, category, attributes,
    numbers. LOOSELY: typos and descriptions too, and of several words one may be missing, of more than four two. EVERY_WORD:
    as LOOSELY, but no word missing.
    """

    EXACTLY = "exactly"
    LOOSELY = "loosely"
    EVERY_WORD = "every_word"


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody wants, before ranking. `language` is what it is written in; None: any of ours."""

    clauses: tuple[Clause, ...]
    language: str | None = None

    @property
    def words(self) -> list[str]:
        """Plain ones, without what the index has no term for."""
        return [each.text for each in self.clauses if _plain(each) and fold(each.text)]

    @property
    def positive(self) -> list[Clause]:
        """What must or may be there."""
        return [each for each in self.clauses if not each.excluded]


def _plain(clause: Clause) -> bool:
    return not (clause.field or clause.phrase or clause.prefix or clause.excluded)


def whole_query(
    asked: Asked,
    ranking: Ranking,
    context: Context,
    synonyms: Synonyms,
    *,
    matching: Matching = Matching.LOOSELY,
    effect: Effect | None = None,
    filters: Sequence[Query] = (),
) -> Query:
    """What is sent as `query`: text, boosts, tiers, filters, rules."""
    text = text_query(asked.clauses, asked.language, ranking.weights, synonyms, matching=matching)
    query = tiered(ranked(text, ranking, context), asked, ranking.weights, synonyms, matching=matching)
    return filtered(apply_rules(query, effect) if effect else query, filters)


def matching_query(
    asked: Asked, synonyms: Synonyms, matching: Matching, weights: Mapping[str, float], effect: Effect | None = None
) -> Query:
    """The same documents as `whole_query` without what only orders them: for counting."""
    query = text_query(asked.clauses, asked.language, weights, synonyms, matching=matching, ordered=False)
    return apply_rules(query, effect) if effect else query


def filtered(query: Query, filters: Sequence[Query]) -> Query:
    """The query's scores, only for what passes all filters."""
    return {"bool": {"must": [query], "filter": list(filters)}} if filters else query


def text_query(
    parsed: Sequence[Clause],
    language: str | None,
    weights: Mapping[str, float],
    synonyms: Synonyms,
    *,
    matching: Matching = Matching.LOOSELY,
    ordered: bool = True,
) -> Query:
    """The text score without tiers. `weights` are by the names in ranking.FIELDS; no language means all of them.

    Without `ordered` the words' nearness, which only orders, is left out.
    """
    asked = Asked(tuple(parsed), language)
    must = [_mandatory(each, language, weights) for each in asked.positive if not _plain(each)]
    if words := asked.words:
        must.append(_words(words, language, weights, synonyms, matching))
    elif not must and asked.positive:
        return MATCH_NONE
    body: dict[str, object] = {"must": must or [MATCH_ALL]}
    if ordered and len(words) > 1:
        nearness = {"query": " ".join(words), "slop": 1, "boost": weights["title"] / 2}
        body["should"] = [{"match_phrase": {"title": nearness}}]
    if unwanted := _unwanted(asked):
        body["must_not"] = unwanted
    return {"bool": body}


def tiered(
    query: Query,
    asked: Asked,
    weights: Mapping[str, float],
    synonyms: Synonyms,
    *,
    matching: Matching = Matching.LOOSELY,
) -> Query:
    """Constants above whatever `query` can score. Where all is matched exactly, all have the upper one, and none needs it."""
    lower = lower_tier(asked, weights)
    tiers: list[Query] = []
    if codes := _codes(asked.words):
        tiers.append(_constant(_any_code(codes), lower, "tier:number"))
    if matching is not Matching.EXACTLY and (exact := exact_filter(asked, synonyms)) is not None:
        tiers.append(_constant(exact, 2 * lower, "tier:exact"))
    return {"bool": {"must": [query], "should": tiers}} if tiers else query


def lower_tier(asked: Asked, weights: Mapping[str, float]) -> float:
    """The constant of `tier:number`; that of `tier:exact` is twice as much. A power of two costs a float no digit."""
    return float(2.0 ** ceil(log2(MOST_SPREAD * ceiling(asked, weights))))


def ceiling(asked: Asked, weights: Mapping[str, float]) -> float:
    """More than any text score of these clauses."""
    one = max(weights.values()) + TIE * 3 * sum(weights.values()) + weights["title"] / 2
    words = sum(max(1, len(fold(each.text).split())) for each in asked.positive)
    return (words + 1) * (LARGEST_TERM_SCORE * one + TYPO_SHARE * weights["title"])


def exact_filter(asked: Asked, synonyms: Synonyms) -> Query | None:
    """Whoever matches EXACTLY, unscored. None without any clause."""
    if not asked.clauses:
        return None
    if asked.positive and not asked.words and all(_plain(each) for each in asked.positive):
        return MATCH_NONE
    every: list[Query] = [
        _mandatory(each, asked.language, dict.fromkeys(_NAMES, 1.0)) for each in asked.positive if not _plain(each)
    ]
    words = asked.words
    for start, end, alternatives in synonyms.spans(words, asked.language):
        own: list[Query] = [_exact(word, _word_fields(word, asked.language)) for word in words[start:end]]
        same = [_alternative(each, asked.language) for each in alternatives.same]
        every += [_any([{"bool": {"filter": own}}, *same])] if same else own
    whole: Query = {"bool": {"filter": every}}
    if codes := _codes(words, least=2) if len(every) == len(words) else ():
        whole = _any([whole, _any_code(codes)]) if _covers(codes, words) else whole
    unwanted = _unwanted(asked)
    return {"bool": {"filter": [whole], "must_not": unwanted}} if unwanted else whole


_NAMES = ("title", "title_stemmed", "description", "brand", "category", "model", "sku")


def _any(queries: Sequence[Query]) -> Query:
    return {"bool": {"should": list(queries), "minimum_should_match": 1}} if len(queries) != 1 else queries[0]


def _constant(query: Query, boost: float, name: str) -> Query:
    return {"constant_score": {"filter": query, "boost": boost, "_name": name}}


def _named(query: Query, name: str) -> Query:
    return {kind: {**body, "_name": name} for kind, body in query.items()}


def _languages(language: str | None) -> tuple[str, ...]:
    return LANGUAGES if language is None else (language,)


def _word_fields(word: str, language: str | None, weights: Mapping[str, float] | None = None) -> list[str]:
    """Where a word stands of which a product is; numbers also as part of a code."""

    def weighted(field: str, name: str) -> str:
        return field if weights is None else f"{field}^{weights[name]:g}"

    names = [weighted("title", "title"), weighted("brand.text", "brand")]
    names += [weighted(field, "category") for field in ("category_text", "attributes.text")]
    names += [weighted(f"title_{each}", "title_stemmed") for each in _languages(language)]
    if any(letter.isdigit() for letter in word):
        names += [weighted("model.norm", "model"), weighted("sku.norm", "sku"), weighted("skus.norm", "sku")]
    return names


def _descriptions(language: str | None, weights: Mapping[str, float]) -> list[str]:
    return [f"description_{each}^{weights['description']:g}" for each in _languages(language)]


def _exact(word: str, fields: list[str]) -> Query:
    return {"multi_match": {"query": word, "fields": fields, "operator": "and"}}


def _alternative(expression: str, language: str | None, weights: Mapping[str, float] | None = None) -> Query:
    names = {"title": "title", "category_text": "category", "attributes.text": "category"}
    names |= {f"title_{each}": "title_stemmed" for each in _languages(language)}
    fields = [
        field if weights is None else f"{field}^{weights[name] * SYNONYM_SHARE:g}" for field, name in names.items()
    ]
    kind = "phrase" if " " in expression else "best_fields"
    return {"multi_match": {"query": expression, "fields": fields, "type": kind}}


def _words(
    words: Sequence[str],
    language: str | None,
    weights: Mapping[str, float],
    synonyms: Synonyms,
    matching: Matching,
) -> Query:
    typos = matching is not Matching.EXACTLY
    parts = [
        _part(words[start:end], alternatives, language, weights, typos=typos)
        for start, end, alternatives in synonyms.spans(words, language)
    ]
    if matching is Matching.LOOSELY:
        found: Query = {"bool": {"should": parts, "minimum_should_match": _needed(len(parts))}}
    else:
        found = {"bool": {"must": parts}} if len(parts) > 1 else parts[0]
    codes = _codes(words, least=2)
    if not codes or (matching is Matching.EXACTLY and not _covers(codes, words)):
        return found
    return _any([found, _constant(_any_code(codes), 1.0, "number")])


def _needed(parts: int) -> int:
    return max(1, parts - (1 if parts <= 4 else 2))


def _part(
    words: Sequence[str],
    alternatives: Alternatives,
    language: str | None,
    weights: Mapping[str, float],
    *,
    typos: bool,
) -> Query:
    """One expression: the words themselves, or what means the same."""
    own = [_word(word, language, weights, typos=typos) for word in words]
    mine: Query = own[0] if len(own) == 1 else {"bool": {"must": own}}
    typed = " ".join(words)
    # Each name once: of two clauses with one name the engine tells only of the second.
    others = [_named(_alternative(each, language, weights), f"same:{typed}:{each}") for each in alternatives.same]
    if typos:
        score = TYPO_SHARE * weights["title"] * SYNONYM_SHARE
        others += [
            _constant(_alternative(each, language), score, f"guess:{typed}:{each}") for each in alternatives.guessed
        ]
    return {"dis_max": {"queries": [mine, *others]}} if others else mine


def _word(word: str, language: str | None, weights: Mapping[str, float], *, typos: bool) -> Query:
    exact: Query = {
        "multi_match": {
            "query": word,
            "fields": [*_word_fields(word, language, weights), *(_descriptions(language, weights) if typos else ())],
            "operator": "and",
            "tie_breaker": TIE,
            "_name": f"word:{word}",
        }
    }
    if not typos or not any(typos_allowed(each) for each in fold(word).split()) or _is_code(word):
        return exact
    near: Query = {
        "multi_match": {
            "query": word,
            "fields": ["title", "brand.text", "category_text"],
            "operator": "and",
            "fuzziness": "AUTO:4,8",
            "prefix_length": 1,
            "max_expansions": MOST_EXPANSIONS,
        }
    }
    return {"dis_max": {"queries": [exact, _constant(near, TYPO_SHARE * weights["title"], f"typo:{word}")]}}


def _is_code(word: str) -> bool:
    return any(letter.isdigit() for letter in word)


def _codes(words: Sequence[str], least: int = 1) -> tuple[str, ...]:
    """What may be a model or article number: runs of words, one of them with a digit, written together."""
    found: dict[str, None] = {}
    for start in range(len(words)):
        for end in range(start + 1, min(start + LONGEST_CODE, len(words)) + 1):
            text = "".join(fold(word).replace(" ", "") for word in words[start:end])
            if end - start >= min(least, len(words)) and len(text) > 1 and _is_code(text):
                found[text] = None
    return tuple(found)


def _covers(codes: Sequence[str], words: Sequence[str]) -> bool:
    return "".join(fold(word).replace(" ", "") for word in words) in codes


def _any_code(codes: Sequence[str]) -> Query:
    return _any([{"terms": {field: list(codes)}} for field in CODE_FIELDS])


def _unwanted(asked: Asked) -> list[Query]:
    ones = dict.fromkeys(_NAMES, 1.0)
    found = []
    for each in asked.clauses:
        if each.excluded and fold(each.text):
            plain = not (each.field or each.phrase or each.prefix)
            fields = [*_word_fields(each.text, asked.language), *_descriptions(asked.language, ones)]
            found.append(_exact(each.text, fields) if plain else _mandatory(each, asked.language, ones))
    return found


def _mandatory(clause: Clause, language: str | None, weights: Mapping[str, float]) -> Query:
    """A phrase, a prefix, or a value of a field."""
    if not fold(clause.text):
        return MATCH_NONE
    if clause.field in ("sku", "model"):
        return _code_value(clause)
    if clause.field in ("colour", "material", "size"):
        kind = "match_phrase_prefix" if clause.prefix else "match_phrase"
        return {kind: {"attributes.text": f"{clause.field} {clause.text}"}}
    fields = [f"{field}^{weight:g}" for field, weight in _clause_fields(clause, language, weights)]
    body: dict[str, object] = {"query": clause.text, "fields": fields, "tie_breaker": TIE}
    if clause.phrase:
        body["type"] = "phrase"
    elif clause.prefix:
        body |= {"type": "bool_prefix", "operator": "and"}
        del body["tie_breaker"]
    else:
        body["operator"] = "and"
    return {"multi_match": body}


def _code_value(clause: Clause) -> Query:
    code = fold(clause.text).replace(" ", "")
    fields = ("model.norm",) if clause.field == "model" else ("sku.norm", "skus.norm")
    return _any([{"prefix" if clause.prefix else "term": {field: {"value": code}}} for field in fields])


def _clause_fields(clause: Clause, language: str | None, weights: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    """A phrase is literal: stems only where the text is kept in no other form. A prefix has no stem."""
    wanted: Iterable[str] = (clause.field,) if clause.field else ("title", "brand", "category", "description")
    for name in wanted:
        if name == "title":
            yield "title", weights["title"]
            if not (clause.phrase or clause.prefix):
                yield from ((f"title_{each}", weights["title_stemmed"]) for each in _languages(language))
        elif name == "description":
            if not clause.prefix or clause.field:
                yield from ((f"description_{each}", weights["description"]) for each in _languages(language))
        else:
            yield {"brand": "brand.text", "category": "category_text"}[name], weights[name]
