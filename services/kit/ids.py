"""UUIDv7 (RFC 9562) in the database, TypeID (jetify-com/typeid 0.3) at the edge: `pay_01h455vb4pex5vsknk084sn02q`."""

from __future__ import annotations

import secrets
import time
from uuid import UUID

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUES = {letter: value for value, letter in enumerate(_ALPHABET)}
_LENGTH = 26


def uuid7(*, at_ms: int | None = None) -> UUID:
    """48 bits of Unix milliseconds, then 74 random bits: sorts by time, is not guessable."""
    milliseconds = time.time_ns() // 1_000_000 if at_ms is None else at_ms
    value = (milliseconds & (1 << 48) - 1) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 7 << 76
    value = value & ~(0x3 << 62) | 2 << 62
    return UUID(int=value)


def encode(prefix: str, value: UUID) -> str:
    """`pay` and a UUID give `pay_` and 26 letters of Crockford's base 32."""
    number = value.int
    letters = [_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5)]
    return f"{prefix}_{''.join(letters)}"


def decode(prefix: str, text: str) -> UUID | None:
    """The UUID, or None for anything that `encode` with this prefix cannot have made."""
    head, _, tail = text.rpartition("_")
    if head != prefix or len(tail) != _LENGTH or tail[0] > "7":
        return None
    number = 0
    for letter in tail:
        value = _VALUES.get(letter)
        if value is None:
            return None
        number = number << 5 | value
    return UUID(int=number)
