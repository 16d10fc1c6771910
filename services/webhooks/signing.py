"""Signatures of the Standard Webhooks specification 1.0: `v1` (HMAC-SHA256) and `v1a` (ed25519).

What is signed is `<webhook-id>.<webhook-timestamp>.<body>`, so an id must not contain a dot: with one, two different
messages could be the same signed bytes. Sign the very bytes that are sent, and sign each attempt anew: the timestamp is
the attempt's. Source: github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ID_HEADER = "webhook-id"
TIMESTAMP_HEADER = "webhook-timestamp"
SIGNATURE_HEADER = "webhook-signature"

TOLERANCE_SECONDS = 300
MAX_SIGNATURES = 16
"""What a receiver looks at; each ed25519 check costs some 0.1 ms, and anybody may send a long header."""

_ID = re.compile(r"[!-\-/-~]{1,255}", re.ASCII)
_TIMESTAMP = re.compile(r"[0-9]{1,12}", re.ASCII)
_SECRET_BYTES = range(24, 65)
_SEED_BYTES = 32
_PUBLIC_BYTES = 32
_SIGNATURE_BYTES = {"v1": 32, "v1a": 64}


class KeyFormatError(ValueError):
    """The text is not a key; the message says why and never repeats the text."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A shared secret of 24 to 64 bytes, written `whsec_<base64>`. Signs and verifies `v1`."""

    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.key) not in _SECRET_BYTES:
            raise KeyFormatError("a secret is whsec_ and the base64 of 24 to 64 bytes")

    @classmethod
    def generate(cls) -> Secret:
        """32 random bytes."""
        return cls(secrets.token_bytes(32))

    def text(self) -> str:
        """`whsec_...`"""
        return "whsec_" + _encoded(self.key)

    def sign(self, content: bytes) -> str:
        """`v1,<base64>` of the content."""
        return "v1," + _encoded(hmac.digest(self.key, content, "sha256"))

    def accepts(self, version: str, signature: bytes, content: bytes) -> bool:
        """Constant-time comparison."""
        return version == "v1" and hmac.compare_digest(hmac.digest(self.key, content, "sha256"), signature)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """What an owner gives away, written `whpk_<base64>`. Verifies `v1a`."""

    key: bytes

    def __post_init__(self) -> None:
        if len(self.key) != _PUBLIC_BYTES:
            raise KeyFormatError("a public key is whpk_ and the base64 of 32 bytes")

    def text(self) -> str:
        """`whpk_...`"""
        return "whpk_" + _encoded(self.key)

    def accepts(self, version: str, signature: bytes, content: bytes) -> bool:
        """ed25519 needs no secret here, so nothing leaks by time."""
        if version != "v1a":
            return False
        try:
            Ed25519PublicKey.from_public_bytes(self.key).verify(signature, content)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """An ed25519 key, written `whsk_<base64>` of seed and public key (64 bytes; the seed alone is read too). Signs `v1a`."""

    seed: bytes = field(repr=False)
    _signer: Ed25519PrivateKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.seed) != _SEED_BYTES:
            raise KeyFormatError("the seed of a private key has 32 bytes")
        object.__setattr__(self, "_signer", Ed25519PrivateKey.from_private_bytes(self.seed))

    @classmethod
    def generate(cls) -> PrivateKey:
        """A new key pair."""
        return cls(secrets.token_bytes(_SEED_BYTES))

    def public(self) -> PublicKey:
        """What receivers verify with."""
        return PublicKey(self._signer.public_key().public_bytes_raw())

    def text(self) -> str:
        """`whsk_...`"""
        return "whsk_" + _encoded(self.seed + self.public().key)

    def sign(self, content: bytes) -> str:
        """`v1a,<base64>` of the content."""
        return "v1a," + _encoded(self._signer.sign(content))


SigningKey: TypeAlias = Secret | PrivateKey
VerifyingKey: TypeAlias = Secret | PublicKey


def parse_signing_key(text: str) -> SigningKey:
    """A `whsec_` or `whsk_` key. Raises KeyFormatError."""
    prefix, key = _decoded_key(text)
    if prefix == "whsec_":
        return Secret(key)
    if prefix == "whsk_":
        return _private_key(key)
    raise KeyFormatError("a signing key begins with whsec_ or whsk_")


def parse_verifying_key(text: str) -> VerifyingKey:
    """A `whsec_` or `whpk_` key. Raises KeyFormatError."""
    prefix, key = _decoded_key(text)
    if prefix == "whsec_":
        return Secret(key)
    if prefix == "whpk_":
        return PublicKey(key)
    raise KeyFormatError("a verifying key begins with whsec_ or whpk_")


def _private_key(key: bytes) -> PrivateKey:
    if len(key) not in (_SEED_BYTES, _SEED_BYTES + _PUBLIC_BYTES):
        raise KeyFormatError("a private key is whsk_ and the base64 of 32 or 64 bytes")
    private = PrivateKey(key[:_SEED_BYTES])
    if key[_SEED_BYTES:] not in (b"", private.public().key):
        raise KeyFormatError("the two halves of the private key do not belong together")
    return private


def _decoded_key(text: str) -> tuple[str, bytes]:
    head, separator, encoded = text.partition("_")
    key = _decoded(encoded)
    if not separator or key is None:
        raise KeyFormatError("a key is whsec_, whsk_ or whpk_ and standard base64")
    return head + separator, key


def _encoded(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def sign(message_id: str, timestamp: int, body: bytes, keys: Sequence[SigningKey]) -> dict[str, str]:
    """The three headers for this attempt, one signature per key in the order given: the newest first, during rotation.

    `timestamp` is the attempt's own time in Unix seconds. Raises ValueError for an id that is not 1 to 255 visible
    ASCII characters without a dot, a negative time, or no key.
    """
    if not _ID.fullmatch(message_id):
        raise ValueError("a message id is 1 to 255 visible ASCII characters without a dot")
    if not 0 <= timestamp < 10**12:
        raise ValueError("a timestamp is Unix seconds, not negative")
    if not keys:
        raise ValueError("signing needs a key")
    content = _content(message_id, str(timestamp), body)
    return {
        ID_HEADER: message_id,
        TIMESTAMP_HEADER: str(timestamp),
        SIGNATURE_HEADER: " ".join(key.sign(content) for key in keys),
    }


def _content(message_id: str, timestamp: str, body: bytes) -> bytes:
    return f"{message_id}.{timestamp}.".encode() + body


class Verification(StrEnum):
    """True in a condition only if the message is genuine; each other value is a reason to refuse it.

    `malformed_signature`: there is no well-formed signature of a version that we know.
    """

    VERIFIED = "verified"
    MISSING_HEADER = "missing_header"
    MALFORMED_ID = "malformed_id"
    MALFORMED_TIMESTAMP = "malformed_timestamp"
    MALFORMED_SIGNATURE = "malformed_signature"
    TOO_OLD = "too_old"
    TOO_NEW = "too_new"
    NO_MATCHING_SIGNATURE = "no_matching_signature"

    def __bool__(self) -> bool:
        return self is Verification.VERIFIED


def verify(
    headers: Mapping[str, str],
    body: bytes,
    keys: Sequence[VerifyingKey],
    *,
    now: float,
    tolerance_seconds: float = TOLERANCE_SECONDS,
) -> Verification:
    """Whether one of the signatures is of one of the keys. Never raises, whatever the headers hold.

    `body` is the bytes as received, `now` Unix seconds; a message may be `tolerance_seconds` old, and as much ahead of
    the clock. Header names in any case. Signatures of unknown versions are passed over, as the specification asks.
    """
    values = {name.lower(): value for name, value in headers.items()}
    message_id, timestamp, signatures = (
        values.get(name, "") for name in (ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER)
    )
    if not (message_id and timestamp and signatures):
        return Verification.MISSING_HEADER
    if not _ID.fullmatch(message_id):
        return Verification.MALFORMED_ID
    if not _TIMESTAMP.fullmatch(timestamp):
        return Verification.MALFORMED_TIMESTAMP
    if (untimely := _untimely(int(timestamp), now, tolerance_seconds)) is not None:
        return untimely
    return _matching(signatures, _content(message_id, timestamp, body), keys)


def _untimely(timestamp: int, now: float, tolerance_seconds: float) -> Verification | None:
    if timestamp < now - tolerance_seconds:
        return Verification.TOO_OLD
    if timestamp > now + tolerance_seconds:
        return Verification.TOO_NEW
    return None


def _matching(header: str, content: bytes, keys: Sequence[VerifyingKey]) -> Verification:
    parsed = [_signature(part) for part in header.split(" ", MAX_SIGNATURES)[:MAX_SIGNATURES]]
    known = [found for found in parsed if found is not None]
    if not known:
        return Verification.MALFORMED_SIGNATURE
    matches = [key.accepts(version, signature, content) for version, signature in known for key in keys]
    return Verification.VERIFIED if any(matches) else Verification.NO_MATCHING_SIGNATURE


def _signature(part: str) -> tuple[str, bytes] | None:
    version, _, encoded = part.partition(",")
    signature = _decoded(encoded)
    if signature is None or len(signature) != _SIGNATURE_BYTES.get(version):
        return None
    return version, signature
