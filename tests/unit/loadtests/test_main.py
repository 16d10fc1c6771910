from __future__ import annotations

import pytest

from loadtests.__main__ import HERE, SYSTEMS, System, base_url, locust, main, steady
from loadtests.arguments import Arguments, parse

LOOPBACK = ("127.0.0.1", 28000)


def argv(*words: str) -> list[str]:
    arguments = parse(words, SYSTEMS)
    variables = {"SIM_TARGET_HOST": "here", "SIM_TARGET_PORT": "1"}
    return [*locust(SYSTEMS[arguments.system], LOOPBACK, variables.__getitem__), *steady(arguments, "28089")]


def value_of(words: list[str], option: str) -> str:
    return words[words.index(option) + 1]


def test_rate_and_minutes_become_the_schedule_of_locust() -> None:
    words = argv("--rate", "200", "--minutes", "2", "--seed", "7")
    assert value_of(words, "--host") == base_url(LOOPBACK) == "http://127.0.0.1:28000"
    assert (value_of(words, "--rate"), value_of(words, "--seconds"), value_of(words, "--seed")) == ("200", "120", "7")
    assert "--headless" in words


def test_the_web_page_listens_on_loopback_only() -> None:
    words = argv("--headless", "0")
    assert (value_of(words, "--web-host"), value_of(words, "--web-port")) == ("127.0.0.1", "28089")
    assert "--headless" not in words


@pytest.mark.parametrize("system", SYSTEMS.values(), ids=SYSTEMS.keys())
def test_every_system_has_its_locust_file(system: System) -> None:
    assert (HERE / system.script).is_file()


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_page_says_what_every_systems_traffic_looks_like(system: str) -> None:
    rows = [line for line in (HERE / "README.md").read_text("utf-8").splitlines() if line.startswith(f"| {system} ")]
    assert len(rows) == 1
    assert all(cell.strip() for cell in rows[0].strip("|").split("|"))


def test_variables_in_a_systems_own_options_are_those_of_the_runtime() -> None:
    assert value_of(argv("--system", "cron"), "--target-url") == "http://here:1"


def test_what_is_not_said_is_fifty_a_second_for_two_minutes() -> None:
    assert parse([], SYSTEMS) == Arguments("payments", 50.0, 2.0, 42, True, None)


def test_a_staircase_has_a_plan() -> None:
    plan = parse(["--steps", "50:200:50", "--seconds", "20", "--p99", "100", "--seed", "3"], SYSTEMS).plan
    assert plan is not None
    assert (plan.rates, plan.seconds, plan.bounds.p99_ms, plan.seed) == ((50.0, 100.0, 150.0, 200.0), 20.0, 100.0, 3)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--system", "bank"], "invalid choice: 'bank'"),
        (["--rate", "fast"], "'fast' is not a number above 0 and at most 10000"),
        (["--rate", "0"], "'0' is not a number above 0"),
        (["--rate", "nan"], "'nan' is not a number"),
        (["--rate", "10001"], "at most 10000"),
        (["--minutes", "-1"], "'-1' is not a number above 0"),
        (["--minutes", "1e9"], "at most 1440"),
        (["--seed", "1.5"], "'1.5' is not a whole number"),
        (["--seed", "9" * 30], "is not a whole number"),
        (["--headless", "2"], "invalid choice"),
        (["--step", "1:2:1"], "--step"),
        (["--steps", "1:2:1", "--p99", "soon"], "'soon' is not a number"),
        (["--steps"], "expected one argument"),
        (["more"], "more"),
    ],
)
def test_a_wrong_value_is_one_sentence_and_exit_2(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert sentence in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--steps", "50:400:50", "--rate", "10"], "rate= and steps= exclude each other"),
        (["--steps", "50:400:50", "--minutes", "1"], "minutes= and steps= exclude each other"),
        (["--steps", "50:400:50", "--headless", "0"], "A staircase has no web page"),
        (["--seconds", "10"], "seconds= belongs to a staircase"),
        (["--p99", "10"], "p99= belongs to a staircase"),
        (["--steps", "upwards"], "'upwards' is no staircase"),
        (["--steps", "50:400:50", "--seconds", "1"], "A step lasts 5 to 60 seconds, not 1"),
    ],
)
def test_what_does_not_go_together_is_one_sentence_and_code_2(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith(sentence)
    assert said.count("\n") == 1
