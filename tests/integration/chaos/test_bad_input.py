"""Whatever is typed wrong is answered in one sentence, and nothing is broken."""

from __future__ import annotations

import io

import pytest

from labs.chaos.command import main
from tests.integration.chaos.stack import nothing_is_broken
from tests.integration.infra.stack import Scratch

pytestmark = pytest.mark.integration

WEB = ("--do", "kill", "--target", "web")
LATENCY = ("--do", "latency", "--target", "web.back")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--do", "explode", "--target", "web"), "There is no chaos script 'explode'."),
        (("--do", "fill_disk", "--target", "redis"), "Did you mean 'fill-disk'?"),
        (("--do", "kill"), "Say which service: make chaos do=kill target=NAME; "),
        (("--do", "kill", "--target", "wbe"), "There is no service 'wbe'. Did you mean 'web'?"),
        (("--do", "kill", "--target", "../../etc"), "There is no service '../../etc'."),
        (("--do", "kill", "--target", "web.back"), "There is no service 'web.back'."),
        (("--do", "latency", "--target", "web"), "'web' is a service, and latency hits a link of it: web.back."),
        (("--do", "partition", "--target", "web"), "cannot be cut off but at a link"),
        (("--do", "fill-disk", "--target", "web"), "There is no volume 'web'. There are: redis."),
        (("--do", "clock-skew", "--target", "redis"), "There is no service 'redis'. There are: back, web."),
        ((*WEB, "--for", "0s"), "for= must be a duration from 1s to 1h, like 20s or 2m, not '0s'."),
        ((*WEB, "--for", "2h"), "not '2h'"),
        ((*WEB, "--for", "soon"), "not 'soon'"),
        ((*WEB, "--for", ""), "not ''"),
        ((*WEB, "--for", "-5s"), "not '-5s'"),
        ((*WEB, "--for", "9" * 400), "for= must be a duration"),
        ((*WEB, "--ms", "5"), "do=kill takes no such option beside target= and for=, not ms=."),
        ((*LATENCY, "--ms", "0"), "ms= must be a whole number of milliseconds from 1 to 60000, not '0'."),
        ((*LATENCY, "--ms", "1.5"), "not '1.5'"),
        ((*LATENCY, "--ms", "nan"), "not 'nan'"),
        ((*LATENCY, "--ms", "٣"), "not '٣'"),
        ((*LATENCY, "--kbps", "64"), "do=latency takes ms= beside target= and for=, not kbps=."),
        (("--do", "loss", "--target", "web.back", "--percent", "99"), "from 0.1 to 90, not '99'"),
        (("--do", "clock-skew", "--target", "web", "--offset", "2 weeks"), "a duration like 1h or -90s, at most 31 days"),
        (("--do", "clock-skew", "--target", "web", "--offset", "99d"), "not '99d'"),
        (("--do", "heal", "--for", "5s"), "do=heal takes target= and nothing else."),
        (("--do", "kill", "--target", "web", "--project", "nobody"), "Nothing runs that do=kill could hit"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence(
    checkout: Scratch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], sentence: str
) -> None:
    assert main(words, root=checkout.root, stream=io.StringIO()) == 1
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    nothing_is_broken(checkout)


def test_with_json_the_sentence_is_an_event(checkout: Scratch) -> None:
    out = io.StringIO()
    assert main(["--do", "kill", "--json"], root=checkout.root, stream=out) == 1
    assert out.getvalue().startswith('{"event":"problem","text":"Say which service')


def test_the_list_names_scripts_lessons_and_targets(checkout: Scratch) -> None:
    out = io.StringIO()
    assert main([], root=checkout.root, stream=out) == 0
    text = out.getvalue()
    assert "TCP hides loss as latency" in text
    assert "services: " in text
    assert "edges: web.back" in text
    assert "volumes: redis" in text


def test_usage_errors_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--speed", "fast"])
    assert caught.value.code == 2
    assert "unrecognized arguments" in capsys.readouterr().err
