"""Servers beside Prometheus that come as one program: from the system's package, or a process of ours."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from infra.native.compose import Service
from infra.native.recipes.base import Launch, Site, base_environment, find_binary, published
from infra.native.recipes.http import answers


@dataclass(frozen=True, slots=True)
class PackageRecipe:
    """A program of a Debian package, with the compose file's flags. `data` is where its container keeps data."""

    program: str
    """Also the package's name."""
    health: str
    data: str | None = None

    def ports(self, service: Service) -> list[int]:
        return published(service)

    def prepare(self, service: Service, site: Site) -> Launch:
        folder = site.data if self.data is None else site.mounts.get(self.data, site.data)
        folder.mkdir(parents=True, exist_ok=True)
        argv = (find_binary(self.program, self.program), *(site.localise(word) for word in service.command))
        env = {**base_environment(), "GOMAXPROCS": "1", **service.environment}
        return Launch(argv, env, folder.resolve())

    def ready(self, service: Service, site: Site, timeout: float) -> bool:
        return answers(published(service)[0], self.health, timeout)


@dataclass(frozen=True, slots=True)
class OwnExporterRecipe:
    """Images that no package has: a process of ours with their flags and their metrics. `module` is what is run."""

    module: str

    def ports(self, service: Service) -> list[int]:
        return published(service)

    def prepare(self, service: Service, site: Site) -> Launch:
        site.data.mkdir(parents=True, exist_ok=True)
        argv = (sys.executable, "-m", self.module, *service.command)
        return Launch(argv, {**base_environment(), "PYTHONUNBUFFERED": "1", **service.environment}, site.root)

    def ready(self, service: Service, site: Site, timeout: float) -> bool:
        return answers(published(service)[0], "/", timeout)
