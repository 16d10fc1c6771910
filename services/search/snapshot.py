"""Versions of documents: which of two states of the database is the later one.

A document is built from what one statement saw, and what a statement sees in Postgres is its snapshot, the set of the
transactions whose changes it shows. The version must grow exactly when that set does. A position in the log, read before the
statement, does not: a commit is in the log, and with a logical decoder even in Kafka, *before* it is visible (the backend
flushes its commit record, waits for synchronous standbys, and only then leaves the list of the running). So

    A reads position 100, and its statement does not yet see commit 99, which stands in the log
    B, told of commit 99, had read position 99 before that, and its statement sees it
    B's document is right and has version 99; A's is stale, has version 100, and stays

The snapshot itself has the order that is wanted, and comes with the rows in one statement (`pg_current_snapshot()`). It is
(xmax, xip): all transactions below xmax are over, except those in xip. Every commit of a transaction that wrote either lifts
xmax above it, or, if it was below, takes it out of xip; nothing enters xip below an xmax that was seen. So (xmax, -len(xip)),
read lexicographically, grows strictly with what is visible and stands still while nothing changes: equal versions mean equal
content, and `external_gte` lets a doubled write through. On a standby xip is laid out differently: read from the primary.

After a restore to a new cluster, or a failover that lost commits, transaction ids are given again: reindex then.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

XIP_BITS = 18
"""Room for 262,143 transactions at once, Postgres' own bound on connections; 2^45 transactions are left for xmax."""
_MOST_RUNNING = (1 << XIP_BITS) - 1
_TEXT = re.compile(r"([0-9]+):([0-9]+):((?:[0-9]+(?:,[0-9]+)*)?)")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What `pg_current_snapshot()` said. Ids are 64 bits wide, with the epoch."""

    xmax: int
    running: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> Snapshot:
        """`xmin:xmax:xip,xip`. Raises ValueError."""
        found = _TEXT.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is no snapshot of Postgres")
        return cls(int(found[2]), frozenset(map(int, filter(None, found[3].split(",")))))

    @property
    def version(self) -> int:
        """0 to 2^63 - 1; greater for a later snapshot, equal for one that shows the same."""
        return (self.xmax << XIP_BITS) | (_MOST_RUNNING - min(len(self.running), _MOST_RUNNING))

    def shows(self, xid: int) -> bool:
        """Whether the changes of a transaction that has committed are visible. `xid` may lack the epoch, as in the log."""
        xid = self.whole(xid)
        return xid < self.xmax and xid not in self.running

    def whole(self, xid: int) -> int:
        """With the epoch. The logged id is at most 2^31 transactions away: it is the nearest to xmax with these low bits."""
        if xid >= 1 << 32:
            return xid
        return self.xmax + ((xid - self.xmax + (1 << 31)) % (1 << 32)) - (1 << 31)
