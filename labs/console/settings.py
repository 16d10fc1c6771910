"""Where the console listens, what it shows and which programs its buttons start."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from infra.native.compose import read_env_file
from infra.native.environment import require_port_numbers
from infra.native.runtime import CHECKOUT
from services.contracts.ports import PORTS

HOST = "127.0.0.1"
PORT_VARIABLE = "CONSOLE_PORT"
MODULES = ("labs", "infra", "loadtests", "benchmarks", "labs.story")


def _own_modules() -> dict[str, tuple[str, ...]]:
    return {module: (sys.executable, "-m", module) for module in MODULES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`root` is the checkout: its `.lab`, pages and dashboards are shown. `programs` says how each module is started."""

    root: Path = CHECKOUT
    port: int = PORTS[PORT_VARIABLE]
    programs: Mapping[str, tuple[str, ...]] = field(default_factory=_own_modules)
    lab_modules: tuple[str, ...] | None = None
    """Names of the modules that hold the labs; None: those of the checkout's week folders."""
    endpoints: Mapping[str, str] = field(default_factory=dict)
    """Base URLs of Prometheus, Alertmanager and Jaeger where they are not those of the project; for tests."""

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        return f"http://{HOST}:{self.port}"

    @property
    def folder(self) -> Path:
        """State and log of the console's process."""
        return self.root / ".lab" / "console"


def load(root: Path = CHECKOUT) -> Settings:
    """Settings of a checkout: CONSOLE_PORT from the environment or .env. Raises RuntimeProblem for what is no port."""
    given = {**read_env_file(root / ".env"), **os.environ}
    text = given.get(PORT_VARIABLE) or str(PORTS[PORT_VARIABLE])
    require_port_numbers({PORT_VARIABLE: text})
    return Settings(root=root, port=int(text))
