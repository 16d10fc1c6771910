"""Real spans of the whole chain hold every edge of the one table, and lead from a metric to a log line."""

from __future__ import annotations

import re

import msgspec
import pytest

from services.contracts.trace_edges import EDGES, ONE_PAYMENT, PAYMENT_SENT, PAYMENT_TAKEN, RECEIVER, SpanSeen, missing
from tests.integration.payments.stack import BANK_KEY, WEBHOOK_SECRET
from tests.integration.tracing.conftest import PAID_TRACE, UNKNOWN_TRACE, traceparent
from tests.integration.tracing.stack import ALL_TIME, TracedStack, client, until

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SECRETS = ("tok_traced", "lab_demo", BANK_KEY, WEBHOOK_SECRET, "lab-only", "whsec_")
EXEMPLAR = re.compile(r'^http_server_request_duration_seconds_bucket\{.*route="/v1/checkouts".*# \{trace_id="(\w+)"\}')


async def test_every_edge_of_the_table_is_found_in_real_spans(chain: TracedStack) -> None:
    async def all_found() -> bool:
        return not missing(EDGES, await chain.spans())

    try:
        await until(all_found, within=60, what="every edge")
    except AssertionError:
        lost = missing(EDGES, await chain.spans())
        raise AssertionError("no span shows:\n" + "\n".join(map(str, lost))) from None


async def test_one_payment_is_one_trace_whose_spans_are_in_order(chain: TracedStack) -> None:
    async def whole() -> list[SpanSeen] | None:
        spans = await chain.spans(PAID_TRACE)
        return None if missing(ONE_PAYMENT, spans) else spans

    spans = await until(whole, within=60, what="the payment's trace")
    known = {span.span_id for span in spans}
    assert [span.end.process for span in spans if span.parent not in known] == ["checkout-api"]
    _, body, _ = await chain.asked(f"traces/{PAID_TRACE}")
    for part in body["result"]["resourceSpans"]:
        starts = [int(span["startTimeUnixNano"]) for span in part["scopeSpans"][0]["spans"]]
        assert starts == sorted(starts)
        assert all(
            int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"]) for span in part["scopeSpans"][0]["spans"]
        )


async def test_an_exemplar_leads_to_a_trace_and_the_trace_to_log_lines(chain: TracedStack) -> None:
    async with (
        client() as session,
        session.get(
            f"{chain.of('checkout').url}/metrics", headers={"Accept": "application/openmetrics-text"}
        ) as answer,
    ):
        exemplars = [found[1] for line in (await answer.text()).splitlines() if (found := EXEMPLAR.match(line))]
    assert UNKNOWN_TRACE in exemplars

    async def arrived() -> bool:
        return {"checkout-api", "payments-api"} <= {span.end.process for span in await chain.spans(UNKNOWN_TRACE)}

    await until(arrived, what="the exemplar's trace")
    for role in ("checkout", "api"):
        lines = map(msgspec.json.decode, chain.of(role).log.read_bytes().splitlines())
        told = [line for line in lines if line.get("trace_id") == UNKNOWN_TRACE]
        assert any(line["message"] == "answered" and line["status"] == 202 for line in told), role


async def test_spans_hold_no_secret_and_no_card(chain: TracedStack) -> None:
    _, _, text = await chain.asked("traces", **ALL_TIME, **{"query.num_traces": "1000"})
    assert len(text) > 10_000
    assert [secret for secret in SECRETS if secret in text] == []


async def test_one_propagation_removed_names_the_missing_edge(chain: TracedStack) -> None:
    # Later spans of earlier payments may still be on their way: whole traces are left out, and each that could be taken
    # for this payment's holds a span of the relay before this one, which sends its last spans before it ends.
    relay = chain.of("relay")
    assert relay.terminate() == 0
    before = {span.trace_id for span in await chain.spans()}
    forgetful = await chain.start("forgetful-relay")
    try:
        paid = await chain.check_out("traced-lost", headers=traceparent("3" * 32))
        assert paid.status == 201

        async def new() -> list[SpanSeen] | None:
            spans = [span for span in await chain.spans() if span.trace_id not in before]
            taken = any(span.end == RECEIVER for span in spans)
            return spans if taken and len(missing(ONE_PAYMENT, spans)) <= 1 else None

        lost = missing(ONE_PAYMENT, await until(new, within=60, what="the payment's webhook"))
        assert [(edge.earlier, edge.later) for edge in lost] == [(PAYMENT_SENT, PAYMENT_TAKEN)]
        assert "payments-relay" in str(lost[0])
        assert "webhooks-source" in str(lost[0])
    finally:
        forgetful.terminate()
        await chain.start("relay")
