"""Say yes once it is committed. What is not known is called so: no answer is better than a wrong one."""

from __future__ import annotations

from labs.template.notes import INSERT, run
from services.kit.errors import Unavailable
from services.kit.postgres import DATABASE_ERRORS, Pool, borrowed

QUEUE_SECONDS = 0.5


class Committed:
    """Every note is a transaction of its own."""

    def __init__(self, db: Pool) -> None:
        self._db = db

    async def keep(self, key: str, text: str) -> None:
        """Raises Unavailable, and DeadlineOver when the caller's time is over."""
        try:
            async with borrowed(self._db, wait_seconds=QUEUE_SECONDS) as connection:
                await connection.execute(INSERT, key, text)
        except DATABASE_ERRORS:
            raise Unavailable("Whether the note was kept is not known; send it again under the same key.") from None

    async def close(self) -> None:
        """Nothing is left to do: what was acknowledged is kept."""


if __name__ == "__main__":
    run("week00-day1-engineered", Committed)
