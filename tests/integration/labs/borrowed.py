"""A lab that compares, on throwaway servers: the whole engine runs, and only the project's own servers are not there."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from rich.console import Console

from infra.runtime import Runtime
from labs.engine import Lab
from labs.engine.clock import RunClock
from labs.engine.files import HistoryLine, VerdictFile, read, read_lines
from labs.engine.run import Options, run_labs
from labs.engine.timing import plan
from tests.labs.fake_world import FakePlatform, FakeRuntime, checked


@dataclass
class BorrowedRuntime(FakeRuntime):
    """Knows where the servers of a test listen."""

    ports: dict[str, int] = field(default_factory=dict)
    password: str = ""

    def address(self, service: str) -> tuple[str, int]:
        return "127.0.0.1", self.ports[service]

    def variable(self, name: str) -> str:
        return self.password


@dataclass
class BorrowedLab:
    """Runs a lab in a folder of its own."""

    root: Path
    runtime: BorrowedRuntime
    output: io.StringIO = field(default_factory=io.StringIO)
    dropped: list[str | None] = field(default_factory=list)

    async def run(self, lab: Lab, options: Options) -> int:
        """Its exit code."""
        runtime: Runtime = checked(self.runtime)
        return await run_labs(
            [lab],
            options,
            runtime=runtime,
            root=self.root,
            console=Console(file=self.output, width=160, force_terminal=False),
            platform=self._platform,
            timing=plan(lab.load, short=options.short),
        )

    def _platform(self, runtime: Runtime, session: aiohttp.ClientSession, clock: RunClock) -> FakePlatform:
        return FakePlatform(self.root, clock, self.dropped)

    def folder(self, lab: Lab) -> Path:
        """Of the last run."""
        return self.root / ".lab" / "runs" / lab.name / "latest"

    def verdict(self, lab: Lab) -> VerdictFile:
        """Of the last run."""
        return read(self.folder(lab) / "verdict.json", VerdictFile)

    def history(self, lab: Lab) -> list[HistoryLine]:
        """Of the last run."""
        return read_lines(self.folder(lab) / "history.jsonl", HistoryLine)

    @property
    def text(self) -> str:
        return self.output.getvalue()
