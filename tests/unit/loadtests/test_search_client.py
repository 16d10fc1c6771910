from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from loadtests.client import Answer, Ending
from loadtests.documents_client import DocumentWriter
from loadtests.history import Outcome, ShownSearch, ShownWrite
from loadtests.search_client import Mix, QueriesProblem, Searcher, read_queries

TEXTS = tuple(f"query {number}" for number in range(100))
FOUND = json.dumps(
    {"hits": [{"id": "1"}, {"id": "2"}], "degraded": ["facets", "personalisation"], "index": "i"}
).encode()


@dataclass
class Scripted:
    """Gives one answer to everything, and keeps what was asked."""

    answer: Answer
    asked: list[tuple[str, str, Mapping[str, str]]] = field(default_factory=list)

    def get(self, path: str, headers: Mapping[str, str]) -> Answer:
        return self.send("GET", path, None, headers)

    def post(self, path: str, body: str, headers: Mapping[str, str]) -> Answer:
        raise NotImplementedError

    def send(self, method: str, path: str, body: str | None, headers: Mapping[str, str]) -> Answer:
        self.asked.append((method, path, headers))
        return self.answer


def searched(answer: Answer, parameters: str = "") -> tuple[Ending, Scripted]:
    api = Scripted(answer)
    return Searcher(api, Mix.of(TEXTS, random.Random(1)), parameters).search(), api


def test_an_answer_with_results_says_what_it_lacks_and_where_it_is_from() -> None:
    ending, api = searched(Answer(200, {"x-cache": "hit"}, FOUND))
    assert ending.outcome is Outcome.OK
    assert ending.kind == "search"
    assert isinstance(ending.shown, ShownSearch)
    assert ending.shown.text in TEXTS
    assert ending.shown == ShownSearch("2", "facets personalisation", "hit", "", ending.shown.text)
    (method, path, headers), *_ = api.asked
    assert (method, urlsplit(path).path) == ("GET", "/v1/search")
    assert parse_qs(urlsplit(path).query)["q"][0] in TEXTS
    assert headers["X-Client-Id"].startswith("lab-")


@pytest.mark.parametrize(
    ("answer", "outcome", "error"),
    [
        (Answer(503, {}, b'{"type": "urn:lab:overloaded"}'), Outcome.FAIL, "urn:lab:overloaded"),
        (Answer(502, {}, b"<html>"), Outcome.FAIL, "HTTP 502"),
        (Answer(200, {}, b"{}"), Outcome.FAIL, "200 without hits"),
        (Answer(200, {}, b"\xff"), Outcome.FAIL, "200 without hits"),
        (Answer(None, {}, b"", "TimeoutError"), Outcome.UNKNOWN, "TimeoutError"),
    ],
)
def test_everything_else_is_told_as_it_was(answer: Answer, outcome: Outcome, error: str) -> None:
    ending, api = searched(answer)
    assert (ending.outcome, ending.error, ending.attempts) == (outcome, error, 1)
    assert len(api.asked) == 1, "nobody retries a search"
    assert isinstance(ending.shown, ShownSearch)
    assert ending.shown == ShownSearch("", "", "", "", ending.shown.text), "what was asked is known all the same"
    assert ending.shown.text in TEXTS


def test_parameters_are_added_to_each_query() -> None:
    _, api = searched(Answer(200, {}, FOUND), parameters="limit=5&sort=price")
    assert parse_qs(urlsplit(api.asked[0][1]).query)["sort"] == ["price"]


def test_who_says_how_long_he_waits_says_it_with_each_query() -> None:
    api = Scripted(Answer(200, {}, FOUND))
    Searcher(api, Mix.of(TEXTS, random.Random(1)), patience_ms=3000).search()
    Searcher(api, Mix.of(TEXTS, random.Random(1))).search()
    assert [headers.get("Request-Timeout-Ms") for _, _, headers in api.asked] == ["3000", None]


def test_queries_come_by_zipfs_law() -> None:
    mix = Mix.of(TEXTS, random.Random(3))
    seen = Counter(mix.next() for _ in range(20_000))
    (first, second), expected = seen.most_common(2), 20_000 / sum(1 / n for n in range(1, 101))
    assert first[1] == pytest.approx(expected, rel=0.1)
    assert second[1] == pytest.approx(expected / 2, rel=0.15)
    assert len(seen) == len(TEXTS)


def test_the_same_seed_gives_the_same_queries_and_another_seed_others() -> None:
    def drawn(seed: int) -> list[str]:
        mix = Mix.of(TEXTS, random.Random(seed))
        return [mix.next() for _ in range(50)]

    assert drawn(7) == drawn(7)
    assert drawn(7) != drawn(8)


def test_a_hot_query_has_its_share() -> None:
    mix = Mix.of(TEXTS, random.Random(3), hot=0.9, hot_text="everything")
    seen = Counter(mix.next() for _ in range(5_000))
    assert seen["everything"] == pytest.approx(4_500, rel=0.03)


def test_without_a_text_of_its_own_the_hot_query_is_the_most_frequent_one() -> None:
    mix = Mix.of(TEXTS, random.Random(3), hot=0.9)
    assert mix.hot_text == mix.queries[0]


def test_a_file_of_queries_is_read_without_repeats(tmp_path: Path) -> None:
    file = tmp_path / "queries.txt"
    file.write_text("boots\n\n boots \nred boots\n", "utf-8")
    assert read_queries(file) == ("boots", "red boots")


@pytest.mark.parametrize("content", [b"", b"boots\n", b"boots\n\xff\xfe", b"boots\n" + b"x" * 600])
def test_a_file_that_will_not_do_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "queries.txt"
    file.write_bytes(content)
    with pytest.raises(QueriesProblem):
        read_queries(file)


def test_a_missing_file_of_queries_is_named(tmp_path: Path) -> None:
    with pytest.raises(QueriesProblem, match=r"none\.txt"):
        read_queries(tmp_path / "none.txt")


# --- documents ------------------------------------------------------------------------------------------------------


def test_documents_are_written_in_turn_with_growing_versions() -> None:
    api = Scripted(Answer(200, {}, b"{}"))
    writer = DocumentWriter(api, "run", 2)
    shown = [writer.write(f"k{number}").shown for number in range(4)]
    assert [one.version for one in shown if isinstance(one, ShownWrite)] == ["1", "2", "3", "4"]
    products = [one.product for one in shown if isinstance(one, ShownWrite)]
    assert products[0] == products[2] != products[1] == products[3]
    assert api.asked[0][0] == "PUT"
    assert api.asked[0][1] == f"/v1/documents/{products[0]}"


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(200, Outcome.OK), (201, Outcome.OK), (400, Outcome.FAIL), (503, Outcome.UNKNOWN), (None, Outcome.UNKNOWN)],
)
def test_only_what_was_acknowledged_counts(status: int | None, outcome: Outcome) -> None:
    ending = DocumentWriter(Scripted(Answer(status, {}, b"", "gone")), "run", 2).write("k")
    assert (ending.outcome, ending.kind) == (outcome, "document")
    assert (ending.shown is None) == (outcome is not Outcome.OK)
