"""Where the next page begins: signed, bound to its query and to the concrete index that the first page read.

A page is found by `search_after` and a total order, so deep pages cost what the first one does, and no page repeats or misses
a product because an alias was swapped: the old index is still read, until it is gone. Scores of one index move while it is
written to, which could bring a product back; so the cursor remembers what was shown last (four bytes each).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import zlib
from collections.abc import Iterable
from hashlib import sha256

import msgspec

from services.search.problems import InvalidCursor
from services.search.query.build import Matching

LONGEST = 4096
REMEMBERED = 300
"""Shown products that a cursor knows, the last ones."""
_MARK = 16


class Cursor(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """`after` are the last hit's sort values; `at` the instant, in seconds, by which all its pages judge age."""

    index: str
    matching: Matching
    at: int
    ranking: str
    query: bytes
    after: list[float | int | str | None]
    shown: bytes = b""

    def has_shown(self, identity: str) -> bool:
        """Whether this product was on a page before. One in 10^7 is taken for another."""
        mark = _mark(identity)
        return any(self.shown[place : place + 4] == mark for place in range(0, len(self.shown), 4))


def fingerprint(key: tuple[object, ...]) -> bytes:
    """Of the query that a cursor belongs to."""
    return sha256(repr(key).encode("utf-8", "replace")).digest()[:8]


def remembered(before: bytes, identities: Iterable[str]) -> bytes:
    """What was shown, with another page."""
    return (before + b"".join(_mark(each) for each in identities))[-4 * REMEMBERED :]


def _mark(identity: str) -> bytes:
    return zlib.crc32(identity.encode()).to_bytes(4)


class Cursors:
    """Writes and reads them under one key."""

    def __init__(self, key: bytes) -> None:
        self._key = sha256(b"search cursors\x00" + key).digest()

    def write(self, cursor: Cursor) -> str:
        """Letters, digits, - and _."""
        body = zlib.compress(msgspec.msgpack.encode(cursor), 1)
        return base64.urlsafe_b64encode(self._sign(body) + body).rstrip(b"=").decode()

    def read(self, text: str, query: bytes) -> Cursor:
        """Raises InvalidCursor for what we did not write, or wrote for another query."""
        if len(text) > LONGEST or not text.isascii():
            raise InvalidCursor("It is none of ours: take next_cursor of an earlier page as it is.")
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        mark, body = raw[:_MARK], raw[_MARK:]
        if not hmac.compare_digest(mark, self._sign(body)):
            raise InvalidCursor("It is none of ours: take next_cursor of an earlier page as it is.")
        try:
            cursor = msgspec.msgpack.decode(zlib.decompress(body), type=Cursor)
        except (msgspec.DecodeError, zlib.error):
            raise InvalidCursor("It is of an earlier version of this service; ask for the first page again.") from None
        if cursor.query != query:
            raise InvalidCursor("It belongs to another query: text, filters, language and sort stay the same.")
        return cursor

    def _sign(self, body: bytes) -> bytes:
        return hmac.new(self._key, body, sha256).digest()[:_MARK]
