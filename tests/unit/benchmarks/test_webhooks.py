from __future__ import annotations

import json

from benchmarks.webhooks import ENDPOINTS, body, publications, secret_of


def test_every_publication_is_for_one_of_the_endpoints_that_are_meant() -> None:
    made = publications("h", 1, "run", first=101)
    types = [json.loads(next(made).split(b"\r\n\r\n", 1)[1])["event_type"] for _ in range(1000)]
    assert (types[0], types[899], types[900]) == ("bench.e101", f"bench.e{ENDPOINTS}", "bench.e101")


def test_the_loops_body_has_the_form_of_the_dispatchers() -> None:
    assert list(json.loads(body(1))) == ["type", "timestamp", "id", "data"]


def test_the_bench_knows_the_simulators_secrets() -> None:
    import base64

    from services.simulators.receivers.signature import secret_of as text_of

    assert "whsec_" + base64.b64encode(secret_of(5, "m")).decode() == text_of(5, "m")
