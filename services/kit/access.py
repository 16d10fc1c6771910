"""Whose API key a request carries. Only hashes are stored and looked up; what was found is remembered for a moment."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from starlette.requests import Request

from services.kit.errors import Problem

REMEMBERED_SECONDS = 10.0
"""How long a revoked API key may still work in a process that has seen it."""
REMEMBERED = 10_000


class Unauthorised(Problem):
    """401: no key, or one that nobody has."""

    def __init__(self) -> None:
        super().__init__(
            401, "unauthorised", "Send a valid API key as a bearer token", headers={"WWW-Authenticate": "Bearer"}
        )


def bearer(request: Request) -> str:
    """The key of the Authorization header. Raises Unauthorised without one."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key:
        raise Unauthorised
    return key


@dataclass(slots=True)
class ApiKeys:
    """`owner_of` finds the owner of a key by its SHA-256, None for nobody; `monotonic` is in seconds. One per process."""

    owner_of: Callable[[bytes], Awaitable[str | None]]
    monotonic: Callable[[], float]
    _known: dict[bytes, tuple[str, float]] = field(default_factory=dict)

    async def owner(self, key: str) -> str:
        """Raises Unauthorised, and what `owner_of` raises."""
        digest = hashlib.sha256(key.encode("utf-8", "replace")).digest()
        now = self.monotonic()
        known = self._known.get(digest)
        if known is not None and known[1] > now:
            return known[0]
        owner = await self.owner_of(digest)
        if owner is None:
            self._known.pop(digest, None)
            raise Unauthorised
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        self._known[digest] = (owner, now + REMEMBERED_SECONDS)
        return owner
