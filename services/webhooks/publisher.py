"""Group commit for incoming messages: those that arrive while a commit is under way share the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import asyncpg

from services.kit.failpoint import failpoint
from services.webhooks import failpoints, metrics
from services.webhooks.store import Accepted, MessageStore, NewMessage, StoreUnavailable

BATCH = 200

Waiting = tuple[NewMessage, "asyncio.Future[Accepted]"]


class Publisher:
    """`run` must run for `accept` to be answered."""

    def __init__(self, store: MessageStore) -> None:
        self._store = store
        self._waiting: list[Waiting] = []
        self._some = asyncio.Event()

    async def accept(self, message: NewMessage) -> Accepted:
        """Store and fan out; returns when that is durable. Raises StoreUnavailable: it may or may not be stored."""
        future: asyncio.Future[Accepted] = asyncio.get_running_loop().create_future()
        self._waiting.append((message, future))
        self._some.set()
        return await future

    async def run(self) -> None:
        """Commit batch after batch until cancelled."""
        while True:
            await self._some.wait()
            batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            if not self._waiting:
                self._some.clear()
            await self._commit(batch)

    async def _commit(self, batch: Sequence[Waiting]) -> None:
        metrics.ACCEPT_BATCH.observe(len(batch))
        await failpoint(failpoints.BEFORE_MESSAGE_COMMIT)
        try:
            answers = await self._store.accept([message for message, _ in batch])
        except (StoreUnavailable, asyncpg.PostgresError) as error:
            # One bad row must not be an error of all who shared its commit.
            if len(batch) > 1 and not isinstance(error, StoreUnavailable):
                for each in batch:
                    await self._commit([each])
                return
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        await failpoint(failpoints.AFTER_MESSAGE_COMMIT)
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)
