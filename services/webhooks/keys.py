"""Signing keys of an endpoint, sealed at rest. The newest signs first; rotated ones go on signing until their time is over."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from uuid import UUID

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.webhooks.signing import SigningKey, parse_signing_key

NONCE_BYTES = 12
KEPT = 4
"""Keys of one endpoint, the current one included; a receiver need not look at more signatures."""
CACHE = 20_000


class SealBroken(Exception):
    """The sealed keys are not of this endpoint, or were sealed under another WEBHOOKS_SECRETS_KEY."""


class Key(msgspec.Struct, frozen=True):
    """`text` is whsec_ or whsk_; `until` the Unix second after which it signs no more, None for the current one."""

    text: str
    until: float | None = None

    def __repr__(self) -> str:
        return f"Key(until={self.until})"


class Keyring:
    """Seals with AES-256-GCM, bound to the endpoint's id, and remembers what it has opened."""

    def __init__(self, secret: str) -> None:
        self._box = AESGCM(hashlib.sha256(b"webhooks endpoint keys\x00" + secret.encode()).digest())
        self._opened: dict[bytes, tuple[tuple[float | None, SigningKey], ...]] = {}

    def seal(self, endpoint: UUID, keys: Sequence[Key]) -> bytes:
        """Nonce and ciphertext."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._box.encrypt(nonce, msgspec.json.encode(list(keys)), endpoint.bytes)

    def open(self, endpoint: UUID, sealed: bytes) -> list[Key]:
        """Newest first. Raises SealBroken."""
        try:
            plain = self._box.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], endpoint.bytes)
        except (InvalidTag, ValueError):
            raise SealBroken from None
        return msgspec.json.decode(plain, type=list[Key])

    def signing(self, endpoint: UUID, sealed: bytes, now: float) -> list[SigningKey]:
        """What signs at this Unix time, the newest first. Raises SealBroken."""
        opened = self._opened.get(sealed)
        if opened is None:
            if len(self._opened) >= CACHE:
                self._opened.clear()
            opened = tuple((key.until, parse_signing_key(key.text)) for key in self.open(endpoint, sealed))
            self._opened[sealed] = opened
        return [key for until, key in opened if until is None or until > now]


def rotated(keys: Sequence[Key], new: str, now: float, overlap_seconds: float) -> list[Key]:
    """`new` first; the current one goes on for the overlap; those whose time is over go, and the oldest beyond KEPT."""
    until = now + overlap_seconds
    old = [Key(key.text, until if key.until is None else key.until) for key in keys if key.text != new]
    return [Key(new), *(key for key in old if key.until is not None and key.until > now)][:KEPT]
