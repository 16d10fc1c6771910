"""The part of Toxiproxy's HTTP API that the faults need (v2.7 and later)."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp
import msgspec

CALL = aiohttp.ClientTimeout(total=5)


class ToxiproxyError(Exception):
    """Toxiproxy did not do what it was asked; says what it answered."""


class Toxic(msgspec.Struct, frozen=True):
    """A toxic as the API lists it."""

    name: str
    type: str
    stream: str
    toxicity: float
    attributes: dict[str, int]


class Proxy(msgspec.Struct, frozen=True):
    """A proxy as the API lists it."""

    name: str
    listen: str
    upstream: str
    enabled: bool
    toxics: tuple[Toxic, ...] = ()

    @property
    def port(self) -> int:
        """Where clients connect."""
        return int(self.listen.rpartition(":")[2])


class Toxiproxy:
    """One Toxiproxy server at `url` (http://host:port). Every call raises ToxiproxyError."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def proxy(self, name: str) -> Proxy:
        """One proxy with its toxics."""
        try:
            return msgspec.json.decode(await self._call("GET", f"/proxies/{name}"), type=Proxy)
        except msgspec.MsgspecError as error:
            raise ToxiproxyError(f"Toxiproxy describes {name} in an unknown way: {error}") from error

    async def add(self, proxy: str, toxic: Toxic) -> None:
        """Add a toxic to a proxy."""
        await self._call("POST", f"/proxies/{proxy}/toxics", msgspec.to_builtins(toxic))

    async def remove(self, proxy: str, name: str) -> None:
        """Remove a toxic; none of that name is fine."""
        await self._call("DELETE", f"/proxies/{proxy}/toxics/{name}", missing_ok=True)

    async def enable(self, proxy: str, enabled: bool) -> None:
        """Disabled, a proxy closes its connections and refuses new ones."""
        await self._call("POST", f"/proxies/{proxy}", {"enabled": enabled})

    async def lead_to(self, proxy: str, upstream: str) -> None:
        """Another server behind the proxy; its connections are closed."""
        await self._call("POST", f"/proxies/{proxy}", {"upstream": upstream})

    async def _call(
        self, method: str, path: str, body: Mapping[str, object] | None = None, *, missing_ok: bool = False
    ) -> bytes:
        try:
            async with self._session.request(method, self._url + path, json=body, timeout=CALL) as answer:
                text = await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ToxiproxyError(f"Toxiproxy at {self._url} did not answer: {error}") from error
        if answer.status >= 300 and not (missing_ok and answer.status == 404):
            raise ToxiproxyError(f"Toxiproxy refused {method} {path}: {answer.status} {text.decode(errors='replace')}")
        return text
