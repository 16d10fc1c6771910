"""Where a runtime keeps its files, all below `.lab/` of a checkout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Layout:
    """`root` holds docker-compose.yml and .env. `tools` is the `.lab` of the checkout whose set-up made jars and binaries."""

    root: Path
    tools: Path
    project: str
    runtime: str = "native"

    @property
    def lab(self) -> Path:
        return self.root / ".lab"

    @property
    def home(self) -> Path:
        return self.lab / "projects" / self.project

    @property
    def state(self) -> Path:
        return self.home / "state.json"

    @property
    def config(self) -> Path:
        suffix = "" if self.project == "dev" else f"-{self.project}"
        return self.lab / "config" / f"{self.runtime}{suffix}"

    @property
    def prometheus(self) -> Path:
        """Its configuration, with a folder of targets for each kind."""
        return self.config / "prometheus"

    @property
    def cache(self) -> Path:
        return self.tools / "cache"

    def data(self, service: str) -> Path:
        return self.home / "data" / service

    def log(self, service: str) -> Path:
        return self.home / "logs" / f"{service}.log"

    def exit_code(self, service: str) -> Path:
        return self.home / "exits" / service

    def verdict(self, service: str) -> Path:
        """Why the warden killed a service."""
        return self.home / "warden" / service
