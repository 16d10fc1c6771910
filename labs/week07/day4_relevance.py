"""Week 7, day 4: which of two orders is better? Nobody can say by looking. Here it is a number with an interval."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from labs.engine import (
    Answered,
    Comparison,
    Discriminates,
    Evidence,
    FaultContext,
    Figure,
    Lab,
    Operation,
    Round,
    StoryLine,
    Variant,
    VariantRole,
)
from labs.invariants.relevance import (
    GATE,
    QUERY,
    STRANGER,
    asked,
    finds_what_is_meant,
    gate_refuses_only_what_ruins,
    ndcg,
    numbers_come_first,
    taste_costs_no_relevance,
    taste_hides_no_exact_match,
    what_can_be_bought_comes_first,
)
from labs.week07.generated import fill
from labs.week07.questions import joined
from labs.week07.ranked_search import (
    HAND_DOCS,
    SEED,
    TF_IDF,
    Finder,
    by_hand,
    catalogue,
    drawn,
    finder_of,
    single_words,
    strangers,
    with_rules,
)
from services.catalog.domain import Product
from services.search.engine import Engine, EngineError
from services.search.evaluation.bootstrap import interval
from services.search.evaluation.finder import measured
from services.search.evaluation.gate import losses
from services.search.evaluation.judged import Judged
from services.search.evaluation.measures import DEPTH
from services.search.evaluation.result import Result, Row
from services.search.ranking import Action, Rule
from services.search.ranking.rules import normal

POOL, QUESTIONS, SHORT_QUESTIONS = 400, 300, 120
AT_MOST = 0.01
PROMOTED = 3
ENGINE_SECONDS = 60.0
MEANT = finds_what_is_meant(0.7)
BUYABLE = what_can_be_bought_comes_first(0.9)


class NotAsked(OSError):
    """The engine did not answer."""


@dataclass(frozen=True, slots=True)
class Asking:
    """One variant's finder with what it needs to tell what it found."""

    ctx: FaultContext
    finder: Finder
    products: dict[str, Product]
    docs: int

    async def once(self, judged: Judged, kind: str) -> Answered:
        """A question and its answer as the history keeps them."""
        began = self.ctx.now()
        found = (await self.finder.find(judged, DEPTH))[:DEPTH]
        return Answered(_key(judged), kind, began, self.ctx.now(), result=self._told(judged, found))

    def _told(self, judged: Judged, found: Sequence[str]) -> dict[str, str]:
        grades = [judged.grades.get(each, 0) for each in found]
        relevant = [self.products[each] for each, grade in zip(found, grades, strict=True) if grade >= 2]
        told = {
            "docs": str(self.docs),
            "query": judged.query,
            "form": judged.form,
            "set": "hand" if judged.wanted is None else "generator",
            "grades": joined(grades),
            "best": joined(sorted(judged.grades.values(), reverse=True)[:DEPTH]),
            "sales": joined([self.products[each].popularity for each in found]),
        }
        if judged.wanted is not None:
            told |= {"relevant": str(len(relevant)), "buyable": str(sum(each.stock > 0 for each in relevant))}
        if judged.wanted is not None and judged.wanted in found:
            told["place"] = str(found.index(judged.wanted) + 1)
        return told


def _key(judged: Judged) -> str:
    return f"{judged.form}: {judged.query} ({judged.language})"


async def ask(ctx: FaultContext, about: Round) -> Sequence[Answered]:
    """A catalogue in the engine, then every question; of the full system also as a stranger, and what the gate says."""
    docs = about.docs or HAND_DOCS
    host, port = ctx.runtime.address("search-engine")
    async with Engine([f"http://{host}:{port}"], timeout=ENGINE_SECONDS) as engine:
        try:
            return await _ask(ctx, about, engine, docs)
        except EngineError as error:
            raise NotAsked(error.reason) from error


async def _ask(ctx: FaultContext, about: Round, engine: Engine, docs: int) -> Sequence[Answered]:
    index = f"{about.prefix}relevance"
    if not await engine.index_exists(index):
        similarity = TF_IDF if about.variant == "tfidf" else None
        await fill(engine, index, SEED, docs, about.note, similarity)
    asking = Asking(ctx, finder_of(about.variant, engine, index), dict(await asyncio.to_thread(catalogue, docs)), docs)
    if about.control:
        return [await asking.once(each, QUERY) for each in await asyncio.to_thread(single_words, docs)]
    questions = await asyncio.to_thread(drawn, about.seed, docs, SHORT_QUESTIONS if about.short else QUESTIONS, POOL)
    judged = [*questions, *(by_hand() if docs == HAND_DOCS else ())]
    about.note(f"{len(judged)} questions")
    answers = [await asking.once(each, QUERY) for each in judged]
    if about.variant in ("personalised", "yours"):
        answers += [await asking.once(each, STRANGER) for each in strangers(questions)]
    if about.variant == "personalised":
        answers += await _through_the_gate(asking, questions)
    return answers


async def _through_the_gate(asking: Asking, questions: Sequence[Judged]) -> list[Answered]:
    """Two changes by marketing: one that puts the dearest products on top of everything, and one that pins what fits."""
    before = Result("generator", {"personalised": await measured(asking.finder, questions)})
    dear = sorted((one for one in asking.products.values() if one.stock), key=lambda one: (-one.price, one.id))[
        :PROMOTED
    ]
    promotion = [_pin(number, each, dear) for number, each in enumerate(questions)]
    fitting = [
        _pin(number, each, [asking.products[one] for one, grade in each.grades.items() if grade == 3][:1])
        for number, each in enumerate(questions)
        if 3 in each.grades.values() and each.form != "model"
    ]
    return [
        await _try_rules(asking, questions, before, "promotion of the dearest", promotion, ruins=True),
        await _try_rules(asking, questions, before, "pins of what fits", fitting, ruins=False),
    ]


def _pin(number: int, judged: Judged, products: Sequence[Product]) -> Rule:
    wanted = tuple(one.id for one in products)
    return Rule(id=f"rule-{number}", action=Action.PIN, products=wanted, query=normal(judged.query))


async def _try_rules(
    asking: Asking, questions: Sequence[Judged], before: Result, name: str, rules: Sequence[Rule], *, ruins: bool
) -> Answered:
    began = asking.ctx.now()
    rows: list[Row] = await measured(with_rules(asking.finder, rules), questions)
    found = losses(before, Result("generator", {"personalised": rows}), AT_MOST)
    refused = any(loss.refused for loss in found)
    told = {
        "docs": str(asking.docs),
        "form": "rules",
        "ruins": "yes" if ruins else "no",
        "refused": "yes" if refused else "no",
        "lost": f"{found[0].loss.mean:.3f}",
        "worst": "; ".join(query for query, _, _ in found[0].worst),
    }
    return Answered(name, GATE, began, asking.ctx.now(), result=told)


async def figures(evidence: Evidence) -> Sequence[Figure]:
    """nDCG with its interval for both sets and each form, and what the shop has of it."""
    answers = asked(evidence)
    found: list[Figure] = []
    for name in ("generator", "hand"):
        found += _interval(f"nDCG@10, {name}", [one for one in answers if one.result["set"] == name])
    forms = dict.fromkeys(one.result["form"] for one in answers if one.result["set"] == "generator")
    for form in forms:
        own = [ndcg(one) for one in answers if (one.result["set"], one.result["form"]) == ("generator", form)]
        found.append(Figure(f"nDCG@10, {form}", round(sum(own) / len(own), 3), "", "generator's judgements"))
    return [*found, *_shop([one for one in answers if one.result["set"] == "generator"])]


def _interval(name: str, answers: Sequence[Operation]) -> list[Figure]:
    if not answers:
        return []
    known = interval([ndcg(one) for one in answers])
    source = f"{len(answers)} queries, bootstrap over queries, 95 %"
    return [
        Figure(name, round(known.mean, 3), "", source),
        Figure(f"{name}, low", round(known.low, 3), "", source),
        Figure(f"{name}, high", round(known.high, 3), "", source),
    ]


def _shop(answers: Sequence[Operation]) -> list[Figure]:
    relevant = sum(int(one.result["relevant"]) for one in answers)
    buyable = sum(int(one.result["buyable"]) for one in answers)
    places = [1 / int(one.result["place"]) if "place" in one.result else 0.0 for one in answers]
    sales = [float(each) for one in answers for each in one.result["sales"].split()]
    return [
        Figure("relevant and in stock", round(100 * buyable / relevant, 1) if relevant else None, "%", "first ten"),
        Figure("mean sales of the first ten", round(sum(sales) / len(sales), 1) if sales else None, "", "first ten"),
        Figure("median sales of the first ten", median(sales) if sales else None, "", "first ten"),
        Figure("MRR of the very one", round(sum(places) / len(places), 3) if places else None, "", "generator"),
    ]


async def story(evidence: Evidence, key: str) -> Sequence[StoryLine]:
    """What was asked, and what came."""
    own = next(one for one in evidence.history if one.key == key and one.kind == QUERY)
    at = own.done_at or own.intended_at
    return [
        StoryLine(own.intended_at, "person", f"types `{own.result['query']}`"),
        StoryLine(at, evidence.variant_name, f"shows {own.result['grades'] or 'nothing'} (grades, best first)"),
        StoryLine(at, evidence.variant_name, f"which sold {own.result['sales'] or 'nothing'} in the last month"),
        StoryLine(at, "catalogue", f"has {own.result['best']}"),
    ]


def _variant(role: VariantRole, title: str) -> Variant:
    return Variant(role=role, title=title, roles={"sut": "search-engine"}, processes=())


LAB = Lab(
    week=7,
    day=4,
    title="Relevance: an order that is measured",
    question=(
        "A shop shows what sells best on top. How good are the first ten results, from 0 (useless) to 1 (perfect)? And what do"
        " BM25, boosts and personal taste make of that number?"
    ),
    hypothesis=(
        "Sorting by sales answers another question than the one that was typed. BM25 is most of the way. Boosts cost a little"
        " relevance and buy a page of what can be sold; they are bounded, so they cannot cost much. Taste helps to find the very"
        " product that somebody means, and hides nothing. A promotion that ruins the order is refused by the gate."
    ),
    explanation=(
        "Relevance is judged once, by somebody who knows what was meant, and then computed for any order: nDCG@10 is what the"
        " first ten results are worth, a later place counting less, divided by the best that the catalogue could give. Sales"
        " know nothing of the query, so they may order what the text has found to be equal, and no more: the boosts multiply the"
        " text's score within known bounds, and an exact match has a tier of its own above them. The interval comes from"
        " drawing the queries again and again: two rankings whose difference lies within it have not been told apart. And as the"
        " number is computed, a machine can refuse: whoever changes rules, weights or synonyms asks the gate before the shop."
    ),
    variants={
        "popularity": _variant(VariantRole.NAIVE, "any of the words, the best sellers first"),
        "tfidf": _variant(VariantRole.COMPARED, "TF-IDF, as near as both engines let (BM25 with k1 = 20, b = 0)"),
        "bm25": _variant(VariantRole.COMPARED, "BM25 over weighted fields, typos and synonyms"),
        "boosted": _variant(VariantRole.COMPARED, "BM25, times sales, freshness and stock within bounds"),
        "personalised": _variant(VariantRole.ENGINEERED, "services/search: boosted, times taste within a cap"),
        "yours": replace(_variant(VariantRole.ENGINEERED, "labs/week07/yours_day4.py"), on_request=True),
    },
    comparison=Comparison(ask, seconds=25, short_seconds=9),
    invariants=(
        MEANT,
        numbers_come_first,
        BUYABLE,
        taste_costs_no_relevance(0.01),
        taste_hides_no_exact_match,
        gate_refuses_only_what_ruins,
    ),
    discriminates=Discriminates(MEANT, at_least=20),
    infrastructure=("search-engine", "prometheus"),
    figures=figures,
    story=story,
    try_next=(
        (
            "Let sales count without a bound: `Popularity(0.08, 1.6)` in services/search/ranking/ranking.py to"
            " `Popularity(1.0, 50.0)`. Who refuses it first, and what if you take that check away?"
        ),
        (
            "`kids bike` finds no bike for children. Add a line to services/search/query/synonyms.txt and let"
            " `.venv/bin/python -m services.search evaluate --against` say what it did to everything else."
        ),
        "Judge ten queries of your own in services/search/evaluation/hand.jsonl. How wide is the interval now, and at 300?",
    ),
)
