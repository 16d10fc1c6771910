"""What `python -m labs.soak` refuses, in a sentence."""

from __future__ import annotations

import pytest

from labs.soak import __main__ as command


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--minutes", "1"], "1 is not between 2 and 480"),
        (["--minutes", "100000"], "not between 2 and 480"),
        (["--minutes", "-3"], "-3 is not between 2 and 480"),
        (["--minutes", "three"], "'three' is no whole number"),
        (["--minutes", "2.5"], "'2.5' is no whole number"),
        (["--minutes", ""], "'' is no whole number"),
        (["--seed", "-1"], "-1 is not between 0 and 2147483647"),
        (["--seed", "99999999999999"], "is not between"),
        (["--seed", "\N{SNOWMAN}"], "is no whole number"),
        (["--hours", "1"], "unrecognized arguments"),
        (["minutes=3"], "unrecognized arguments"),
    ],
)
def test_a_mistake_on_the_command_line_is_told_and_starts_nothing(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.main(arguments)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
