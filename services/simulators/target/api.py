"""The route: headers of a scheduler's call to a command, and the answer."""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import dataclass
from datetime import datetime

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.kit.errors import Problem, Unavailable
from services.kit.http import json_response
from services.kit.postgres import DATABASE_ERRORS, Pool
from services.simulators.target import metrics, store
from services.simulators.target.behaviours import Switchboard
from services.simulators.target.domain import Call, Checks, Reason, Target

log = logging.getLogger(__name__)

NAME = re.compile(r"[!-~]{1,200}")
LARGEST_EPOCH = 2**63 - 1

router = APIRouter()


class InvalidHeader(Problem):
    def __init__(self, name: str, allowed: str) -> None:
        super().__init__(422, "invalid_header", f"{name} is missing or malformed", detail=f"{name} is {allowed}.")


class StaleEpoch(Problem):
    def __init__(self, highest: int | None) -> None:
        super().__init__(
            409,
            "stale_epoch",
            "A newer leader has been here",
            detail="Nothing was done. Step down: this epoch is below the highest that was seen.",
            extra={"highest_epoch": highest},
        )


@dataclass(frozen=True, slots=True)
class Context:
    """What the route needs."""

    pool: Pool
    switches: Switchboard
    remembers_seconds: float


@router.post("/v1/effects")
async def effect(request: Request) -> Response:
    """The target that checks both."""
    return await _take(request, Target.BOTH)


@router.post("/v1/effects/{target}")
async def effect_elsewhere(request: Request, target: str) -> Response:
    """The targets that check only one thing, to see what that costs."""
    if target not in list(Target):
        raise Problem(404, "no_such_target", "There is no such target", detail=f"There are {[*Target]}.")
    return await _take(request, Target(target))


async def _take(request: Request, target: Target) -> Response:
    context: Context = request.app.state.context
    call = read_call(request, target)
    await request.body()
    await asyncio.sleep(context.switches.hold(target, call.run_id or call.job_id))
    try:
        taken = await store.take(context.pool, call, _checks(target, context.switches), context.remembers_seconds)
    except DATABASE_ERRORS as error:
        log.warning("the effect could not be recorded", extra={"error": type(error).__name__})
        raise Unavailable("The target's record cannot be reached; nothing was done.") from None
    metrics.CALLS.labels(target.value, taken.reason.value).inc()
    await _strike(context.switches, call, taken)
    if taken.reason is Reason.STALE_EPOCH:
        raise StaleEpoch(taken.highest_epoch)
    return json_response(200, {"applied": taken.applied, "reason": taken.reason.value})


def _checks(target: Target, switches: Switchboard) -> Checks:
    checks = Checks.of(target)
    return Checks(
        dedup=checks.dedup and switches.active("without_dedup") is None,
        fencing=checks.fencing and switches.active("without_fencing") is None,
    )


async def _strike(switches: Switchboard, call: Call, taken: store.Taken) -> None:
    name = {Reason.DUPLICATE_RUN: "without_dedup", Reason.STALE_EPOCH: "without_fencing"}.get(
        taken.spared or Reason.APPLIED
    )
    if name is not None and (off := switches.active(name)) is not None:
        off.note(call.run_id or call.job_id)
    if (delay := switches.answer_delay()) is not None:
        behaviour, seconds = delay
        behaviour.note(call.run_id or call.job_id)
        await asyncio.sleep(seconds)


def read_call(request: Request, target: Target) -> Call:
    """The call from its headers. Raises InvalidHeader."""
    return Call(
        target=target,
        job_id=_name(request, "Cron-Job-Id", required=True) or "",
        scheduled_for=_moment(request),
        run_id=_name(request, "Cron-Run-Id", required=False),
        epoch=_epoch(request),
    )


def _name(request: Request, header: str, *, required: bool) -> str | None:
    value = request.headers.get(header)
    if value is None and not required:
        return None
    if value is None or NAME.fullmatch(value) is None:
        raise InvalidHeader(header, "1 to 200 printable ASCII characters without spaces")
    return value


def _moment(request: Request) -> str:
    value = request.headers.get("Cron-Scheduled-For", "")
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise InvalidHeader("Cron-Scheduled-For", "an RFC 3339 time with its zone") from None
    if moment.tzinfo is None or len(value) > 40:
        raise InvalidHeader("Cron-Scheduled-For", "an RFC 3339 time with its zone")
    return value


def _epoch(request: Request) -> int | None:
    value = request.headers.get("Cron-Epoch")
    if value is None:
        return None
    if not (value.isascii() and value.isdigit()) or len(value) > 19 or int(value) > LARGEST_EPOCH:
        raise InvalidHeader("Cron-Epoch", f"an integer from 0 to {LARGEST_EPOCH}")
    return int(value)
