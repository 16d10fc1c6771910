"""jaegertracing/jaeger: no package has it, so the lab's own receiver stands in for it (OTLP in, `/api/v3` out)."""

from __future__ import annotations

import sys

from infra.native.compose import Service
from infra.native.recipes.base import LOOPBACK, Launch, Site, base_environment, published
from infra.native.recipes.http import answers
from infra.runtime import RuntimeProblem


class JaegerRecipe:
    """Image `jaeger`: its first published port is the query API's, its second OTLP's."""

    def ports(self, service: Service) -> list[int]:
        return published(service)

    def prepare(self, service: Service, site: Site) -> Launch:
        ports = published(service)
        if len(ports) != 2:
            raise RuntimeProblem(f"Service '{service.name}' must publish two ports: the query API's and OTLP's.")
        site.data.mkdir(parents=True, exist_ok=True)
        env = {
            **base_environment(),
            "PYTHONUNBUFFERED": "1",
            "HTTP_HOST": LOOPBACK,
            "HTTP_PORT": str(ports[0]),
            "OTLP_HTTP_PORT": str(ports[1]),
        }
        return Launch((sys.executable, "-m", "labs.console.otlp"), env, site.root)

    def ready(self, service: Service, site: Site, timeout: float) -> bool:
        return answers(published(service)[0], "/health/ready", timeout)
