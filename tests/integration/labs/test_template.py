"""The template as a whole: engine, load, native runtime and real servers, in a scratch checkout on free ports. Then its shell."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from rich.console import Console
from yarl import URL

from infra.native.free_ports import free_ports
from infra.native.runtime import NativeRuntime
from labs.engine import discover
from labs.engine.files import FaultLine, VerdictFile, read, read_lines
from labs.engine.model import Status, Verdict
from labs.engine.run import Options, run_labs
from labs.engine.timing import Timing
from tests.integration.labs.program import running
from tests.servers import ROOT, PostgresServer, on_docker
from tests.stack import client

pytestmark = [pytest.mark.integration, pytest.mark.slow]
natively = pytest.mark.skipif(on_docker(), reason="this checkout's set-up has no native servers")

PORTS = ("POSTGRES_PORT", "WEEK00_DAY1_NAIVE_PORT", "WEEK00_DAY1_ENGINEERED_PORT", "WEEK00_DAY1_YOURS_PORT")
LINKED = ("labs", "services", "loadtests", "infra", "docker-compose.yml")
TIMING = Timing(control=1.0, baseline=2.0, inject=5.0, scale=0.4, budget=60.0)
TRIES = 3
"""`unknown` says that the machine disturbed the measurement, so it is taken again."""
LAB = replace(discover.labs(discover.TEMPLATE)[0], infrastructure=("postgres",))


@dataclass
class Scratch:
    """A checkout of links, with ports of its own."""

    root: Path
    output: io.StringIO = field(default_factory=io.StringIO)

    async def run(self, options: Options, *, tries: int = TRIES) -> VerdictFile:
        for _ in range(tries):
            await run_labs(
                [LAB],
                options,
                runtime=NativeRuntime("lab", edges=False, root=self.root, tools=ROOT / ".lab"),
                root=self.root,
                console=Console(file=self.output, width=140, force_terminal=False),
                timing=TIMING,
            )
            verdict = read(self.folder / "verdict.json", VerdictFile)
            if verdict.verdict is not Verdict.UNKNOWN:
                break
        return verdict

    @property
    def folder(self) -> Path:
        return self.root / ".lab" / "runs" / LAB.name / "latest"


@pytest.fixture
def scratch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scratch]:
    root = Path(tempfile.mkdtemp(prefix="lab-template-"))
    root.chmod(0o755)
    for name in LINKED:
        (root / name).symlink_to(ROOT / name)
    for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True):
        monkeypatch.setenv(name, str(port))
    yield Scratch(root)
    NativeRuntime("lab", edges=False, root=root, tools=ROOT / ".lab").down()
    shutil.rmtree(root, ignore_errors=True)


@natively
async def test_it_ends_with_pass_and_its_fault_has_a_receipt(scratch: Scratch) -> None:
    verdict = await scratch.run(Options())
    text = scratch.output.getvalue()
    assert verdict.verdict is Verdict.PASS, text
    naive = verdict.variants["naive"].invariants["acknowledged_is_kept"]
    assert naive.status is Status.BROKEN
    assert naive.count >= LAB.discriminates.at_least
    assert verdict.variants["engineered"].invariants["acknowledged_is_kept"].status is Status.HELD
    faults = read_lines(scratch.folder / "faults.jsonl", FaultLine)
    assert [line.receipt.proven for line in faults if line.receipt is not None] == [True, True]
    assert text.rstrip().splitlines()[-1] == "VERDICT week00-day1 pass"


@natively
async def test_an_exercise_that_nobody_has_written_yet_passes_nothing(scratch: Scratch) -> None:
    verdict = await scratch.run(Options(variant="yours"), tries=1)
    assert verdict.verdict is not Verdict.PASS, scratch.output.getvalue()


@pytest.fixture(scope="module")
def notes(postgres_server: PostgresServer) -> Iterator[str]:
    database = postgres_server.url(f"template_{os.getpid()}_notes")
    with running("labs.template.engineered_notes", NOTES_DATABASE_URL=database) as url:
        yield f"{url}/v1/notes"


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b'{"text": "one"}', "application/json", 201),
        (b'{"text": "one"}', "text/plain", 415),
        (b'{"text": ', "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"{}", "application/json", 422),
        (b'{"text": 1}', "application/json", 422),
        (b'{"text": ""}', "application/json", 422),
        (b'{"text": "one", "more": 2}', "application/json", 422),
        (b'{"text": "' + b"x" * 2001 + b'"}', "application/json", 422),
        (b'{"text": "' + b"x" * 100_000 + b'"}', "application/json", 413),
    ],
)
async def test_a_note_is_kept_or_refused_with_a_problem(notes: str, body: bytes, kind: str, status: int) -> None:
    async with (
        client() as session,
        session.put(f"{notes}/a%20key", data=body, headers={"Content-Type": kind}) as answer,
    ):
        told = await answer.json(content_type=None)
    assert answer.status == status
    assert told == {"key": "a key"} if status == 201 else told["type"].startswith("urn:lab:")


@pytest.mark.parametrize("key", ["%00", "k%0A", "%C3%A9", "k" * 201])
async def test_a_key_that_is_none_is_refused_before_the_store_is_asked(notes: str, key: str) -> None:
    url = URL(f"{notes}/{key}", encoded=True)
    async with client() as session, session.put(url, json={"text": "one"}) as answer:
        told = await answer.json(content_type=None)
    assert (answer.status, told["type"]) == (422, "urn:lab:invalid_key")
