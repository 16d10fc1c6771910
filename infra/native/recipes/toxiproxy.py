"""shopify/toxiproxy, built from its Go module by set-up."""

from __future__ import annotations

import json

from infra.native.compose import Service
from infra.native.recipes.base import Launch, Site, base_environment, find_binary, published
from infra.native.recipes.http import answers

CONFIG = "/config"


class ToxiproxyRecipe:
    """Image `toxiproxy`; its proxies come from the file that the runtime renders from x-edges."""

    def ports(self, service: Service) -> list[int]:
        return published(service)

    def prepare(self, service: Service, site: Site) -> Launch:
        site.data.mkdir(parents=True, exist_ok=True)
        binary = find_binary("toxiproxy-server", "built by set-up", site.tools / "bin")
        argv = (binary, *(site.localise(word) for word in service.command))
        return Launch(argv, {**base_environment(), "LOG_LEVEL": "warn", **service.environment}, site.data.resolve())

    def ready(self, service: Service, site: Site, timeout: float) -> bool:
        return answers(published(service)[0], "/proxies", timeout)

    def edge_ports(self, site: Site) -> list[int]:
        """Ports of the proxies in the rendered file."""
        proxies = json.loads((site.mounts[CONFIG] / "toxiproxy.json").read_text())
        return [int(proxy["listen"].rpartition(":")[2]) for proxy in proxies]
