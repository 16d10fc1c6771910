"""Routes: HTTP to a command and back."""

from __future__ import annotations

import re
from collections.abc import Callable
from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.kit import ids, openapi
from services.kit.errors import InvalidQuery
from services.kit.http import json_response, read_json
from services.kit.idempotency import optional_idempotency_key
from services.kit.openapi import documented
from services.kit.query import Query
from services.webhooks import handlers, problems, schemas
from services.webhooks.domain import DeliveryState
from services.webhooks.edge import Edge
from services.webhooks.schemas import (
    ATTEMPT,
    ENDPOINT,
    MESSAGE,
    REPLAY,
    ChangeEndpoint,
    CreateEndpoint,
    CreateMessage,
    CreateReplay,
    Listing,
    PutEventType,
    Resend,
    RotateSecret,
    attempt_view,
    event_type_view,
    message_row,
)
from services.webhooks.store import Search

STATES = tuple(state.value for state in DeliveryState)
_TYPE = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")
_TEXT = {"type": "string"}
_TIME = {"type": "string", "format": "date-time"}
_ENDPOINT = openapi.query("endpoint", _TEXT, "Only of this endpoint")
_SEARCH_PARAMETERS = (
    *openapi.PAGING,
    _ENDPOINT,
    openapi.query("event_type", {"type": "string", "pattern": f"^{_TYPE.pattern}$"}),
    openapi.query("state", {"type": "string", "enum": list(STATES)}, "Of one of its deliveries"),
    openapi.query("after", _TIME, "Created then or later"),
    openapi.query("before", _TIME, "Created earlier"),
)
_REPLAY_KEY = openapi.idempotency_key("The same key is the same replay; needed unless it is a dry run.")


def routes(edge_of: Callable[[], Edge]) -> APIRouter:
    """The router. `edge_of` is called once the application's lifespan has begun."""
    router = APIRouter(prefix="/v1")
    _endpoint_routes(router, edge_of)
    _message_routes(router, edge_of)
    _replay_routes(router, edge_of)
    return router


def _endpoint_routes(router: APIRouter, edge_of: Callable[[], Edge]) -> None:
    @router.post("/endpoints", openapi_extra=documented(CreateEndpoint, 201, answer=schemas.EndpointView))
    async def create(request: Request) -> Response:
        """Register an endpoint. The answer holds its secret, which is shown again only when it is rotated."""
        edge = edge_of()
        await request.body()
        async with edge.admitted():
            made = await handlers.create_endpoint(
                edge.context, await edge.application(request), await read_json(request, CreateEndpoint)
            )
            return json_response(201, made, {"Location": f"/v1/endpoints/{made.id}"})

    @router.get("/endpoints", openapi_extra=documented(None, 200, answer=Listing, parameters=openapi.PAGING))
    async def listing(request: Request) -> Response:
        """The application's endpoints, the oldest first."""
        edge = edge_of()
        async with edge.admitted():
            application = await edge.application(request)
            query = Query.of(request, "limit", "cursor")
            data, cursor = await handlers.list_endpoints(edge.context, application, query.cursor(ENDPOINT), query.limit)
            return json_response(200, Listing(data, cursor))

    @router.get("/endpoints/{endpoint}", openapi_extra=documented(None, 200, answer=schemas.EndpointView))
    async def get(endpoint: str, request: Request) -> Response:
        """An endpoint as it is now, without its secret."""
        edge = edge_of()
        async with edge.admitted():
            application = await edge.application(request)
            return json_response(200, await handlers.get_endpoint(edge.context, application, endpoint_id(endpoint)))

    @router.patch("/endpoints/{endpoint}", openapi_extra=documented(ChangeEndpoint, 200, answer=schemas.EndpointView))
    async def change(endpoint: str, request: Request) -> Response:
        """Change what is named; `enabled: true` switches a disabled endpoint on again."""
        edge = edge_of()
        await request.body()
        async with edge.admitted():
            application = await edge.application(request)
            changed = await handlers.change_endpoint(
                edge.context, application, endpoint_id(endpoint), await read_json(request, ChangeEndpoint)
            )
            return json_response(200, changed)

    @router.delete("/endpoints/{endpoint}", status_code=204, openapi_extra=documented(None, 204))
    async def delete(endpoint: str, request: Request) -> Response:
        """Remove an endpoint; what waits for it becomes dead."""
        edge = edge_of()
        async with edge.admitted():
            await handlers.delete_endpoint(edge.context, await edge.application(request), endpoint_id(endpoint))
            return Response(status_code=204)

    @router.post(
        "/endpoints/{endpoint}/secret/rotate",
        openapi_extra=documented(RotateSecret, 200, answer=schemas.EndpointView, body_required=False),
    )
    async def rotate(endpoint: str, request: Request) -> Response:
        """A new secret; the old one goes on signing beside it for a day."""
        edge = edge_of()
        body = await request.body()
        async with edge.admitted():
            application = await edge.application(request)
            return json_response(
                200,
                await handlers.rotate_secret(
                    edge.context,
                    application,
                    endpoint_id(endpoint),
                    await read_json(request, RotateSecret) if body else RotateSecret(),
                ),
            )

    @router.put("/event-types/{name}", openapi_extra=documented(PutEventType, 200, answer=schemas.EventTypeView))
    async def put_type(name: str, request: Request) -> Response:
        """Describe an event type; with a schema, payloads that do not fit are refused."""
        edge = edge_of()
        await request.body()
        async with edge.admitted():
            application = await edge.application(request)
            if len(name) > 128 or not _TYPE.fullmatch(name):
                raise InvalidQuery("An event type is dotted words of letters, digits and _, 128 in all.")
            return json_response(
                200,
                await handlers.put_event_type(edge.context, application, name, await read_json(request, PutEventType)),
            )

    @router.get("/event-types", openapi_extra=documented(None, 200, answer=Listing, parameters=openapi.PAGING))
    async def types(request: Request) -> Response:
        """The application's event types, by name."""
        edge = edge_of()
        async with edge.admitted():
            application = await edge.application(request)
            query = Query.of(request, "limit", "cursor")
            found = await edge.context.endpoints.event_types(application, query.text_cursor(_TYPE), query.limit + 1)
            cursor = found[query.limit - 1].name if len(found) > query.limit else None
            return json_response(200, Listing([event_type_view(each) for each in found[: query.limit]], cursor))


def _message_routes(router: APIRouter, edge_of: Callable[[], Edge]) -> None:
    @router.post("/messages", openapi_extra=documented(CreateMessage, 202, answer=schemas.MessageAccepted))
    async def create(request: Request) -> Response:
        """Take an event in: stored and fanned out when this answers. The same event_id gets the same answer."""
        edge = edge_of()
        await request.body()
        async with edge.admitted():
            application = await edge.application(request)
            taken = await handlers.create_message(edge.context, application, await read_json(request, CreateMessage))
            return json_response(202, taken, {"Location": f"/v1/messages/{taken.id}"})

    @router.get("/messages", openapi_extra=documented(None, 200, answer=Listing, parameters=_SEARCH_PARAMETERS))
    async def search(request: Request) -> Response:
        """Newest first; by event_type, endpoint, state of a delivery, time of creation [after, before)."""
        edge = edge_of()
        async with edge.admitted():
            application = await edge.application(request)
            query = Query.of(request, "limit", "cursor", "event_type", "endpoint", "state", "after", "before")
            found = await edge.context.messages.search(_search(application, query), query.limit + 1)
            cursor = ids.encode(MESSAGE, found[query.limit - 1].id) if len(found) > query.limit else None
            return json_response(200, Listing([message_row(each) for each in found[: query.limit]], cursor))

    @router.get("/messages/{message}", openapi_extra=documented(None, 200, answer=schemas.MessageView))
    async def get(message: str, request: Request) -> Response:
        """A message and what became of it."""
        edge = edge_of()
        async with edge.admitted():
            application = await edge.application(request)
            return json_response(200, await handlers.get_message(edge.context, application, message_id(message)))

    @router.get(
        "/messages/{message}/attempts",
        openapi_extra=documented(None, 200, answer=Listing, parameters=(*openapi.PAGING, _ENDPOINT)),
    )
    async def attempts(message: str, request: Request) -> Response:
        """The log of a message, newest first; of one endpoint with `endpoint`."""
        edge = edge_of()
        async with edge.admitted():
            application = await edge.application(request)
            query = Query.of(request, "limit", "cursor", "endpoint")
            identity = message_id(message)
            if await edge.context.messages.message(application, identity) is None:
                raise problems.NoSuchMessage
            endpoint = query.identity("endpoint", ENDPOINT, "endpoint is the id of an endpoint.")
            found = await edge.context.messages.attempts(identity, query.cursor(ATTEMPT), endpoint, query.limit + 1)
            cursor = ids.encode(ATTEMPT, found[query.limit - 1].id) if len(found) > query.limit else None
            return json_response(200, Listing([attempt_view(each) for each in found[: query.limit]], cursor))

    @router.post("/messages/{message}/resend", openapi_extra=documented(Resend, 202, answer=schemas.DeliveryView))
    async def resend(message: str, request: Request) -> Response:
        """Deliver once more, at once, to one endpoint."""
        edge = edge_of()
        await request.body()
        async with edge.admitted():
            application = await edge.application(request)
            body = await read_json(request, Resend)
            return json_response(
                202, await handlers.resend(edge.context, application, message_id(message), body.endpoint)
            )


def _replay_routes(router: APIRouter, edge_of: Callable[[], Edge]) -> None:
    @router.post(
        "/replays", openapi_extra=documented(CreateReplay, 202, answer=schemas.ReplayView, parameters=[_REPLAY_KEY])
    )
    async def create(request: Request) -> Response:
        """Deliver many once more. Needs an Idempotency-Key, unless it is a dry run: the same key is the same replay."""
        edge = edge_of()
        await request.body()
        async with edge.admitted():
            application = await edge.application(request)
            key = optional_idempotency_key(request)
            shape = await read_json(request, CreateReplay)
            mark = handlers.replay_fingerprint(await request.body())
            made = await handlers.create_replay(edge.context, application, key, mark, shape)
            return json_response(202, made)

    @router.get("/replays/{replay}", openapi_extra=documented(None, 200, answer=schemas.ReplayView))
    async def get(replay: str, request: Request) -> Response:
        """How far a replay is."""
        edge = edge_of()
        async with edge.admitted():
            application = await edge.application(request)
            identity = ids.decode(REPLAY, replay)
            if identity is None:
                raise problems.NoSuchReplay
            return json_response(200, await handlers.get_replay(edge.context, application, identity))


def endpoint_id(text: str) -> UUID:
    """Raises NoSuchEndpoint."""
    found = ids.decode(ENDPOINT, text)
    if found is None:
        raise problems.NoSuchEndpoint
    return found


def message_id(text: str) -> UUID:
    """Raises NoSuchMessage."""
    found = ids.decode(MESSAGE, text)
    if found is None:
        raise problems.NoSuchMessage
    return found


def _search(application: str, query: Query) -> Search:
    state = query.choice("state", STATES)
    first, last = handlers.id_range(query.moment("after"), query.moment("before"), None)
    cursor = query.cursor(MESSAGE)
    event_type = query.values.get("event_type")
    if event_type is not None and not _TYPE.fullmatch(event_type):
        raise InvalidQuery("event_type is dotted words of letters, digits and _.")
    # The bounds of a search are exclusive, those of a range of time are not below.
    return Search(
        application,
        UUID(int=max(first.int - 1, 0)),
        min(last, cursor) if cursor is not None else last,
        event_type,
        state,
        query.identity("endpoint", ENDPOINT, "endpoint is the id of an endpoint."),
    )
