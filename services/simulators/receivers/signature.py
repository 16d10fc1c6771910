"""The receivers' own check of Standard Webhooks' `v1`, apart from the sender's code: what one receiver would write."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

TOLERANCE_SECONDS = 300


def secret_of(receiver: int, master: str) -> str:
    """What the owner of a receiver gives as its endpoint's secret."""
    return "whsec_" + base64.b64encode(_key(receiver, master)).decode()


def _key(receiver: int, master: str) -> bytes:
    return hashlib.sha256(f"{master}/{receiver}".encode()).digest()


class Verifier:
    """Holds the keys, because a thousand receivers are asked thousands of times a second."""

    def __init__(self, master: str, count: int) -> None:
        self._keys = [_key(receiver, master) for receiver in range(count + 1)]

    def genuine(self, receiver: int, headers: dict[bytes, bytes], body: bytes, now: float) -> bool:
        """Whether one `v1` signature is this receiver's, of a time within five minutes of `now` (Unix seconds)."""
        message_id, timestamp = headers.get(b"webhook-id", b""), headers.get(b"webhook-timestamp", b"")
        if not message_id or not timestamp.isdigit() or len(timestamp) > 12:
            return False
        if abs(now - int(timestamp)) > TOLERANCE_SECONDS:
            return False
        expected = hmac.digest(self._keys[receiver], message_id + b"." + timestamp + b"." + body, "sha256")
        return any(
            hmac.compare_digest(expected, _decoded(encoded))
            for version, _, encoded in (part.partition(b",") for part in headers.get(b"webhook-signature", b"").split())
            if version == b"v1"
        )


def _decoded(encoded: bytes) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error:
        return b""
