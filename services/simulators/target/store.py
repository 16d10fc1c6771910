"""All SQL of the target. Check, effect and record are one transaction, or a crash between them would undo the promise."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

import asyncpg

from services.kit.postgres import Pool, create_database
from services.simulators.target.domain import Call, Checks, Reason, decide

SCHEMA_LOCK = 0x74617267
"""Advisory lock of those who create the schema; any number that nobody else uses."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a call. `spared` is the check that would have refused it and was switched off."""

    reason: Reason
    highest_epoch: int | None
    spared: Reason | None = None

    @property
    def applied(self) -> bool:
        """Whether it had an effect."""
        return self.reason in (Reason.APPLIED, Reason.UNGUARDED)


async def prepare_database(url: str) -> None:
    """Create the database and its tables where they are absent; two at once are safe. Raises asyncpg errors."""
    schema = resources.files(__package__).joinpath("schema.sql").read_text()
    await create_database(url, schema, lock=SCHEMA_LOCK)


async def take(pool: Pool, call: Call, checks: Checks, remembers_seconds: float) -> Taken:
    """Apply the call or refuse it, and write down which. Raises asyncpg errors; then nothing was done.

    A run applied longer ago than `remembers_seconds` is as good as never seen: no store keeps ids for ever.
    """
    async with pool.acquire() as connection, connection.transaction():
        highest = await _highest_epoch(connection, call)
        seen = await _run_seen(connection, call, remembers_seconds)
        deserved = decide(call, highest_epoch=highest, run_seen=seen)
        actual = decide(call, highest_epoch=highest if checks.fencing else None, run_seen=seen and checks.dedup)
        taken = Taken(actual, highest, deserved if deserved is not actual else None)
        await _record(connection, call, taken)
    return taken


async def _highest_epoch(connection: asyncpg.pool.PoolConnectionProxy[asyncpg.Record], call: Call) -> int | None:
    """Raise the highest epoch to the call's, then hold it: no higher one comes in before this call has ended.

    The share lock lets calls of one epoch run side by side; one that raises the epoch waits for them. The row is made
    before it is raised: the other way round two first calls at once would leave it at the lower epoch.
    """
    if call.epoch is None:
        return None
    await connection.execute(
        "INSERT INTO epochs (target, highest) VALUES ($1, $2) ON CONFLICT (target) DO NOTHING",
        call.target.value,
        call.epoch,
    )
    await connection.execute(
        "UPDATE epochs SET highest = $2 WHERE target = $1 AND highest < $2", call.target.value, call.epoch
    )
    highest: int = await connection.fetchval(
        "SELECT highest FROM epochs WHERE target = $1 FOR SHARE", call.target.value
    )
    return highest


async def _run_seen(
    connection: asyncpg.pool.PoolConnectionProxy[asyncpg.Record], call: Call, remembers_seconds: float
) -> bool:
    """Whether this run is known as applied. Waits for a call of the same run that is under way."""
    if call.run_id is None:
        return False
    lock = f"{call.target.value}/{call.run_id}"
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", lock)
    seen: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM applied_runs WHERE target = $1 AND run_id = $2"
        " AND at > clock_timestamp() - make_interval(secs => $3))",
        call.target.value,
        call.run_id,
        remembers_seconds,
    )
    return seen


async def _record(connection: asyncpg.pool.PoolConnectionProxy[asyncpg.Record], call: Call, taken: Taken) -> None:
    if taken.applied and call.run_id is not None:
        await connection.execute(
            "INSERT INTO applied_runs (target, run_id) VALUES ($1, $2)"
            " ON CONFLICT (target, run_id) DO UPDATE SET at = clock_timestamp()",
            call.target.value,
            call.run_id,
        )
    await connection.execute(
        "INSERT INTO effects (target, run_id, job_id, scheduled_for, epoch, applied, reason)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7)",
        call.target.value,
        call.run_id,
        call.job_id,
        call.scheduled_for,
        call.epoch,
        taken.applied,
        taken.reason.value,
    )
