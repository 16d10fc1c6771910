"""The client's side of a connection, on which a status line counts, whatever comes after it.

aiohttp parses what arrives together as a whole: where a broken body or header follows in the segment of the status line,
nothing of the answer is seen. Here the head is handed over before the body is parsed, and where the head breaks off behind
its first line, that line is the answer.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from functools import partial
from typing import Any

from aiohttp import BaseConnector, ClientPayloadError, HttpVersion11
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_parser import RawResponseMessage
from aiohttp.streams import EMPTY_PAYLOAD
from multidict import CIMultiDict, CIMultiDictProxy

_HEAD_ENDS = re.compile(rb"\r?\n\r?\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: [^\r\n]*)?\r?\n")
_OVERLAP = 3
"""Bytes of one segment that may begin the end of a head."""
_LINE_BYTES = 512
_NO_HEADERS: CIMultiDictProxy[str] = CIMultiDictProxy(CIMultiDict())


class StatusFirst(ResponseHandler):
    """One connection; `install` makes a connector use them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._in_head = False
        self._line = self._last = b""

    def set_response_params(self, **parameters: Any) -> None:
        """The next bytes belong to the answer of a new request."""
        self._in_head = True
        self._line = self._last = b""
        super().set_response_params(**parameters)

    def data_received(self, data: bytes) -> None:
        while self._in_head and data:
            data = self._feed_head(data)
        if not data:
            return
        super().data_received(data)
        if self._exception is not None and self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(ClientPayloadError("the answer's body is broken"))

    def set_exception(self, exc: BaseException, *causes: BaseException) -> None:
        """Whatever ends the answer too early comes through here."""
        if self._in_head and (status := self._status()) is not None:
            self._in_head = False
            self.feed_data((_only(status), EMPTY_PAYLOAD))
        super().set_exception(exc, *causes)

    def _feed_head(self, data: bytes) -> bytes:
        """Parse what belongs to the head; what is left behind its end."""
        window = self._last + data
        end = _HEAD_ENDS.search(window)
        cut = len(data) if end is None else end.end() - len(self._last)
        head = data[:cut]
        self._last = window[-_OVERLAP:]
        self._line = (self._line + head)[:_LINE_BYTES]
        super().data_received(head)
        if end is not None:
            status = self._status()
            # A head of 1xx is followed by another one.
            self._in_head = self._in_head and status is not None and status < 200
            self._line = self._last = b""
        return data[cut:]

    def _status(self) -> int | None:
        line = _STATUS_LINE.match(self._line)
        return None if line is None else int(line[1])


def install(connector: BaseConnector) -> None:
    """Connections that it opens from now on are such ones."""
    make: Callable[[asyncio.AbstractEventLoop], ResponseHandler] = StatusFirst
    # There is no public way; the tests on raw sockets tell when there is another.
    connector._factory = partial(make, asyncio.get_running_loop())  # noqa: SLF001


def _only(status: int) -> RawResponseMessage:
    return RawResponseMessage(
        version=HttpVersion11,
        code=status,
        reason="",
        headers=_NO_HEADERS,
        raw_headers=(),
        should_close=True,
        compression=None,
        upgrade=False,
        chunked=False,
    )
