"""Your turn: keep notes. `make lab week=template variant=yours` judges it as it judged the other two.

The shell is notes.py (HTTP, database, table); what is missing is `Yours`. When `keep` returns, the client is told 201; when it
raises Problem, the client is told that. Write to the table `notes` with INSERT of notes.py. At most ten connections are in the
pool. One idea to try: a commit for each note is honest and costs a disk flush each; notes that arrive together could share one.

The checker reads the table after the store has stood still for some seconds, and wants every note of which a client was told
that it is kept. While the store stands still nobody has to be served; before and after, nearly everybody.
"""

from __future__ import annotations

from labs.template.notes import run
from services.kit.errors import Problem
from services.kit.postgres import Pool


class Yours:
    def __init__(self, db: Pool) -> None:
        self._db = db

    async def keep(self, key: str, text: str) -> None:
        """Returns when the note may be acknowledged. Raises Problem."""
        del key, text
        raise Problem(501, "not_written_yet", "Write Yours in labs/template/yours_day1.py")

    async def close(self) -> None:
        """At a polite end."""


if __name__ == "__main__":
    run("week00-day1-yours", Yours)
