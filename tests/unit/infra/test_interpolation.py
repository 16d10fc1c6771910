from __future__ import annotations

import pytest

from infra.native.interpolate import Variables
from infra.runtime import RuntimeProblem

GIVEN = {"SET": "value", "EMPTY": "", "OUTER": "o"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("$SET and ${SET}", "value and value"),
        ("$$SET", "$SET"),
        ("a$${SET}b", "a${SET}b"),
        ("${MISSING}", ""),
        ("${MISSING:-fallback}", "fallback"),
        ("${EMPTY:-fallback}", "fallback"),
        ("${EMPTY-fallback}", ""),
        ("${MISSING-fallback}", "fallback"),
        ("${SET:-fallback}", "value"),
        ("${SET:+there}${MISSING:+there}${EMPTY+there}", "therethere"),
        ("${SET:?needed}", "value"),
        ("${MISSING:-${OUTER:-x}:${ALSO_MISSING:-17432}}", "o:17432"),
        ("${MISSING:-}", ""),
        ("${MISSING:-a:b-c}", "a:b-c"),
    ],
)
def test_a_reference_expands_as_compose_does_it(text: str, expected: str) -> None:
    assert Variables(GIVEN).expand(text, "here") == expected


@pytest.mark.parametrize("text", ["${MISSING:?say why}", "${EMPTY:?say why}", "${MISSING?say why}"])
def test_a_required_variable_stops_with_its_name_and_message(text: str) -> None:
    with pytest.raises(RuntimeProblem, match=r"must be set: say why"):
        Variables(GIVEN).expand(text, "here")


@pytest.mark.parametrize("text", ["${SET", "$ 5", "${1}", "${SET*x}", "ends with $"])
def test_a_bad_reference_stops_and_says_where(text: str) -> None:
    with pytest.raises(RuntimeProblem, match="services: web"):
        Variables(GIVEN).expand(text, "services: web")


def test_what_a_name_turned_out_to_be_is_remembered() -> None:
    variables = Variables(GIVEN)
    variables.expand("${A:-1} ${SET}", "here")
    assert variables.resolved == {"A": "1", "SET": "value"}
