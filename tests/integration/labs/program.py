"""A program of a lab as a process of its own, as the labs start it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from infra.native.free_ports import free_ports
from tests.servers import ROOT

READY_SECONDS = 60
STOP_SECONDS = 30


@contextmanager
def running(module: str, *words: str, **environment: str) -> Iterator[str]:
    """Its address once it is ready. It must end with 0 when it is told to."""
    (port,) = free_ports(1)
    env = os.environ | {"LAB_PROFILE": "1", "HTTP_PORT": str(port), **environment}
    argv = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", module, *words]
    process = subprocess.Popen(argv, cwd=ROOT, env=env, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=2):
                break
        except OSError:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    assert process.wait(STOP_SECONDS) == 0
