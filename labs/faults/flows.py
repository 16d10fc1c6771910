"""The proxy's connections, wherever the proxy runs: on this machine, or in a container with a network of its own."""

from __future__ import annotations

import atexit
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakKeyDictionary

import msgspec

from infra.runtime import Runtime
from labs.faults import sockets
from labs.faults.sockets import Flow, accepted

Flows = Callable[[int], dict[int, Flow]]
"""The connections that a local port has accepted. Raises OSError where the kernel does not tell."""


@dataclass(slots=True)
class RemoteFlows:
    """`accepted` in another network namespace: a small process there answers a line for each port that it is sent.

    It is given the module's text, so that the image there needs nothing of the lab's machinery.
    """

    argv: list[str]
    process: subprocess.Popen[bytes] | None = field(default=None)

    def __call__(self, port: int) -> dict[int, Flow]:
        """Raises OSError when the reader cannot be started or has ended."""
        if self.process is None or self.process.poll() is not None:
            source = Path(sockets.__file__).read_text("utf-8")
            self.process = subprocess.Popen(
                [*self.argv, "-I", "-c", source],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            atexit.register(self.close)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b"%d\n" % port)
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise OSError("the reader beside the proxy has ended")
        return msgspec.json.decode(line, type=dict[int, Flow], strict=False)

    def close(self) -> None:
        """Its stdin closes, and it ends."""
        if self.process is not None and self.process.stdin is not None and self.process.poll() is None:
            self.process.stdin.close()
            self.process.wait(10)


_readers: WeakKeyDictionary[Runtime, RemoteFlows] = WeakKeyDictionary()


def flows_of(runtime: Runtime) -> Flows:
    """How to read the connections of this runtime's Toxiproxy."""
    if runtime.name != "docker":
        return accepted
    if runtime not in _readers:
        _readers[runtime] = RemoteFlows(runtime.beside("toxiproxy"))
    return _readers[runtime]
