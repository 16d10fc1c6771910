"""Judged queries: what is wanted is graded by what products are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.catalog.domain import Language
from services.catalog.draw import Draw
from services.catalog.generate import Traits, brands, traits
from services.catalog.judge import CLOSE, EXACT, MOST_JUDGED, RELATED, Form, Intent, intents, judge, misspelt


def kind(**changes: object) -> Traits:
    base: dict[str, object] = {
        "leaf": 3, "brand": 7, "series": 1, "model": "911 997", "language": Language.EN,
        "colour": 2, "material": None, "quality": 1, "audience": None, "measures": (),
    }  # fmt: skip
    return Traits(**{**base, **changes})  # type: ignore[arg-type]  # the names are the caller's


@pytest.mark.parametrize(
    ("intent", "product", "grade"),
    [
        (Intent("", Form.NOUN, Language.EN, 3), kind(), EXACT),
        (Intent("", Form.NOUN, Language.EN, 4), kind(), 0),
        (Intent("", Form.NOUN, Language.DE, 3), kind(), RELATED),
        (Intent("", Form.NOUN_AND_TRAIT, Language.EN, 3, colour=2), kind(), EXACT),
        (Intent("", Form.NOUN_AND_TRAIT, Language.EN, 3, colour=5), kind(), RELATED),
        (Intent("", Form.NOUN_AND_TRAIT, Language.EN, 3, brand=7, colour=2, quality=4), kind(), CLOSE),
        (Intent("", Form.NOUN_AND_TRAIT, Language.DE, 3, colour=5), kind(), 0),
        (Intent("", Form.MODEL, Language.EN, 3, brand=7, model="911 997"), kind(), EXACT),
        (Intent("", Form.MODEL, Language.EN, 3, brand=7, model="911 991"), kind(), RELATED),
        (Intent("", Form.MODEL, Language.EN, 3, brand=8, model="911 997"), kind(), 0),
    ],
)
def test_what_is_named_is_wanted(intent: Intent, product: Traits, grade: int) -> None:
    assert intent.grade(product) == grade


def test_every_query_has_an_exact_answer_and_the_same_seed_the_same_queries() -> None:
    wanted = list(intents(5, 60, 3_000))
    assert wanted == list(intents(5, 60, 3_000))
    assert {intent.form for intent in wanted} == set(Form)
    for judged in judge(5, wanted, 3_000):
        assert judged.grades[0][1] == EXACT
        assert len(judged.grades) <= MOST_JUDGED
        assert all(judged.intent.grade(traits(5, number)) == grade for number, grade in judged.grades)


def test_one_pass_finds_what_looking_at_each_product_finds() -> None:
    wanted = list(intents(9, 12, 400))
    for judged in judge(9, wanted, 400):
        expected = {number: grade for number in range(400) if (grade := judged.intent.grade(traits(9, number)))}
        assert dict(judged.grades) == expected or len(expected) > MOST_JUDGED


@given(st.integers(0, 1_000_000), st.text("abcdefgh ", min_size=1).filter(str.strip))
def test_a_misspelling_keeps_the_first_letters_and_is_one_slip_away(number: int, text: str) -> None:
    wrong = misspelt(Draw(number, "typo"), text)
    assert [word[0] for word in wrong.split()] == [word[0] for word in text.split()]
    assert abs(len(wrong) - len(text)) <= 1
    assert wrong.count(" ") == text.count(" ")


def test_a_model_query_names_maker_and_model() -> None:
    models = [intent for intent in intents(5, 60, 3_000) if intent.form is Form.MODEL]
    names = [brand.name.lower() for brand in brands()]
    assert all(
        intent.brand is not None
        and intent.model is not None
        and intent.text == f"{names[intent.brand]} {intent.model.lower()}"
        for intent in models
    )
