"""What must hold of notes, judged from outside: the client's history against the table. Offenders are the keys of notes."""

from __future__ import annotations

from collections.abc import Mapping

from labs.engine.model import Evidence, Finding, Outcome

DATABASE = "notes"
KEPT = "SELECT key FROM notes"
UNDER_WAY = """
SELECT count(*) AS statements FROM pg_stat_activity
WHERE datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid()
"""


async def acknowledged_is_kept(evidence: Evidence) -> Finding:
    """Every note of which a client was told that it is kept is in the table."""
    kept = await notes_by_key(evidence)
    return Finding.of([one.key for one in evidence.history if one.outcome is Outcome.OK and one.key not in kept])


async def notes_by_key(evidence: Evidence) -> Mapping[str, int]:
    """How many rows each key has, for reconcile."""
    return {str(row["key"]): 1 for row in await evidence.sql(DATABASE, KEPT)}


async def statements_under_way(evidence: Evidence) -> str:
    """ "" when the store has nothing to do; else what is still open."""
    (row,) = await evidence.sql(DATABASE, UNDER_WAY)
    return f"{row['statements']} statements are under way" if row["statements"] else ""
