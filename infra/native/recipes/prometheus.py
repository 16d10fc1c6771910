"""prom/prometheus from the system's package (2.42+)."""

from __future__ import annotations

from infra.native.compose import Service
from infra.native.recipes.base import Launch, Site, base_environment, find_binary, published
from infra.native.recipes.http import answers

DATA = "/prometheus"


class PrometheusRecipe:
    """Image `prometheus`: the compose file's flags, with the container's paths replaced."""

    def ports(self, service: Service) -> list[int]:
        return published(service)

    def prepare(self, service: Service, site: Site) -> Launch:
        data = site.mounts.get(DATA, site.data)
        data.mkdir(parents=True, exist_ok=True)
        argv = (find_binary("prometheus", "prometheus"), *(site.localise(word) for word in service.command))
        env = {**base_environment(), "GOMAXPROCS": "2", **service.environment}
        return Launch(argv, env, data.resolve())

    def ready(self, service: Service, site: Site, timeout: float) -> bool:
        return answers(published(service)[0], "/-/ready", timeout)
