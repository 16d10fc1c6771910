"""Transactional outbox: an event is a row written in the commit of the change it tells of; a relay publishes it later.

The relay takes whatever is unpublished. It keeps no watermark: ids are drawn before their transactions commit, so a row
may become visible after rows with greater ids, and a watermark would step over it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Protocol, TypeVar


class Row(Protocol):
    """`entity` is what events are ordered by; its rows come in the order of their sequence."""

    @property
    def entity(self) -> Hashable: ...


R = TypeVar("R", bound=Row)


def first_of_each(rows: Iterable[R]) -> list[R]:
    """At most one row an entity: the batch that may be in flight at once.

    The second event of an entity is sent only after the first was acknowledged. So a retry of the first can never land
    behind the second, whatever the broker's client does inside.
    """
    seen: set[Hashable] = set()
    batch: list[R] = []
    for row in rows:
        if row.entity not in seen:
            seen.add(row.entity)
            batch.append(row)
    return batch
