"""One call to the bank and what misbehaves in it: refused, late, failing before or after, or never answered."""

from __future__ import annotations

import asyncio
import logging

from starlette.requests import Request
from starlette.responses import Response

from services.kit import postgres
from services.kit.clock import Clock
from services.kit.errors import Problem, Unavailable
from services.simulators.bank import metrics
from services.simulators.bank.bank import Result
from services.simulators.bank.behaviours import Behaviour, LosesAnswer, Switchboard
from services.simulators.bank.store import RequestLine
from services.simulators.bank.writer import ChargeWriter, QueueFullError, WriteFailedError

log = logging.getLogger(__name__)

DATABASE_ERRORS = (*postgres.DATABASE_ERRORS, QueueFullError, WriteFailedError)


class Call:
    """`enter`, then the command, then `leave`; draws are made in `enter`, so that the commit can record them."""

    __slots__ = (
        "_clock", "_declines", "_error_after", "_loses_answer", "_names", "_path", "_reference", "_source", "_switches", "_writer",
        "shard",
    )  # fmt: skip

    def __init__(
        self,
        path: str,
        reference: str | None,
        source: str | None,
        *,
        switches: Switchboard,
        writer: ChargeWriter,
        clock: Clock,
        shard: int | None = None,
    ) -> None:
        self.shard = shard
        self._path = path
        self._reference = reference
        self._source = source
        self._switches = switches
        self._writer = writer
        self._clock = clock
        self._names: list[str] = []
        self._declines: Behaviour | None = None
        self._error_after: Behaviour | None = None
        self._loses_answer: Behaviour | None = None

    @property
    def declined(self) -> bool:
        """Whether the bank refuses this one."""
        return self._declines is not None

    @property
    def behaviour(self) -> str | None:
        """Names of what strikes this call, for the request log."""
        return ",".join(self._names) or None

    async def enter(self, *, moves_money: bool) -> None:
        """Refuse, delay or fail the call before anything is done. Raises Problem."""
        if (limit := self._switches.refused(self._clock.monotonic())) is not None:
            self._names.append(limit.name)
            self._strike(limit, None)
            self.note("refused")
            raise Problem(429, "rate_limited", "Too many requests", headers={"Retry-After": "1"})
        if (delay := self._switches.delay()) is not None:
            behaviour, seconds = delay
            self._strike(behaviour, None)
            await asyncio.sleep(seconds)
        if moves_money:
            self._draw()

    def _draw(self) -> None:
        if (before := self._switches.struck("error_before")) is not None:
            self._names.append(before.name)
            self._strike(before, None)
            self.note("failed")
            raise Problem(500, "internal_error", "Something went wrong at the bank")
        self._declines = self._switches.struck("declines")
        self._error_after = self._switches.struck("error_after")
        self._loses_answer = self._switches.struck("loses_answer")
        drawn = (self._declines, self._error_after, self._loses_answer)
        self._names.extend(behaviour.name for behaviour in drawn if behaviour is not None)

    def _strike(self, behaviour: Behaviour, subject: str | None) -> None:
        metrics.BEHAVIOUR_HITS.labels(behaviour.name).inc()
        behaviour.note(self._reference or subject or self._source)

    def strike(self, behaviour: Behaviour) -> None:
        """A behaviour that the route itself applies has taken effect."""
        self._names.append(behaviour.name)
        self._strike(behaviour, None)

    def note(self, outcome: str) -> None:
        """Put the call into the request log."""
        line = RequestLine(
            self._clock.now(), self._path, self._reference, self._source, outcome, self.behaviour, self.shard
        )
        self._writer.note(line)

    def failed(self, error: BaseException) -> Problem:
        """The record could not be written: nothing was done, or nobody knows."""
        log.warning("the record cannot be written", extra={"error": f"{type(error).__name__}: {error}"})
        self.note("failed")
        if isinstance(error, QueueFullError):
            return Unavailable("Too many charges wait to be written; this one was not taken.")
        title = "The bank does not know whether this was done"
        return Problem(504, "outcome_unknown", title, headers={"Retry-After": "1"})

    async def leave(self, request: Request, result: Result, status: int) -> Response:
        """The answer, unless it is spoilt or lost on the way."""
        if self._declines is not None and result.fresh:
            self._strike(self._declines, result.subject)
        if self._error_after is not None:
            self._strike(self._error_after, result.subject)
            raise Problem(500, "internal_error", "Something went wrong at the bank")
        if self._loses_answer is not None:
            self._strike(self._loses_answer, result.subject)
            await self._hold(request, self._loses_answer)
            raise Problem(504, "gateway_timeout", "The bank did not answer in time")
        return Response(result.answer, status, media_type="application/json")

    @staticmethod
    async def _hold(request: Request, behaviour: Behaviour) -> None:
        parameters = behaviour.parameters
        assert isinstance(parameters, LosesAnswer)
        try:
            async with asyncio.timeout(parameters.hold_seconds):
                # The body has been read, so the next message is that the client has hung up.
                await request.receive()
        except TimeoutError:
            return
