"""The switches of the lab: /lab/behaviours. Exists in the lab profile only."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from services.kit.errors import Problem
from services.kit.http import json_response
from services.simulators.bank.behaviours import KINDS, Switchboard

router = APIRouter(prefix="/lab", include_in_schema=False)


def _switches(request: Request) -> Switchboard:
    switches: Switchboard = request.app.state.switches
    return switches


def _unknown(name: str) -> Problem:
    return Problem(
        404, "no_such_behaviour", "There is no such behaviour", detail=f"{name!r} is not among {sorted(KINDS)}"
    )


@router.get("/behaviours")
async def listing(request: Request) -> Response:
    """All that were ever on, with their receipts."""
    return json_response(200, _switches(request).receipts())


@router.put("/behaviours/{name}")
async def put(request: Request, name: str) -> Response:
    """Switch on, with hits at zero."""
    if name not in KINDS:
        raise _unknown(name)
    try:
        _switches(request).put(name, await request.body())
    except msgspec.ValidationError as error:
        raise Problem(422, "invalid_request", "These parameters do not fit", detail=str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Problem(400, "invalid_json", "The body is not JSON in UTF-8") from None
    return Response(status_code=204)


@router.delete("/behaviours/{name}")
async def delete(request: Request, name: str) -> Response:
    """Switch off; the receipt stays."""
    if name not in KINDS:
        raise _unknown(name)
    _switches(request).delete(name)
    return Response(status_code=204)
