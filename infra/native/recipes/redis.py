"""redis:* from the system's package."""

from __future__ import annotations

from infra.native.compose import Service
from infra.native.recipes.base import LOOPBACK, Launch, Site, base_environment, exchange, find_binary, published

DATA = "/data"


class RedisRecipe:
    """Image `redis`. The command's own options go first; the folder and the address are ours."""

    def ports(self, service: Service) -> list[int]:
        return published(service)

    def prepare(self, service: Service, site: Site) -> Launch:
        data = site.mounts.get(DATA, site.data)
        data.mkdir(parents=True, exist_ok=True)
        data = data.resolve()
        argv = (
            find_binary("redis-server", "redis-server"),
            *service.command[1:],
            "--bind",
            LOOPBACK,
            "--dir",
            str(data),
        )
        return Launch((*argv, "--daemonize", "no"), {**base_environment(), **service.environment}, data)

    def ready(self, service: Service, site: Site, timeout: float) -> bool:
        """PING; a server that still loads its file answers -LOADING."""
        return next(exchange(published(service)[0], b"PING\r\n", timeout), b"").startswith(b"+PONG")
