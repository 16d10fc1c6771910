"""The switches of a simulator: behaviours that a lab turns on and off at /lab/behaviours, each with its receipt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Generic, TypeVar

import msgspec
from fastapi import APIRouter, Request
from msgspec import Struct
from starlette.responses import Response

from services.kit.errors import Problem
from services.kit.http import json_response

KEPT_REFERENCES = 100


class Parameters(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of every behaviour: the same seed hits the same calls, counted from the switching on."""

    seed: int = 0


P = TypeVar("P", bound=Parameters)


def draw(seed: int, name: str, number: int | str) -> float:
    """A number in [0, 1) that depends on nothing but the arguments."""
    digest = blake2b(f"{seed}/{name}/{number}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)


@dataclass(slots=True)
class Behaviour(Generic[P]):
    """A switch with its receipt: how often it struck, and whom first. Kept when it is switched off."""

    name: str
    parameters: P
    active: bool = True
    hits: int = 0
    references: list[str] = field(default_factory=list)

    def note(self, reference: str | None) -> None:
        """It has struck."""
        self.hits += 1
        if reference and len(self.references) < KEPT_REFERENCES:
            self.references.append(reference)


B = TypeVar("B", bound=Behaviour[Any])


class Receipt(Struct, frozen=True):
    """What GET /lab/behaviours shows of one."""

    name: str
    parameters: Parameters
    active: bool
    hits: int
    references: list[str]


class Switchboard(Generic[B]):
    """All behaviours of one simulator, by name with the shape of their parameters. Everything is off at the start."""

    def __init__(self, kinds: Mapping[str, type[Parameters]], make: Callable[[str, Any], B]) -> None:
        self.kinds = kinds
        self._make = make
        self._all: dict[str, B] = {}

    def put(self, name: str, body: bytes) -> None:
        """Switch on, with hits at zero. Raises KeyError for an unknown name, msgspec.DecodeError for wrong parameters."""
        self._all[name] = self._make(name, msgspec.json.decode(body or b"{}", type=self.kinds[name]))

    def put_all(self, text: str) -> None:
        """Switch on what a JSON object names: `{"workers": {"count": 20, "service_ms": 100}}`; "" is nothing.

        Raises ValueError with what is wrong (msgspec's errors are ValueErrors).
        """
        wanted = msgspec.json.decode(text, type=dict[str, msgspec.Raw]) if text else {}
        for name, parameters in wanted.items():
            if name not in self.kinds:
                raise ValueError(f"there is no behaviour {name!r}, only {', '.join(sorted(self.kinds))}")
            self.put(name, bytes(parameters))

    def delete(self, name: str) -> None:
        """Switch off; the receipt stays. Idempotent. Raises KeyError for an unknown name."""
        self.kinds[name]
        if name in self._all:
            self._all[name].active = False

    def active(self, name: str) -> B | None:
        """The behaviour if it is on."""
        behaviour = self._all.get(name)
        return behaviour if behaviour is not None and behaviour.active else None

    def receipts(self) -> list[Receipt]:
        """Of all that were ever on."""
        return [Receipt(b.name, b.parameters, b.active, b.hits, b.references) for b in self._all.values()]


def routes(switches: Switchboard[Any], changed: Callable[[], None] = lambda: None) -> APIRouter:
    """/lab/behaviours, for the lab profile only. `changed` is called after each change."""
    router = APIRouter(prefix="/lab", include_in_schema=False)

    def known(name: str) -> None:
        if name not in switches.kinds:
            detail = f"{name!r} is not among {sorted(switches.kinds)}"
            raise Problem(404, "no_such_behaviour", "There is no such behaviour", detail=detail)

    @router.get("/behaviours")
    async def listing() -> Response:
        """All that were ever on, with their receipts."""
        return json_response(200, switches.receipts())

    @router.put("/behaviours/{name}")
    async def put(request: Request, name: str) -> Response:
        """Switch on, with hits at zero."""
        known(name)
        try:
            switches.put(name, await request.body())
        except msgspec.ValidationError as error:
            raise Problem(422, "invalid_request", "These parameters do not fit", detail=str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Problem(400, "invalid_json", "The body is not JSON in UTF-8") from None
        changed()
        return Response(status_code=204)

    @router.delete("/behaviours/{name}")
    async def delete(name: str) -> Response:
        """Switch off; the receipt stays."""
        known(name)
        switches.delete(name)
        changed()
        return Response(status_code=204)

    return router
