"""How much one client may ask for. Who a client is: its address, or what a gateway that we trust says of it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from math import ceil

from starlette.requests import Request

from services.patterns.token_bucket import TokenBucket
from services.search.problems import RateLimited

LONGEST_NAME = 64


class ClientLimits:
    """A token bucket a client, of the `most` seen last: `rate` requests a second, `burst` at once."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float], *, most: int = 10_000) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._most = most
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def admit(self, client: str) -> None:
        """Raises RateLimited."""
        bucket = self._buckets.get(client)
        if bucket is None:
            bucket = self._buckets[client] = TokenBucket(self._rate, self._burst, self._clock)
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(client)
        if not bucket.take():
            raise RateLimited(max(1, ceil(1 / self._rate)))


def client_of(request: Request, header: str) -> str:
    """`header` is one that only a gateway can set, or empty: then the peer's address counts."""
    named = request.headers.get(header, "")[:LONGEST_NAME] if header else ""
    if named:
        return f"name {named}"
    return f"address {request.client.host if request.client else ''}"
