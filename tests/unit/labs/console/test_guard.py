from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from labs.console.guard import Guard
from services.kit.errors import Problem


async def nothing(*_: object) -> None:
    raise AssertionError


GUARD = Guard(nothing, token="the-token", port=17000)
OURS = {"host": "127.0.0.1:17000"}


def refusal(method: str, path: str, **headers: str) -> Problem | None:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return GUARD.refusal(method, path, Headers({**OURS, **given}))


def code(problem: Problem | None) -> str:
    return "" if problem is None else problem.code


@pytest.mark.parametrize("host", ["127.0.0.1:17000", "localhost:17000", "LOCALHOST:17000"])
def test_our_own_names_are_answered(host: str) -> None:
    assert refusal("GET", "/", host=host) is None


@pytest.mark.parametrize(
    "host",
    ["", "127.0.0.1", "127.0.0.1:80", "evil.example:17000", "127.0.0.1.evil.example:17000", "localhost:17000@evil", "host.docker.internal:17000"],
)  # fmt: skip
def test_a_name_that_is_rebound_to_this_machine_is_refused(host: str) -> None:
    assert code(refusal("GET", "/", host=host)) == "wrong_host"


def test_a_change_needs_the_token() -> None:
    assert refusal("POST", "/api/jobs", x_console_token="the-token") is None
    for token in ("", "the-toke", "the-token2", "ü"):
        assert code(refusal("POST", "/api/jobs", x_console_token=token)) == "wrong_token"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"])
def test_every_method_but_reading_is_a_change(method: str) -> None:
    assert code(refusal(method, "/api/jobs")) == "wrong_token"


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:8000", "https://127.0.0.1:17000"])
def test_a_foreign_origin_is_refused_even_with_the_token(origin: str) -> None:
    assert code(refusal("POST", "/api/jobs", x_console_token="the-token", origin=origin)) == "foreign_origin"


def test_our_own_origin_is_fine() -> None:
    own = {"x_console_token": "the-token", "origin": "http://localhost:17000"}
    assert refusal("POST", "/api/jobs", **own) is None


def test_data_is_not_read_from_other_sites_but_links_open_pages() -> None:
    assert code(refusal("GET", "/api/state", sec_fetch_site="cross-site")) == "foreign_origin"
    assert code(refusal("GET", "/api/jobs/1/events", sec_fetch_site="same-site")) == "foreign_origin"
    assert refusal("GET", "/api/state", sec_fetch_site="same-origin") is None
    assert refusal("GET", "/course/README.md", sec_fetch_site="cross-site") is None


def test_alertmanager_needs_no_token_and_may_come_from_a_container() -> None:
    assert refusal("POST", "/alerts") is None
    assert refusal("POST", "/alerts", host="host.docker.internal:17000") is None


@pytest.mark.parametrize("header", ["origin", "sec_fetch_site", "sec_fetch_mode"])
def test_a_browser_sends_no_alerts(header: str) -> None:
    assert code(refusal("POST", "/alerts", **{header: "http://127.0.0.1:17000"})) == "not_for_browsers"
