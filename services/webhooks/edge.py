"""What every route needs: who calls, whether there is room, what the query says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from starlette.requests import Request

from services.kit.access import ApiKeys, bearer
from services.kit.admission import Places, store_answers
from services.webhooks import metrics
from services.webhooks.handlers import Context


@dataclass(slots=True)
class Edge:
    """One per process."""

    context: Context
    keys: ApiKeys = field(init=False)
    places: Places = field(init=False)

    def __post_init__(self) -> None:
        self.places = Places(self.context.settings.max_in_flight, metrics.SHED.labels("busy").inc)
        self.keys = ApiKeys(self.context.endpoints.application_of, self.context.clock.monotonic)

    async def application(self, request: Request) -> str:
        """Whose request this is. Raises Unauthorised."""
        return await self.keys.owner(bearer(request))

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[None]:
        """Count a request in; raises Busy beyond the bound, when nothing has been done yet.

        Its body was read before: who sends slowly must not hold a place.
        """
        with self.places.one(), store_answers():
            yield
