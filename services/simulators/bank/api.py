"""Routes: HTTP to a command and back."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from services.kit.clock import Clock
from services.kit.errors import Problem
from services.kit.http import read_json
from services.kit.postgres import Pool
from services.simulators.bank import metrics, settlement, store
from services.simulators.bank.bank import Bank, NoSuch, Result
from services.simulators.bank.behaviours import DuplicateWebhooks, SettlementMistakes, StatusLags, Switchboard
from services.simulators.bank.call import DATABASE_ERRORS, Call
from services.simulators.bank.domain import Kind, shard_of
from services.simulators.bank.schemas import (
    AmountRequest,
    ChargeRequest,
    VoidRequest,
)
from services.simulators.bank.webhooks import Webhooks
from services.simulators.bank.workers import WorkerPool
from services.simulators.bank.writer import ChargeWriter


@dataclass(frozen=True, slots=True)
class Context:
    """All that a route needs; the lifespan builds it."""

    key: bytes
    bank: Bank
    pool: Pool
    writer: ChargeWriter
    switches: Switchboard
    workers: WorkerPool
    webhooks: Webhooks | None
    clock: Clock
    shards: Mapping[int, int]

    def call(self, request: Request, reference: str | None = None, source: str | None = None) -> Call:
        """Begin a call."""
        shard = self.shards.get((request.scope.get("server") or ("", 0))[1])
        if shard is not None:
            metrics.SHARD_CALLS.labels(shard).inc()
        return Call(
            request.url.path,
            reference,
            source,
            switches=self.switches,
            writer=self.writer,
            clock=self.clock,
            shard=shard,
        )

    def refuse_strangers(self, call: Call, source: str) -> None:
        """A shard serves its own cards only. Raises a 421 problem."""
        if call.shard is not None and call.shard != shard_of(source, len(self.shards)):
            call.note("wrong_shard")
            raise Problem(421, "wrong_shard", "This card belongs to another shard")


def _open(request: Request) -> Context:
    """The state, for callers with the right key. Raises a 401 problem."""
    context: Context = request.app.state.context
    given = request.headers.get("authorization", "").encode("latin-1")
    if not hmac.compare_digest(given, b"Bearer " + context.key):
        raise Problem(401, "unauthorised", "Send the API key as a bearer token", headers={"WWW-Authenticate": "Bearer"})
    return context


async def _answer(
    context: Context,
    request: Request,
    call: Call,
    reference: str | None,
    command: Callable[[], Awaitable[Result]],
    *,
    queues: bool = False,
) -> Response:
    await call.enter(moves_money=True)
    execute = partial(_execute, context, call, reference, command)
    if queues and context.workers.used:
        result = await context.workers.serve(call, execute, request.receive)
    else:
        result = await execute()
    return await call.leave(request, result, 201 if result.fresh else 200)


async def _execute(
    context: Context, call: Call, reference: str | None, command: Callable[[], Awaitable[Result]]
) -> Result:
    """The work itself, which goes on without a caller."""
    try:
        result = await command()
    except DATABASE_ERRORS as error:
        raise call.failed(error) from None
    except Problem as problem:
        call.note(problem.code)
        raise
    if result.fresh:
        _send_webhook(context, reference, result)
    return result


def _send_webhook(context: Context, reference: str | None, result: Result) -> None:
    if context.webhooks is None:
        return
    switches = context.switches
    on = switches.active("webhooks")
    duplicates = switches.parameters("duplicate_webhooks", DuplicateWebhooks)
    if on is None and duplicates is None:
        return
    if on is not None:
        on.note(reference or result.subject)
    if duplicates is not None:
        duplicates[0].note(reference or result.subject)
    context.webhooks.enqueue(reference, result.answer, duplicates[1].copies if duplicates else 1)


async def charge(request: Request) -> Response:
    """Charge a source. With a reference at most once, without one each time."""
    context = _open(request)
    wanted = await read_json(request, ChargeRequest)
    call = context.call(request, wanted.reference, wanted.source)
    context.refuse_strangers(call, wanted.source)

    async def command() -> Result:
        result = await context.bank.charge(wanted, declined=call.declined, behaviour=call.behaviour, shard=call.shard)
        if not result.fresh:
            call.note(result.outcome)
        return result

    return await _answer(context, request, call, wanted.reference, command, queues=True)


async def _operate(request: Request, kind: Kind, amount: int | None, reference: str | None) -> Response:
    context = _open(request)
    charge_id: str = request.path_params["charge_id"]
    call = context.call(request, reference)

    async def command() -> Result:
        result = await context.bank.operate(kind, charge_id, amount, reference, declined=call.declined)
        call.note(result.outcome)
        return result

    return await _answer(context, request, call, reference, command)


async def capture(request: Request) -> Response:
    """Capture an authorised charge once, in whole or in part; the rest is released."""
    _open(request)
    wanted = await read_json(request, AmountRequest)
    return await _operate(request, Kind.CAPTURE, wanted.amount, wanted.reference)


async def void(request: Request) -> Response:
    """Release an authorised charge."""
    _open(request)
    wanted = await read_json(request, VoidRequest)
    return await _operate(request, Kind.VOID, None, wanted.reference)


async def refund(request: Request) -> Response:
    """Pay back part or all of what was captured."""
    _open(request)
    wanted = await read_json(request, AmountRequest)
    return await _operate(request, Kind.REFUND, wanted.amount, wanted.reference)


async def status(request: Request) -> Response:
    """The stored answer of a reference. 404 means: not known now, which is never certainty."""
    context = _open(request)
    reference: str = request.path_params["reference"]
    call = context.call(request, reference)
    await call.enter(moves_money=False)
    lag = context.switches.parameters("status_lags", StatusLags)
    try:
        return await _status(context, request, call, reference, lag[1].seconds if lag else 0.0)
    except NoSuch:
        if lag is not None and await store.seen(context.pool, reference) is not None:
            call.strike(lag[0])
        call.note("not_found")
        raise
    except DATABASE_ERRORS as error:
        raise call.failed(error) from None


async def _status(context: Context, request: Request, call: Call, reference: str, lag_seconds: float) -> Response:
    result = await context.bank.status(reference, older_than_seconds=lag_seconds)
    call.note(result.outcome)
    return await call.leave(request, result, 200)


async def cancel(request: Request) -> Response:
    """Make sure that a reference not seen so far never is executed; final. Or: it was executed, and how."""
    context = _open(request)
    reference: str = request.path_params["reference"]
    if not 1 <= len(reference) <= 255 or not all("!" <= letter <= "~" for letter in reference):
        raise Problem(422, "invalid_request", "A reference is 1 to 255 visible ASCII characters")
    call = context.call(request, reference)
    await call.enter(moves_money=False)
    try:
        result = await context.bank.cancel(reference)
    except DATABASE_ERRORS as error:
        raise call.failed(error) from None
    call.note(result.outcome)
    return await call.leave(request, result, 200)


async def settlement_file(request: Request) -> Response:
    """`YYYY-MM-DD.csv`: each capture and refund of that day (UTC), as the bank would have us believe."""
    context = _open(request)
    day = _day(request.path_params["name"])
    found = context.switches.parameters("settlement_mistakes", SettlementMistakes)
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    since = start - timedelta(days=1) if found else start
    mistakes = found[1] if found else SettlementMistakes()
    text = [settlement.HEADER]
    try:
        async for rows in store.settled_between(context.pool, since, start + timedelta(days=1)):
            settled = settlement.settle(day, (settlement.Line(*row) for row in rows), mistakes)
            text.append(settlement.as_csv(settled.lines))
            if found:
                for planted in settled.planted:
                    found[0].note_once(f"{planted.mistake}:{planted.charge_id}")
    except DATABASE_ERRORS as error:
        raise context.call(request).failed(error) from None
    return Response("".join(text), media_type="text/csv; charset=utf-8")


def _day(name: str) -> date:
    try:
        return date.fromisoformat(name.removesuffix(".csv"))
    except ValueError:
        raise NoSuch from None


class _Route(Route):
    """Starlette's rather than FastAPI's: the bank shares the machine with what is measured, and this costs 40 % less."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Name the route for the metrics, as FastAPI's do."""
        match, child = super().matches(scope)
        if match is Match.FULL:
            child["route"] = self
        return match, child


ROUTES = (
    _Route("/v1/charges", charge, methods=["POST"]),
    _Route("/v1/operations/{reference:path}/cancel", cancel, methods=["POST"]),
    _Route("/v1/operations/{reference:path}", status, methods=["GET"]),
    _Route("/v1/charges/{charge_id}/capture", capture, methods=["POST"]),
    _Route("/v1/charges/{charge_id}/void", void, methods=["POST"]),
    _Route("/v1/charges/{charge_id}/refunds", refund, methods=["POST"]),
    _Route("/v1/settlements/{name}", settlement_file, methods=["GET"]),
)
