"""A scratch checkout with two small services, its console, and headless Chromium."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from infra.native.free_ports import free_ports
from infra.native.runtime import NativeRuntime
from tests.e2e.console.observers import observers
from tests.integration.infra.stack import INTERRUPTIBLE, REPOSITORY, Scratch, write_scratch

CHROMIUM = Path("/usr/bin/chromium")
NOTHING_OUTSIDE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
COPIED = ("infra", "labs", "services", "docs")


@dataclass(slots=True)
class Served:
    """The console of a scratch checkout whose service `web` runs."""

    url: str
    scratch: Scratch
    runtime: NativeRuntime


@dataclass
class Watched:
    """A page, and what its browser complained of."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    def note(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(message.text)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root = Path(tempfile.mkdtemp(prefix="lab-console-"))
    scratch = write_scratch(root)
    for name in COPIED:
        shutil.copytree(REPOSITORY / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "README.md", root)
    runtime = scratch.runtime()
    (port,) = free_ports(1)
    left: list[str] = []
    try:
        runtime.up(["web"])
        with observers() as base:
            command = [*INTERRUPTIBLE, sys.executable, "-m", "tests.e2e.console.served", str(root), str(port)]
            with (root / "console.log").open("wb") as log:
                process = subprocess.Popen([*command, base, base], cwd=REPOSITORY, stdout=log, stderr=log)
            try:
                _await(f"http://127.0.0.1:{port}/health/ready", process, root / "console.log")
                yield Served(f"http://127.0.0.1:{port}", scratch, runtime)
            finally:
                process.terminate()
                process.wait(90)
    finally:
        scratch.clear()
        left = scratch.kill_leftovers()
        shutil.rmtree(root, ignore_errors=True)
    assert left == []


def _await(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=60_000)  # set_default_timeout does not hold for it
    if not CHROMIUM.exists():
        pytest.skip(f"needs {CHROMIUM} (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", NOTHING_OUTSIDE])
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    context.set_default_timeout(45_000)
    yield context
    context.close()


@pytest.fixture
def watched(context: BrowserContext) -> Watched:
    watched = Watched(context.new_page())
    watched.page.on("console", watched.note)
    watched.page.on("pageerror", lambda error: watched.complaints.append(str(error)))
    return watched
