"""Where the schedulers' lease is kept: Postgres, or Redis for comparison. The rules are in patterns/lease.py."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import asyncpg
import redis.asyncio
from redis.exceptions import RedisError

from services.cron.store.connection import connect
from services.kit.store import UNREACHABLE, StoreUnavailable
from services.patterns.lease import LeaseStore, LeaseUnavailable

LEASE = "cron-scheduler"

_ACQUIRE = """
INSERT INTO leases AS l (name, holder, node, epoch, acquired_at, renewed_at, expires_at)
VALUES ($1, $2, $4, 1, now(), now(), now() + make_interval(secs => $3))
ON CONFLICT (name) DO UPDATE
    SET holder = $2, node = $4, epoch = l.epoch + 1, acquired_at = clock_timestamp(), renewed_at = clock_timestamp(),
        expires_at = clock_timestamp() + make_interval(secs => $3)
    WHERE l.expires_at <= clock_timestamp() OR l.holder = $2
RETURNING epoch
"""
_REMAINING = "SELECT extract(epoch FROM expires_at - clock_timestamp())::float8 FROM leases WHERE name = $1"
_RENEW = """
UPDATE leases SET renewed_at = clock_timestamp(), expires_at = clock_timestamp() + make_interval(secs => $4)
WHERE name = $1 AND holder = $2 AND epoch = $3
RETURNING true
"""
_RELEASE = """
UPDATE leases SET expires_at = clock_timestamp() WHERE name = $1 AND holder = $2 AND epoch = $3
"""


class ClosableLeases(LeaseStore, Protocol):
    """A LeaseStore with a connection."""

    async def close(self) -> None: ...


class PostgresLeases:
    """A row, changed by single statements; the epoch survives in it when the lease is given back.

    `clock_timestamp()` and not `now()`: a statement that waited for the row's lock would else judge by the time it began.
    One connection of its own, ended at the first doubt, so that a renewal never queues behind other work.
    """

    def __init__(self, url: str, node: str) -> None:
        self._url = url
        self._node = node
        self._db: asyncpg.Connection[asyncpg.Record] | None = None

    async def acquire(self, name: str, holder: str, seconds: float) -> int | None:
        """As LeaseStore."""
        async with self._connection() as db:
            epoch: int | None = await db.fetchval(_ACQUIRE, name, holder, seconds, self._node)
            return epoch

    async def remaining(self, name: str) -> float:
        """As LeaseStore."""
        async with self._connection() as db:
            left: float | None = await db.fetchval(_REMAINING, name)
        return left or 0.0

    async def renew(self, name: str, holder: str, epoch: int, seconds: float) -> bool:
        """As LeaseStore. A lease that expired and that nobody took is renewed."""
        async with self._connection() as db:
            return bool(await db.fetchval(_RENEW, name, holder, epoch, seconds))

    async def release(self, name: str, holder: str, epoch: int) -> None:
        """As LeaseStore."""
        async with self._connection() as db:
            await db.execute(_RELEASE, name, holder, epoch)

    async def close(self) -> None:
        """Hang up."""
        db, self._db = self._db, None
        if db is not None:
            db.terminate()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        clean = False
        try:
            if self._db is None:
                self._db = await connect(self._url, "cron-lease")
            yield self._db
            clean = True
        except (*UNREACHABLE, StoreUnavailable) as error:
            raise LeaseUnavailable(type(error).__name__) from error
        finally:
            if not clean:
                await self.close()


_REDIS_ACQUIRE = """
local held = redis.call('GET', KEYS[1])
if held and string.sub(held, 1, #ARGV[1] + 1) ~= ARGV[1] .. ' ' then return nil end
local epoch = redis.call('INCR', KEYS[2])
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. epoch, 'PX', ARGV[2])
return epoch
"""
_REDIS_REMAINING = "return redis.call('PTTL', KEYS[1])"
_REDIS_RENEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] .. ' ' .. ARGV[2] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[3])
"""
_REDIS_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] .. ' ' .. ARGV[2] then redis.call('DEL', KEYS[1]) end
return 0
"""


class RedisLeases:
    """`SET PX` and `INCR` in one script. Two keys in one hash slot: `{name}:holder` and `{name}:epoch`.

    What it can't promise: a write is answered before it is on a replica or, with `appendfsync everysec`, on disk. After a
    failover or a crash the last second may be undone: the lease is free while its holder still works, and *the epoch comes
    again*. So the schedulers also have Postgres refuse an epoch that is not greater than the last (`Schedules.fence`).
    """

    def __init__(self, url: str, prefix: str) -> None:
        self._redis = redis.asyncio.Redis.from_url(url, socket_timeout=2.0, socket_connect_timeout=2.0)
        self._prefix = prefix

    def _keys(self, name: str) -> tuple[str, str]:
        return f"{{{self._prefix}{name}}}:holder", f"{{{self._prefix}{name}}}:epoch"

    async def acquire(self, name: str, holder: str, seconds: float) -> int | None:
        """As LeaseStore."""
        epoch = await self._run(_REDIS_ACQUIRE, name, holder, round(seconds * 1000))
        return None if epoch is None else int(epoch)

    async def remaining(self, name: str) -> float:
        """As LeaseStore."""
        return (await self._run(_REDIS_REMAINING, name) or 0) / 1000

    async def renew(self, name: str, holder: str, epoch: int, seconds: float) -> bool:
        """As LeaseStore. A lease that expired is gone, taken or not."""
        return await self._run(_REDIS_RENEW, name, holder, epoch, round(seconds * 1000)) == 1

    async def release(self, name: str, holder: str, epoch: int) -> None:
        """As LeaseStore."""
        await self._run(_REDIS_RELEASE, name, holder, epoch)

    async def close(self) -> None:
        """Hang up."""
        await self._redis.aclose()

    async def _run(self, script: str, name: str, *arguments: str | int) -> int | None:
        try:
            answer: int | None = await self._redis.eval(script, 2, *self._keys(name), *arguments)
        except (TimeoutError, RedisError, OSError) as error:
            raise LeaseUnavailable(type(error).__name__) from error
        return answer
