"""Week 7, day 1: a thousand products become a hundred thousand. What does LIKE still find, and when?"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from labs.engine import (
    Answered,
    Comparison,
    Discriminates,
    Evidence,
    FaultContext,
    Figure,
    Lab,
    Round,
    StoryLine,
    Variant,
    VariantRole,
)
from labs.invariants.relevance import (
    asked,
    by_size,
    finds_what_is_meant,
    mean_ndcg,
    milliseconds,
    time_grows_slower_than_the_catalogue,
    tiny_index_agrees,
)
from labs.week07.generated import titles
from labs.week07.questions import DEPTH, Question, joined, questions
from labs.week07.title_search import Found, TitleSearch, search_of
from services.catalog.generate import traits
from services.catalog.judge import Form, Intent

SMALLEST, LARGEST, SHORT_LARGEST = 1_000, 100_000, 10_000
QUESTIONS, TURNS = 40, 2
CONTROL_DOCS, CONTROL_QUESTIONS = 300, 10
WHOLE_TITLE = "title"
FORMS = (Form.NOUN, Form.NOUN_AND_TRAIT, Form.BRAND_AND_NOUN, Form.MODEL)
"""What words alone can answer. Synonyms and typing errors are for day 4."""
MEANT = finds_what_is_meant(0.5)


def sizes(about: Round) -> list[int]:
    """1,000, 10,000 ... up to what was asked for."""
    largest = about.docs or (SHORT_LARGEST if about.short else LARGEST)
    powers = [SMALLEST * 10**power for power in range(8) if SMALLEST * 10**power < largest]
    return [*powers, largest]


async def ask(ctx: FaultContext, about: Round) -> Sequence[Answered]:
    """Each question at each size: once to warm up, then twice, one after the other."""
    async with search_of(about.variant, ctx, about.prefix) as search:
        if about.control:
            return await _at_size(ctx, about, search, CONTROL_DOCS, whole_titles(about.seed))
        answers: list[Answered] = []
        for docs in sizes(about):
            about.note(f"{docs:,} products")
            judged = await asyncio.to_thread(questions, about.seed, QUESTIONS, docs, FORMS, SMALLEST)
            answers += await _at_size(ctx, about, search, docs, judged)
        return answers


def whole_titles(seed: int) -> list[Question]:
    """Questions of people who know a title word for word: even LIKE can answer these."""
    kinds = [traits(seed, number) for number in range(CONTROL_DOCS)]
    alone = [
        number
        for number in range(CONTROL_DOCS)
        if sum((one.brand, one.model) == (kinds[number].brand, kinds[number].model) for one in kinds) == 1
    ]
    return [_exactly(seed, number) for number in alone[:CONTROL_QUESTIONS]]


def _exactly(seed: int, number: int) -> Question:
    kind, text = traits(seed, number), titles(seed, CONTROL_DOCS)[number]
    intent = Intent(text, Form.MODEL, kind.language, -1, kind.brand, model=kind.model)
    return Question(f"title: {text}", text, WHOLE_TITLE, intent, (3,), seed)


async def _at_size(
    ctx: FaultContext, about: Round, search: TitleSearch, docs: int, judged: Sequence[Question]
) -> list[Answered]:
    every = await asyncio.to_thread(titles, about.seed, max(sizes(about)))
    size = await search.fill(every[:docs])
    for each in judged:
        await search.ask(each.text)
    return [
        await _once(ctx, search, each, {"docs": str(docs), "bytes": str(size), "turn": str(number)})
        for number in range(1, TURNS + 1)
        for each in judged
    ]


async def _once(ctx: FaultContext, search: TitleSearch, each: Question, about: dict[str, str]) -> Answered:
    began = ctx.now()
    found = await search.ask(each.text)
    ended = ctx.now()
    if about["turn"] == "1" and each.form != WHOLE_TITLE:
        found = await search.explained(each.text, found)
    result = {**about, "query": each.text, "form": each.form, **_told(each, found)}
    return Answered(f"{about['docs']} {each.key}", "query", began, ended, result=result)


def _told(each: Question, found: Found) -> dict[str, str]:
    told = {"grades": joined(each.grades(found.numbers)), "best": joined(each.best[:DEPTH])}
    if found.ours:
        told |= {"scores": joined(found.scores), "tiny": joined(found.ours)}
    return told


async def figures(evidence: Evidence) -> Sequence[Figure]:
    """Quality, time and size, for each size of the catalogue."""
    found = []
    for docs, answers in by_size(asked(evidence)).items():
        size = int(answers[0].result["bytes"])
        found += [
            Figure(f"nDCG@10, {docs:,} products", _rounded(mean_ndcg(answers), 3), "", "grades of the first ten", 0.5),
            Figure(
                f"median, {docs:,} products", _rounded(milliseconds(answers), 2), "ms", "client, one after the other"
            ),
            Figure(f"bytes a product, {docs:,} products", round(size / docs), "B", "the store's own figure"),
        ]
    return found


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


async def story(evidence: Evidence, key: str) -> Sequence[StoryLine]:
    """What was asked, and what came."""
    own = next(one for one in evidence.history if one.key == key)
    grades = own.result["grades"] or "nothing at all"
    return [
        StoryLine(own.intended_at, "person", f"types `{own.result['query']}`"),
        StoryLine(own.done_at or own.intended_at, evidence.variant_name, f"finds {grades} (grades, best first)"),
        StoryLine(own.done_at or own.intended_at, "catalogue", f"has {own.result['best']}"),
    ]


def _variant(role: VariantRole, title: str, store: str) -> Variant:
    return Variant(role=role, title=title, roles={"sut": store}, processes=())


LAB = Lab(
    week=7,
    day=1,
    title="Fundamentals: an inverted index",
    question=(
        "A shop searches its titles with `LIKE '%...%'`. The catalogue grows from 1,000 to 100,000 products. Of the first ten"
        " results, how many are what was meant, and what does a query cost?"
    ),
    hypothesis=(
        "LIKE reads every title and finds only what stands there in just this order: it gets slower with every product and was"
        " never good. An inverted index reads the postings of the words that were typed, and BM25 orders them: rare words count"
        " more, long titles less."
    ),
    explanation=(
        "A pattern with a wildcard in front can use no index, so the work grows with the table. And it asks the wrong question:"
        " people type the words that matter to them, in their own order. An index of words turns the question round: for each"
        " word the list of the titles that have it, sorted, compressed, so that many words are merged in one pass; what remains"
        " is to say which title has the *telling* ones. Postgres' full text search has the lists, too, but ranks by how often"
        " and how near words stand, without knowing which are rare, and reads every row that it found to do so. The 150 lines"
        " of `tiny_index.py` give the engine's scores: there is no secret in it, only engineering."
    ),
    variants={
        "like": _variant(VariantRole.NAIVE, "title ILIKE '%...%'", "postgres"),
        "postgres": _variant(VariantRole.COMPARED, "Postgres full text: GIN index, ts_rank", "postgres"),
        "tiny": _variant(VariantRole.COMPARED, "labs/week07/tiny_index.py: BM25 in pure Python", "search-engine"),
        "engine": _variant(VariantRole.ENGINEERED, "the search engine: match query, BM25", "search-engine"),
        "yours": replace(
            _variant(VariantRole.ENGINEERED, "labs/week07/yours_day1.py", "search-engine"), on_request=True
        ),
    },
    comparison=Comparison(ask, seconds=35, short_seconds=8),
    invariants=(MEANT, time_grows_slower_than_the_catalogue, tiny_index_agrees),
    discriminates=Discriminates(MEANT, at_least=20),
    infrastructure=("postgres", "search-engine", "prometheus"),
    figures=figures,
    story=story,
    try_next=(
        (
            "Give LIKE what it lacks: one pattern for each word, joined with AND (`Like` in labs/week07/title_search.py)."
            " What does nDCG say, and what the clock?"
        ),
        "Take rarity away: let `idf` in labs/week07/tiny_index.py return 1.0. Which queries lose, and which do not?",
        "A million: `docs=1000000`. Which median moves, and which index is the largest for each product?",
    ),
)
