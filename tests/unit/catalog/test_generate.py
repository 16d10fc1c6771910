"""The generated catalogue: the same for ever, and with what real ones have."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from services.catalog import vocabulary
from services.catalog.domain import LARGEST_PRICE, Language
from services.catalog.generate import BRANDS, brands, categories, category_of, product, product_id, products, traits

SEEDS = st.integers(min_value=0, max_value=2**31)
NUMBERS = st.integers(min_value=0, max_value=10_000_000)


def test_a_product_is_for_ever_what_it_was() -> None:
    made = product(42, 4_711)
    assert (str(made.id), made.sku, made.title) == (
        "019b76da-ba67-75f8-b4bf-700da2b1525b",
        "CIS-00004711",
        "Cistou Dreanu C56 Hose für Einsteiger Carbon",
    )


@given(SEEDS, NUMBERS)
def test_a_product_does_not_depend_on_which_others_were_made(seed: int, number: int) -> None:
    assert list(products(seed, 3, number))[1] == product(seed, number + 1)


@given(SEEDS, NUMBERS)
def test_every_product_is_valid(seed: int, number: int) -> None:
    made = product(seed, number)
    assert 0 < made.price < LARGEST_PRICE
    assert made.stock >= 0 <= made.popularity
    assert 1 <= made.brand <= BRANDS
    assert made.model in made.title or traits(seed, number).copy_of is not None
    assert made.id.version == 7
    assert len({variant.sku for variant in made.variants}) == len(made.variants)
    assert not made.variants or made.stock == sum(variant.stock for variant in made.variants)


def test_ids_and_numbers_of_articles_are_unique_and_in_order() -> None:
    made = list(products(1, 5_000))
    assert len({each.sku for each in made}) == 5_000
    assert [each.id for each in made] == sorted({each.id for each in made})
    assert product_id(1, 0) != product_id(2, 0)


def test_makers_differ_in_size_as_zipf_says() -> None:
    sizes = Counter(traits(1, number).brand for number in range(20_000)).most_common()
    assert sizes[0][1] > 10 * sizes[50][1]
    assert len(sizes) > BRANDS // 2


def test_two_in_a_hundred_are_copies_that_read_otherwise() -> None:
    copies = [(number, kind.copy_of) for number in range(10_000) if (kind := traits(1, number)).copy_of is not None]
    assert 100 < len(copies) < 300
    for number, original in copies:
        assert original is not None
        copy, made = traits(1, number), traits(1, original)
        if made.copy_of is None:  # of a copy's copy, what the copy would have been
            assert (copy.leaf, copy.brand, copy.model) == (made.leaf, made.brand, made.model)
        assert product(1, number).title != product(1, original).title


def test_there_are_several_languages_and_things_out_of_stock() -> None:
    made = list(products(1, 2_000))
    assert {each.language for each in made} == set(Language)
    assert 0.05 < sum(each.stock == 0 for each in made) / len(made) < 0.25


def test_the_tree_has_each_node_once_and_parents_first() -> None:
    tree = categories()
    seen: set[str] = set()
    for node in tree:
        assert node.path not in seen
        assert not node.parent or node.parent in seen
        assert set(node.names) == set(Language)
        seen.add(node.path)
    assert tree[category_of(0) - 1].path == vocabulary.LEAVES[0].path


def test_names_of_makers_and_invented_words_are_all_different() -> None:
    assert len({brand.name for brand in brands()}) == BRANDS
    assert len({vocabulary.invented(number) for number in range(100_000)}) == 100_000
