"""The one table of trace edges: which span begets or points at which, from process to process, and what carries that.

`python -m services.contracts.trace_edges` prints it. A test takes one payment through EDGES and finds each of them in the spans
that arrived (tests/integration/tracing), another one a product's change through SEARCH_EDGES (tests/integration/search), a
third one a paid order through STORY_EDGES (tests/integration/story).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from services.contracts.topics import (
    CATALOG_PRODUCT_CHANGES,
    CRON_RECONCILIATIONS,
    CRON_RUNS,
    PAYMENT_EVENTS,
    WEBHOOKS_OPERATIONAL,
)


class Kind(StrEnum):
    """OpenTelemetry's span kinds."""

    INTERNAL = "internal"
    SERVER = "server"
    CLIENT = "client"
    PRODUCER = "producer"
    CONSUMER = "consumer"


class Relation(StrEnum):
    """A child belongs to its parent's trace. A link points from one trace at another: a batch, or work taken up later."""

    CHILD = "child"
    LINK = "link"


@dataclass(frozen=True, slots=True)
class End:
    """Spans of one name in one process; topics without the lab's prefix."""

    process: str
    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"{self.process} {self.kind} '{self.name}'"


@dataclass(frozen=True, slots=True)
class TraceEdge:
    """`later` is the child of `earlier`, or has a link to it. `carrier` is where the traceparent travels."""

    earlier: End
    later: End
    relation: Relation
    carrier: str

    def __str__(self) -> str:
        says = "begets" if self.relation is Relation.CHILD else "is linked by"
        return f"{self.earlier} {says} {self.later} ({self.carrier})"


HEADER = "HTTP header traceparent"
RECORD = "Kafka header traceparent"
PROCESS = "within the process"

_PAY = PAYMENT_EVENTS.name

CHECKOUT = End("checkout-api", Kind.SERVER, "POST /v1/checkouts")
CHECKOUT_PAYS = End("checkout-api", Kind.CLIENT, "POST /v1/payments")
PAYMENT = End("payments-api", Kind.SERVER, "POST /v1/payments")
CHARGING = End("payments-api", Kind.CLIENT, "POST /v1/charges")
CHARGE = End("sim-bank", Kind.SERVER, "POST /v1/charges")
BANK_TELLS = End("sim-bank", Kind.CLIENT, "POST")
BANK_EVENT = End("payments-api", Kind.SERVER, "POST /v1/bank-events")
PAYMENT_SENT = End("payments-relay", Kind.PRODUCER, f"send {_PAY}")
PAYMENTS_POLLED = End("webhooks-source", Kind.CLIENT, f"poll {_PAY}")
PAYMENT_TAKEN = End("webhooks-source", Kind.CONSUMER, f"process {_PAY}")
PUBLISHED = End("webhooks-api", Kind.SERVER, "POST /v1/messages")
DELIVERY = End("webhooks-dispatcher", Kind.CLIENT, "POST")
RECEIVER = End("sim-receivers", Kind.SERVER, "POST /r/{receiver}")
EXHAUSTED_SENT = End("webhooks-keeper", Kind.PRODUCER, f"send {WEBHOOKS_OPERATIONAL.name}")
RESOLVING = End("payments-resolver", Kind.INTERNAL, "resolve authorise")
RESOLVER_ASKS = End("payments-resolver", Kind.CLIENT, "GET /v1/operations/{reference}")
BANK_ASKED = End("sim-bank", Kind.SERVER, "GET /v1/operations/{reference:path}")
RECONCILING = End("payments-reconciler", Kind.INTERNAL, "reconcile")
FETCHING = End("payments-reconciler", Kind.CLIENT, "GET /v1/settlements/{day}.csv")
BANK_SETTLES = End("sim-bank", Kind.SERVER, "GET /v1/settlements/{name}")
CRON_RUN = End("cron-scheduler", Kind.INTERNAL, "run")
CRON_CALLS = End("cron-scheduler", Kind.CLIENT, "POST")
TARGET = End("sim-target", Kind.SERVER, "POST /v1/effects")
CRON_SENDS = End("cron-scheduler", Kind.PRODUCER, f"send {CRON_RUNS.name}")

EDGES: tuple[TraceEdge, ...] = (
    TraceEdge(CHECKOUT, CHECKOUT_PAYS, Relation.CHILD, PROCESS),
    TraceEdge(CHECKOUT_PAYS, PAYMENT, Relation.CHILD, HEADER),
    TraceEdge(PAYMENT, CHARGING, Relation.CHILD, PROCESS),
    TraceEdge(CHARGING, CHARGE, Relation.CHILD, HEADER),
    TraceEdge(CHARGE, BANK_TELLS, Relation.CHILD, PROCESS),
    TraceEdge(BANK_TELLS, BANK_EVENT, Relation.CHILD, HEADER),
    TraceEdge(PAYMENT, PAYMENT_SENT, Relation.CHILD, "payments: outbox.traceparent"),
    TraceEdge(PAYMENT_SENT, PAYMENT_TAKEN, Relation.CHILD, RECORD),
    TraceEdge(PAYMENT_SENT, PAYMENTS_POLLED, Relation.LINK, RECORD),
    TraceEdge(PAYMENTS_POLLED, PAYMENT_TAKEN, Relation.LINK, PROCESS),
    TraceEdge(PAYMENT_TAKEN, DELIVERY, Relation.CHILD, "webhooks: messages.traceparent"),
    TraceEdge(PUBLISHED, DELIVERY, Relation.CHILD, "webhooks: messages.traceparent"),
    TraceEdge(DELIVERY, RECEIVER, Relation.CHILD, HEADER),
    TraceEdge(PAYMENT_TAKEN, EXHAUSTED_SENT, Relation.CHILD, "webhooks: outbox.traceparent"),
    TraceEdge(PAYMENT, RESOLVING, Relation.LINK, "payments: operations.traceparent"),
    TraceEdge(RESOLVING, RESOLVER_ASKS, Relation.CHILD, PROCESS),
    TraceEdge(RESOLVER_ASKS, BANK_ASKED, Relation.CHILD, HEADER),
    TraceEdge(RESOLVING, PAYMENT_SENT, Relation.CHILD, "payments: outbox.traceparent"),
    TraceEdge(PAYMENT, RECONCILING, Relation.LINK, "payments: operations.traceparent"),
    TraceEdge(RECONCILING, FETCHING, Relation.CHILD, PROCESS),
    TraceEdge(FETCHING, BANK_SETTLES, Relation.CHILD, HEADER),
    TraceEdge(CRON_RUN, CRON_CALLS, Relation.CHILD, PROCESS),
    TraceEdge(CRON_CALLS, TARGET, Relation.CHILD, HEADER),
    TraceEdge(CRON_RUN, CRON_SENDS, Relation.CHILD, PROCESS),
)

OFFERED = End("catalog-api", Kind.SERVER, "POST /v1/offers")
INDEXING = End("search-indexer", Kind.INTERNAL, "index batch")
INDEXED = End("search-indexer", Kind.CONSUMER, f"process {CATALOG_PRODUCT_CHANGES.name}")
BULK = End("search-indexer", Kind.CLIENT, "bulk")
BY_THE_LOG = "catalog: products.traceparent, by the database's log"

SEARCH_EDGES: tuple[TraceEdge, ...] = (
    TraceEdge(OFFERED, INDEXED, Relation.CHILD, BY_THE_LOG),
    TraceEdge(OFFERED, INDEXING, Relation.LINK, BY_THE_LOG),
    TraceEdge(INDEXING, INDEXED, Relation.LINK, PROCESS),
    TraceEdge(INDEXING, BULK, Relation.CHILD, PROCESS),
)
"""A change of a product, whichever route makes it: here a feed's offers."""

SALE_TAKEN = End("catalog-sales", Kind.CONSUMER, f"process {_PAY}")
ORDER_SENT = End("cron-scheduler", Kind.PRODUCER, f"send {CRON_RECONCILIATIONS.name}")
ORDER_TAKEN = End("payments-reconciler", Kind.CONSUMER, f"process {CRON_RECONCILIATIONS.name}")

STORY_EDGES: tuple[TraceEdge, ...] = (
    TraceEdge(PAYMENT_SENT, SALE_TAKEN, Relation.CHILD, RECORD),
    TraceEdge(SALE_TAKEN, INDEXED, Relation.CHILD, BY_THE_LOG),
    TraceEdge(CRON_RUN, ORDER_SENT, Relation.CHILD, PROCESS),
    TraceEdge(ORDER_SENT, ORDER_TAKEN, Relation.CHILD, RECORD),
    TraceEdge(ORDER_TAKEN, RECONCILING, Relation.CHILD, PROCESS),
)
"""What a paid order does to the stock, and a job that has payments reconciled."""

ONE_PAYMENT: tuple[TraceEdge, ...] = tuple(
    edge
    for edge in EDGES
    if edge.relation is Relation.CHILD
    and {edge.earlier, edge.later}
    <= {CHECKOUT, CHECKOUT_PAYS, PAYMENT, CHARGING, CHARGE, PAYMENT_SENT, PAYMENT_TAKEN, DELIVERY, RECEIVER}
)
"""What a payment taken at the till goes through, in one trace, if nothing fails and one endpoint wants its event."""


@dataclass(frozen=True, slots=True)
class SpanSeen:
    """A span that arrived. `links` are trace and span id; `parent` "" is a root's."""

    trace_id: str
    span_id: str
    parent: str
    end: End
    links: tuple[tuple[str, str], ...] = ()


def missing(edges: Iterable[TraceEdge], spans: Iterable[SpanSeen]) -> list[TraceEdge]:
    """The edges of which no pair of these spans is an example."""
    seen = list(spans)
    by_id = {(span.trace_id, span.span_id): span.end for span in seen}
    found = set(_pairs(seen, by_id))
    return [edge for edge in edges if (edge.earlier, edge.later, edge.relation) not in found]


def _pairs(seen: Iterable[SpanSeen], by_id: dict[tuple[str, str], End]) -> Iterator[tuple[End, End, Relation]]:
    for span in seen:
        if (above := by_id.get((span.trace_id, span.parent))) is not None:
            yield above, span.end, Relation.CHILD
        for link in span.links:
            if (linked := by_id.get(link)) is not None:
                yield linked, span.end, Relation.LINK


def main() -> int:
    """The table, for a terminal or a page."""
    sys.stdout.write("| from | to | as | carried by |\n|---|---|---|---|\n")
    for edge in (*EDGES, *SEARCH_EDGES, *STORY_EDGES):
        sys.stdout.write(f"| {edge.earlier} | {edge.later} | {edge.relation} | {edge.carrier} |\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
