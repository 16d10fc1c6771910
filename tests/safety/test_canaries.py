"""Secrets are sent, set and made, and then looked for where none may be: logs, spans, metrics, refusals, a lab's report."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from labs.engine.run import Options
from tests import servers
from tests.integration.payments.stack import BANK_KEY, WEBHOOK_SECRET
from tests.labs.fake_world import FakeLab
from tests.safety.apps import documented_in
from tests.safety.canaries import collecting, forms, leaks
from tests.safety.city import City, Edge, bearer, fresh, made
from tests.safety.samples import body_for, path_for
from tests.stack import Answer, client, until

pytestmark = pytest.mark.integration

APP_PASSWORD = "lab-only-test"
"""Of every service's database user."""
SETTINGS: Mapping[str, str] = {
    "the password of the services' databases": APP_PASSWORD,
    "the superuser's password": servers.PASSWORD,
    "the bank's API key": BANK_KEY,
    "the secret of the bank's webhooks": WEBHOOK_SECRET,
    "the key of webhooks' secrets": "lab-only-test-secrets-key",
    "the key of search's cursors": "a-cursor-key-for-tests",
}
URL_TOKEN = "a token in an endpoint's address"


def keys_of(edges: list[Edge]) -> dict[str, str]:
    """Every key that was sent."""
    return {
        f"{edge.service}: {whose}": headers["Authorization"].removeprefix("Bearer ")
        for edge in edges
        for whose, headers in (("my key", edge.mine.headers), ("another's key", edge.theirs.headers), ("the operators' key", edge.operator))
        if headers
    }  # fmt: skip


async def test_no_secret_is_in_a_log_a_span_a_metric_or_a_refusal(city: City, edges: list[Edge]) -> None:
    sent = {
        "a key that nobody has": f"canary-key-{fresh()}",
        "a key in a query": f"canary-query-{fresh()}",
        "a cookie": f"canary-cookie-{fresh()}",
        "a card's token": f"tok_canary{fresh()}",
        URL_TOKEN: f"canary-url-{fresh()}",
    }
    refusals: list[tuple[str, bytes]] = []
    for edge in edges:
        refusals += [(f"a refusal of {edge.service}", each.body) async for each in refused(edge, sent)]
    kept = await secrets_made(edges, sent)
    for service, role in (("webhooks", "dispatcher"), ("cron", "node-1")):
        await city.stacks[service].start(role)
    await attempted(city)

    async def spans_there() -> bool:
        return all(f"{edge.service}-api".encode() in city.collector.content for edge in edges)

    await until(spans_there, what="spans of every service")
    places = [*refusals, ("a span", city.collector.content)]
    for process in city.processes():
        places.append((f"the log of {process.role}", process.log.read_bytes()))
        async with client() as session, session.get(f"{process.url}/metrics") as answer:
            places.append((f"the metrics of {process.role}", await answer.read()))
    assert len(places) > len(refusals) + 2 * len(edges)
    assert leaks({**SETTINGS, **keys_of(edges), **sent, **kept}, places) == []


async def refused(edge: Edge, sent: Mapping[str, str]) -> AsyncIterator[Answer]:
    """What is answered to requests that carry secrets and are refused, on every route."""
    wrong = {**bearer(sent["a key that nobody has"]), "Cookie": f"webhooks_session={sent['a cookie']}"}
    for route in sorted(documented_in(edge.document)):
        path = path_for(route, edge.mine.owns)
        data, kind = body_for(edge.service, route, edge.mine.owns, f"n{fresh()}")
        for headers, query, body in (
            (wrong, "", data),
            (edge.mine.headers, f"?key={sent['a key in a query']}", data),
            (edge.mine.headers, "", b'{"source": "' + sent["a card's token"].encode() + b'", "amount": []}'),
        ):
            answer = await edge.ask(route.method, path + query, {**kind, **headers, "Idempotency-Key": fresh()}, body)
            if answer.status >= 400:
                yield answer


async def secrets_made(edges: list[Edge], sent: Mapping[str, str]) -> dict[str, str]:
    """What services are given to keep, a card's token and a secret address, and what they make: an endpoint's secrets."""
    by_name = {edge.service: edge for edge in edges}
    for service, path in (("payments", "/v1/payments"), ("checkout", "/v1/checkouts")):
        paid = {"amount": 1000, "currency": "EUR", "source": sent["a card's token"], "reference": fresh()}
        await made(by_name[service].process.url, path, paid, by_name[service].mine.headers)
    hooks = by_name["webhooks"]
    url, keys = hooks.process.url, hooks.mine.headers
    secret_address = f"http://127.0.0.1:9999/hook?token={sent[URL_TOKEN]}"
    endpoint = await made(url, "/v1/endpoints", {"url": secret_address}, keys)
    rotated = await made(url, f"/v1/endpoints/{endpoint['id']}/secret/rotate", {}, keys)
    await made(url, "/v1/messages", {"event_id": fresh(), "event_type": "order.paid", "payload": {}}, keys)
    return {
        "an endpoint's secret": endpoint["secret"].removeprefix("whsec_"),
        "an endpoint's next secret": rotated["secret"].removeprefix("whsec_"),
    }


async def attempted(city: City) -> None:
    """Until the dispatcher has tried to deliver."""

    async def tried() -> bool:
        return bool(await city.stacks["webhooks"].sql("SELECT 1 FROM attempts LIMIT 1"))

    await until(tried, within=60, what="an attempt")


SECRET_SETTINGS = ("PASSWORD", "SECRET", "KEY")


async def test_no_secret_of_the_settings_is_in_a_labs_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (servers.ROOT / "docker-compose.yml").read_text()
    names = {word.split(":")[0] for word in text.split("${")[1:]}
    planted = {name: f"canary-{fresh()}" for name in names if name.rstrip("}").endswith(SECRET_SETTINGS)}
    assert {"POSTGRES_PASSWORD", "SIM_BANK_API_KEY", "WEBHOOKS_SECRETS_KEY"} <= set(planted)
    for name, secret in planted.items():
        monkeypatch.setenv(name, secret)
    lab, prediction = FakeLab(tmp_path), f"canary-{fresh()}"
    await lab.run(options=Options(predict=prediction))
    places = [(path.name, path.read_bytes()) for path in lab.folder.rglob("*") if path.is_file()]
    assert {"report.html", "experiment.json", "history.jsonl"} <= {name for name, _ in places}
    assert leaks(planted, [*places, ("what was printed", lab.text.encode())]) == []
    assert "what was told is in report.html" in leaks({"what was told": prediction}, places)


# --- the searcher finds what it looks for ---------------------------------------------------------------------------

CANARY = 'canary "quoted"/+?'


@pytest.mark.parametrize("form", sorted(forms(CANARY)), ids=lambda form: form.decode()[:12])
def test_a_secret_is_found_in_every_form(form: bytes) -> None:
    assert leaks({"the secret": CANARY}, [("a log", b"before " + form + b" after")]) == ["the secret is in a log"]


def test_what_was_found_is_not_told_again() -> None:
    assert CANARY not in str(leaks({"the secret": CANARY}, [("a log", CANARY.encode())]))


def test_where_there_is_none_none_is_found() -> None:
    assert leaks({"the secret": CANARY}, [("a log", b"canary quoted")]) == []


async def test_a_secret_in_a_span_is_found() -> None:
    with collecting() as collector:
        async with (
            client() as session,
            session.post(f"{collector.url}/v1/traces", data=b"\x0a" + CANARY.encode()) as answer,
        ):
            assert answer.status == 200
        assert leaks({"the secret": CANARY}, [("a span", collector.content)]) == ["the secret is in a span"]


def test_a_secret_that_a_process_would_log_is_found(tmp_path: Path) -> None:
    log = tmp_path / "api.log"
    log.write_text('{"message": "login", "authorization": "Bearer canary-planted"}\n')
    assert leaks({"the key": "canary-planted"}, [("the log of api", log.read_bytes())]) != []
