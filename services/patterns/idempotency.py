"""Idempotency keys: the same request sent again has the effect and the answer of the first one.

Semantics of Stripe's API and of the IETF draft `idempotency-key-header`: 400 for a missing or malformed key, 422 when the
key comes back with another request, 409 while the first one is still being worked on.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

import msgspec

_VISIBLE_ASCII = re.compile(rb"[\x21-\x7e]{1,255}")


def valid_key(raw: bytes) -> str | None:
    """The key if it is 1 to 255 visible ASCII characters, else None.

    It is opaque: compared byte by byte. The draft makes it a quoted string; here quotes belong to the key, so that `"a"`
    and `a` are two keys and neither kind of client is surprised by the other.
    """
    return raw.decode("ascii") if _VISIBLE_ASCII.fullmatch(raw) else None


def canonical_json(body: bytes) -> bytes:
    """The same bytes for the same JSON value, whatever its white space, escapes and order of members.

    In the spirit of RFC 8785. It differs where our bodies never go: members sort by code point and not by UTF-16 unit,
    and integers beyond 2^53 stay exact. Raises ValueError for what is not JSON.
    """
    try:
        return msgspec.json.encode(_integral(msgspec.json.decode(body)), order="sorted")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError("not JSON in UTF-8") from None


def _integral(value: object) -> object:
    """RFC 8785 writes 1.0 and 1e0 as 1."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _integral(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_integral(member) for member in value]
    return value


def fingerprint(endpoint: str, body: bytes) -> bytes:
    """SHA-256 over endpoint and canonical body: what a key is bound to. `endpoint` is method and path, with ids."""
    return hashlib.sha256(endpoint.encode() + b"\x00" + canonical_json(body or b"null")).digest()


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """The first answer, byte by byte."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What is stored under a key. `lease_over`: whoever worked on it has had its time (it may have died)."""

    fingerprint: bytes
    expires_at: datetime
    response: StoredResponse | None
    lease_over: bool


class Decision(Enum):
    """What to do with a request whose key is already there."""

    NEW = "new"
    REPLAY = "replay"
    IN_FLIGHT = "in_flight"
    MISMATCH = "mismatch"
    TAKE_OVER = "take_over"


def decide(record: KeyRecord | None, wanted: bytes, now: datetime) -> Decision:
    """The rule, for a request with fingerprint `wanted`. An expired record counts as none.

    MISMATCH comes before everything else, so that nobody learns another request's answer. TAKE_OVER: go on where the
    first one stopped, under the same bank reference.
    """
    if record is None or record.expires_at <= now:
        return Decision.NEW
    if record.fingerprint != wanted:
        return Decision.MISMATCH
    if record.response is not None:
        return Decision.REPLAY
    return Decision.TAKE_OVER if record.lease_over else Decision.IN_FLIGHT
