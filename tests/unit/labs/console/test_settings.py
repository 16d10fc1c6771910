from __future__ import annotations

from pathlib import Path

import pytest

from infra.runtime import RuntimeProblem
from labs.console.settings import load


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONSOLE_PORT", raising=False)


def test_the_port_is_that_of_the_table(tmp_path: Path) -> None:
    assert load(tmp_path).url == "http://127.0.0.1:17000"


def test_dot_env_sets_it_and_the_shell_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("CONSOLE_PORT=17001\n")
    assert load(tmp_path).port == 17001
    monkeypatch.setenv("CONSOLE_PORT", "17002")
    assert load(tmp_path).port == 17002


@pytest.mark.parametrize("text", ["http", "0", "70000", "-1", "17000 "])
def test_what_is_no_port_is_refused_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("CONSOLE_PORT", text)
    with pytest.raises(RuntimeProblem, match="CONSOLE_PORT must be a port number"):
        load(tmp_path)
