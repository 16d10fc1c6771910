from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labs.console.commands import FORMS, NotAllowedError, Target, allowed, parse


def test_a_lab_line_becomes_the_arguments_of_our_own_module() -> None:
    command = parse("make lab week=2 day=2 variant=naive seed=7 short=1   # the first experiment")
    assert command.module == "labs"
    assert command.arguments == ("run", "--week=2", "--day=2", "--variant=naive", "--seed=7", "--short")
    assert command.line == "make lab week=2 day=2 variant=naive seed=7 short=1"


def test_a_prediction_is_one_argument_whatever_is_in_it() -> None:
    text = 'about 5 %; $(reboot) `x` "quoted" --keep'
    command = parse("make lab week=2 day=2", prediction=text)
    assert command.arguments[-1] == f"--predict={text}"
    assert command.prediction == text


def test_the_learners_prediction_replaces_the_examples() -> None:
    command = parse('make lab week=2 day=1 predict="5 s after the bank is fast again"', prediction="never")
    assert [word for word in command.arguments if word.startswith("--predict")] == ["--predict=never"]


def test_a_declined_prediction_is_an_empty_one_so_that_nothing_is_asked() -> None:
    assert parse("make lab week=2 day=1", prediction="  ").arguments[-1] == "--predict="


def test_a_switch_that_is_zero_is_left_out() -> None:
    assert parse("make lab week=2 short=0").arguments == ("run", "--week=2")
    assert parse("make lab week=all short=1").arguments == ("run", "--week=all", "--short")


def test_edges_are_there_unless_they_are_declined() -> None:
    assert parse("make up edges=0").arguments == ("up", "--no-edges")
    assert parse("make up edges=1").arguments == parse("make up").arguments == ("up",)


def test_steps_of_a_load_are_three_numbers() -> None:
    assert parse("make load system=payments steps=50:350:50").arguments == ("--system=payments", "--steps=50:350:50")
    assert not allowed("make load system=payments steps=50:350")


def test_chaos_asks_for_events_and_takes_a_duration() -> None:
    command = parse("make chaos do=kill target=payments-api for=20s")
    assert command.arguments == ("chaos", "--json", "--do=kill", "--target=payments-api", "--for=20s")


def test_a_story_takes_an_article_and_how_many() -> None:
    command = parse("make story product=LAMP-1 quantity=3")
    assert (command.module, command.arguments) == ("labs.story", ("--product=LAMP-1", "--quantity=3"))
    for line in (
        "make story product=$(x)",
        "make story quantity=0",
        "make story quantity=101",
        "make story product=a;b",
    ):
        assert not allowed(line)


def test_stopping_all_leaves_the_console() -> None:
    assert parse("make down").arguments == ("down", "--but-console")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "make",
        "lab week=2",
        "rm -rf /",
        "make clean",
        "make lab",
        "make lab day=2",
        "make lab week=two",
        "make lab week=ALL",
        "make lab day=all",
        "make lab week=2 week=3",
        "make lab week=²",
        "make lab week=2 day=0",
        "make lab week=2; reboot",
        "make lab week=2 && reboot",
        "make lab week=2 $(reboot)",
        "make lab week=2 --keep",
        "make lab week=2 variant=../../etc",
        "make lab week=2 variant=-x",
        "make lab week=2 rate=0",
        "make lab week=2 rate=1e9",
        "make lab week=2 keep=yes",
        'make lab week=2 predict="never closed',
        f'make lab week=2 predict="{"x" * 501}"',
        "make lab week=2 " + "x" * 1000,
        "make -f /etc/passwd lab week=2",
        "make SHELL=/bin/sh lab",
        "make lab week=2 MAKEFLAGS=x",
        "make chaos",
        "make chaos do=kill target=a;b",
        "make chaos do=kill target=a for=1h30m",
        "make up profile=week2/../x",
        "make down now=1",
        "make load rate=5",
        "make lab week=2 predict=a\nb",
    ],
)
def test_anything_else_is_refused_with_a_sentence(line: str) -> None:
    with pytest.raises(NotAllowedError) as refused:
        parse(line)
    assert str(refused.value).endswith(".")
    assert not allowed(line)


def test_a_command_without_a_prediction_takes_none() -> None:
    with pytest.raises(NotAllowedError, match="takes no prediction"):
        parse("make up", prediction="all is well")


@given(st.text(max_size=200))
def test_no_text_makes_anything_but_our_modules_start(text: str) -> None:
    for line in (text, f"make {text}", f"make lab week=2 {text}", f"make chaos do=kill {text}"):
        try:
            command = parse(line)
        except NotAllowedError:
            continue
        assert command.module == FORMS[Target(command.target)].module
        fixed = FORMS[command.target].words
        assert command.arguments[: len(fixed)] == fixed
        assert all(word.startswith("--") for word in command.arguments[len(fixed) :])
