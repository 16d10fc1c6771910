"""A TCP proxy that loses what goes one way and keeps the connection, as a broken firewall does."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Literal

Direction = Literal["requests", "answers"]


@dataclass
class OneWayProxy:
    """In front of `port`. `lose` a direction, `heal` by ending the connections that lost something."""

    port: int
    lost: set[str] = field(default_factory=set)
    bytes_lost: int = 0
    _server: asyncio.Server | None = None
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)
    _pumps: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> int:
        """The proxy's own port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def lose(self, direction: Direction) -> None:
        self.lost.add(direction)

    def heal(self) -> None:
        self.lost.clear()
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    async def stop(self) -> None:
        self.heal()
        if self._server is not None:
            self._server.close()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._writers += [writer, upstream_writer]
        for pump in (self._pump(reader, upstream_writer, "requests"), self._pump(upstream_reader, writer, "answers")):
            task = asyncio.create_task(pump)
            self._pumps.add(task)
            task.add_done_callback(self._pumps.discard)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: str) -> None:
        try:
            while data := await reader.read(65536):
                if direction in self.lost:
                    self.bytes_lost += len(data)
                else:
                    writer.write(data)
                    await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()
