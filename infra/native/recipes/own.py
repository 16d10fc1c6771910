"""Our own image: the service's command, run from the virtual environment that runs this."""

from __future__ import annotations

import re
import sys
from urllib.parse import urlsplit

from infra.native.compose import Service
from infra.native.recipes.base import Launch, Site, base_environment, published
from infra.native.recipes.http import answers
from infra.runtime import RuntimeProblem

PROBE = ("python", "-m", "services.kit.probe")


class OwnRecipe:
    """A process of ours. Its health check must be services.kit.probe, which is asked here without starting a Python."""

    def ports(self, service: Service) -> list[int]:
        allotted = service.environment.get("HTTP_PORT")
        ports = published(service)
        return ports if ports or allotted is None else [int(allotted)]

    def prepare(self, service: Service, site: Site) -> Launch:
        if not service.command:
            raise RuntimeProblem(f"Service '{service.name}' of our image needs a command in docker-compose.yml.")
        program, *words = service.command
        argv = (sys.executable if program == "python" else program, *words)
        env = {**base_environment(), "PYTHONUNBUFFERED": "1", **service.environment}
        return Launch(argv, env, site.root)

    def ready(self, service: Service, site: Site, timeout: float) -> bool:
        if service.health is None:
            return True
        port, path = probe_target(service)
        return answers(port, path, timeout)


def probe_target(service: Service) -> tuple[int, str]:
    """Port and path of the health check. Raises RuntimeProblem for any other check."""
    test = service.health.test if service.health is not None else ()
    if test[:3] != PROBE or len(test) != 4 or (port := urlsplit(test[3]).port) is None:
        raise RuntimeProblem(f"Service '{service.name}': its health check must be '{' '.join(PROBE)} URL'.")
    return port, urlsplit(test[3]).path or "/"


def with_port(text: str, old: str, new: str) -> str:
    """A URL's port replaced: workers all say 19000 in the compose file and get one of their own natively."""
    return re.sub(rf":{re.escape(old)}(?=/|$)", f":{new}", text)
