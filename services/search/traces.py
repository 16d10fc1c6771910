"""What an indexer's spans look like. A change's trace comes with it in the row's column `traceparent`, through the log.

A batch has many causes, so it is a trace of its own with a link to each; and in each cause's trace there is one span that ends
when the engine has the change, with a link to the batch. Deletes carry no trace: their record holds the key alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from services.contracts.catalog import Change
from services.kit import tracing

BATCH = "index batch"


@dataclass(slots=True)
class Batch:
    """The spans of a batch: its own, and one for each cause."""

    span: tracing.Span
    causes: dict[str, tracing.Span] = field(default_factory=dict)

    def refused(self, causes: Iterable[str], reason: str) -> None:
        """Changes of these causes are in no index. `reason` is of low cardinality."""
        self.span.fail(reason)
        for each in causes:
            self.causes[each].fail(reason)


def cause_of(change: Change) -> str | None:
    """The traceparent of whoever made this change. What a snapshot reads was caused by nobody just now."""
    if change.op == "r" or change.after is None:
        return None
    told = change.after.get("traceparent")
    return tracing.valid(told) if isinstance(told, str) else None


@contextmanager
def batch_of(topic: str, group: str, records: int, causes: Iterable[str]) -> Iterator[Batch]:
    """Lasts as long as the block; calls of the engine within it are its children."""
    distinct = sorted(set(causes))
    about = tracing.message("process", topic, group=group)
    with ExitStack() as spans:
        own = tracing.span(
            BATCH,
            links=distinct[: tracing.MOST_LINKS],
            attributes={**about, **tracing.message("process", topic, count=records)},
            new_trace=True,
        )
        made = Batch(spans.enter_context(own))
        for cause in distinct:
            made.causes[cause] = tracing.begin(
                f"process {topic}", "consumer", parent=cause, links=[made.span.traceparent], attributes=about
            )
            spans.callback(made.causes[cause].end)
        yield made


def operation_of(method: str, path: str) -> str:
    """The engine's name for a call, as semantic conventions want it: `bulk`, `search`, `cluster.health`, `indices.put`."""
    words = [part for part in path.split("/") if part]
    special = next((place for place, word in enumerate(words) if word.startswith("_")), None)
    if special is None:
        return f"indices.{method.lower()}"
    word = words[special].removeprefix("_")
    return f"cluster.{words[special + 1]}" if word == "cluster" and special + 1 < len(words) else word


@contextmanager
def call_of(method: str, path: str) -> Iterator[None]:
    """A client span of a call of the engine, by semantic conventions; neither the query nor a document is told.

    Only where there is a trace: looks that a process takes by itself each second begin none.
    """
    if tracing.current_traceparent() is None:
        yield
        return
    operation = operation_of(method, path)
    about = {"db.system.name": "elasticsearch", "db.operation.name": operation, "http.request.method": method}
    with tracing.span(operation, "client", attributes=about):
        yield
