"""The whole chain, started once: a payment that goes well, one whose answer is lost, mistakes of the bank, jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.integration.tracing.stack import APPLICATION, TracedStack
from tests.servers import KafkaServer, PostgresServer

WELL, FAILING = 1, 2
PAID_TRACE = "11111111111111111111111111111111"
UNKNOWN_TRACE = "22222222222222222222222222222222"


def traceparent(trace_id: str) -> dict[str, str]:
    """The header of a client that wants its trace kept."""
    return {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}


async def begin(stack: TracedStack) -> None:
    await asyncio.gather(stack.migrate(), stack.create_topics())
    await stack.start_all()
    await stack.behave("webhooks")
    await stack.endpoint(WELL)
    await stack.endpoint(FAILING)
    await stack.switch("receivers", "failing", first=FAILING, count=1)
    await stack.job("http", {"http": {"url": f"http://127.0.0.1:{stack.ports['target']}/v1/effects"}})
    await stack.job("kafka", {"kafka": {"topic": "cron.run.v1"}})
    await stack.check_out("traced-warm")  # makes connections, for which the bank's time would be too short
    paid = await stack.check_out("traced-well", headers=traceparent(PAID_TRACE))
    assert paid.status == 201, paid.body
    body = {"event_id": "evt-1", "event_type": "order.paid", "payload": {}}
    sent = await stack.request("POST", "/v1/messages", json=body, merchant=APPLICATION, role="webhooks-api")
    assert sent.status == 202, sent.body
    await stack.behave("loses_answer", share=1, hold_seconds=5)
    unknown = await stack.check_out(
        "traced-unknown", headers={**traceparent(UNKNOWN_TRACE), "Request-Timeout-Ms": "9000"}
    )
    assert unknown.status == 202, unknown.body
    await stack.behave_well("loses_answer")
    await stack.behave("settlement_mistakes", wrong_amount=1)


@pytest.fixture(scope="session")
def chain(postgres_server: PostgresServer, kafka_server: KafkaServer) -> Iterator[TracedStack]:
    """All that the table of edges names, after what makes each of its edges."""
    made = TracedStack(postgres_server, kafka_server.bootstrap)
    try:
        asyncio.run(begin(made))
        yield made
    finally:
        made.stop()
