"""What can be broken here and now: the list that `python -m infra chaos --json` prints."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import msgspec

from services.kit.errors import Problem

FRESH_SECONDS = 15.0
TIMEOUT_SECONDS = 45.0


class Option(msgspec.Struct, frozen=True):
    """An amount, with its unit, its usual value and what is allowed."""

    name: str
    unit: str = ""
    default: float = 0
    allowed: str = ""


class Script(msgspec.Struct, frozen=True):
    """`targets` are those that it can be done to now, `seconds` how long it lasts unless said."""

    name: str
    target_kind: str = ""
    does: str = ""
    teaches: str = ""
    seconds: float = 20.0
    options: list[Option] = []
    runtimes: list[str] = []
    targets: list[str] = []


class ChaosAway(Problem):
    def __init__(self, detail: str) -> None:
        super().__init__(503, "chaos_away", "The chaos scripts cannot be listed", detail=detail[:500])


class Scripts:
    """Lists them, and remembers the list for a while: it takes a process."""

    def __init__(self, root: Path, program: tuple[str, ...]) -> None:
        self._root = root
        self._program = program
        self._known: tuple[float, object, list[Script]] | None = None
        self._asking = asyncio.Lock()

    async def all(self, state: object = None) -> list[Script]:
        """`state` stands for what runs: the list is asked for again when it changes. Raises ChaosAway."""
        async with self._asking:
            known = self._known
            if known is None or known[1] != state or time.monotonic() - known[0] > FRESH_SECONDS:
                known = (time.monotonic(), state, await self._ask())
                self._known = known
            return known[2]

    async def _ask(self) -> list[Script]:
        process = await asyncio.create_subprocess_exec(
            *self._program,
            "chaos",
            "--json",
            cwd=self._root,
            env={**os.environ, "NO_COLOR": "1"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            output, errors = await asyncio.wait_for(process.communicate(), TIMEOUT_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise ChaosAway(f"It took more than {TIMEOUT_SECONDS:.0f} s.") from None
        if process.returncode != 0:
            raise ChaosAway(errors.decode(errors="replace").strip().splitlines()[-1] if errors else "It failed.")
        try:
            return msgspec.json.decode(output, type=list[Script])
        except msgspec.DecodeError:
            raise ChaosAway("What was printed is not the list.") from None
