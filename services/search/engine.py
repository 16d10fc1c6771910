"""The one module that talks to the search engine: OpenSearch, or Elasticsearch from 7.10, by the API that both share.

Every call ends by the current deadline (kit.deadline) or within the engine's own bound, whichever is earlier, and is safe to
send twice: writes carry a version, the rest reads or says how things shall be. So a call that a node does not answer goes to
another node, as long as there is time.

All calls raise
    EngineDown     nobody answered in time, or the cluster cannot serve: whether a write was made is not known
    EngineBusy     429: its queues are full; later
    EngineRefused  it will never take this (400, 413), or what is named is not there (NotThere) or is there already (Conflict)
and kit.deadline.DeadlineOver if the caller's time is over.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Any, NoReturn, Self
from urllib.parse import quote

import msgspec
from opensearchpy import AIOHttpConnection, AsyncOpenSearch, exceptions
from opensearchpy.serializer import Serializer

from services.kit import deadline
from services.patterns.deadline import Deadline
from services.search.traces import call_of

Json = Mapping[str, Any]

DEAD_SECONDS = 1.0
"""A node that did not answer is left alone for so long, then twice as long, at most 32 s, unless all are such."""
CONNECTIONS = 64
"""To one node at once."""
MOST_ATTEMPTS = 3
LONGEST_REASON = 300
SCAN_PAGE = 1_000
NO_JSON = "The search engine's answer is no object of JSON."

# It writes a line for each 404 and each connection that fails; what matters is raised.
logging.getLogger("opensearch").setLevel(logging.ERROR)


class EngineError(Exception):
    """The engine did not do it. `reason` is one sentence without the request's content."""

    def __init__(self, reason: str, kind: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.kind = kind


class EngineDown(EngineError):
    """No answer, or none that means anything; a write may have been made."""


class EngineBusy(EngineError):
    """Its queues are full."""


class EngineRefused(EngineError):
    """`kind` is the engine's word for it, such as mapper_parsing_exception."""


class NotThere(EngineRefused):
    """No such index, alias or document."""


class Conflict(EngineRefused):
    """There is one already, or a newer one."""


class Hit(msgspec.Struct, frozen=True):
    """One result. `sort` continues a page after it."""

    id: str = msgspec.field(name="_id")
    index: str = msgspec.field(name="_index", default="")
    score: float | None = msgspec.field(name="_score", default=None)
    source: dict[str, Any] = msgspec.field(name="_source", default_factory=dict)
    sort: list[Any] = []
    highlight: dict[str, list[str]] = {}
    fields: dict[str, list[Any]] = {}
    matched_queries: list[str] = []
    version: int | None = msgspec.field(name="_version", default=None)
    explanation: dict[str, Any] | None = msgspec.field(name="_explanation", default=None)


class Total(msgspec.Struct, frozen=True):
    """`relation` is "eq", or "gte" where the count stopped at its bound."""

    value: int
    relation: str = "eq"


class Hits(msgspec.Struct, frozen=True):
    """`total` is None where it was not asked for."""

    hits: list[Hit] = []
    total: Total | None = None
    max_score: float | None = None


class Shards(msgspec.Struct, frozen=True):
    """`failed` above zero: the answer is partial."""

    total: int = 0
    successful: int = 0
    failed: int = 0


class Found(msgspec.Struct, frozen=True):
    """A search's answer; `took` in milliseconds."""

    took: int
    timed_out: bool
    hits: Hits
    shards: Shards = msgspec.field(name="_shards", default=Shards())
    aggregations: dict[str, Any] = {}
    suggest: dict[str, Any] = {}

    @property
    def partial(self) -> bool:
        """Time ran out inside the engine, or some shard did not answer."""
        return self.timed_out or self.shards.failed > 0


class Document(msgspec.Struct, frozen=True):
    """A document by its id, as the last write left it, refreshed or not. Without `found` the rest says nothing."""

    id: str = msgspec.field(name="_id")
    found: bool = False
    index: str = msgspec.field(name="_index", default="")
    version: int = msgspec.field(name="_version", default=-1)
    source: dict[str, Any] = msgspec.field(name="_source", default_factory=dict)


class Health(msgspec.Struct, frozen=True):
    """`status`: green, yellow (a replica is missing) or red (a primary is)."""

    status: str
    number_of_nodes: int
    unassigned_shards: int = 0
    timed_out: bool = False


@dataclass(frozen=True, slots=True)
class Write:
    """What shall become of a document, unless the index has a version above `version` of it. `body` None: deleted.

    `version` is 0 to 2^63 - 1; `body` is one JSON object without line breaks.
    """

    index: str
    id: str
    version: int
    body: bytes | None

    def lines(self) -> bytes:
        """As `_bulk` takes it."""
        action = "delete" if self.body is None else "index"
        head = {action: {"_index": self.index, "_id": self.id, "version": self.version, "version_type": "external_gte"}}
        return msgspec.json.encode(head) + b"\n" + (b"" if self.body is None else self.body + b"\n")


class Fate(StrEnum):
    """What became of a write."""

    DONE = "done"
    NEWER_THERE = "newer_there"
    """The index holds a later version, which is fine."""
    BUSY = "busy"
    NO_INDEX = "no_index"
    REFUSED = "refused"
    FAILED = "failed"
    """A shard is missing or the node is stopping: to be tried again."""


@dataclass(frozen=True, slots=True)
class Written:
    """One write's fate; `kind` and `reason` are the engine's, empty for DONE."""

    index: str
    id: str
    fate: Fate
    kind: str = ""
    reason: str = ""


class _Json(Serializer):
    mimetype = "application/json"

    def loads(self, s: str) -> Any:
        try:
            return msgspec.json.decode(s)
        except msgspec.DecodeError as error:
            raise exceptions.SerializationError(str(error)) from None

    def dumps(self, data: Any) -> bytes:
        return data if isinstance(data, bytes) else msgspec.json.encode(data)


class _Connection(AIOHttpConnection):
    """Of what a server between us and the engine may answer, not all is an object of JSON."""

    def _raise_error(self, status_code: int, raw_data: str | bytes, content_type: str | None = None) -> NoReturn:
        del content_type
        try:
            info = msgspec.json.decode(raw_data)
        except msgspec.DecodeError:
            info = None
        kind = exceptions.HTTP_EXCEPTIONS.get(status_code, exceptions.TransportError)
        raise kind(status_code, f"It answered {status_code}.", info)


class Engine(AbstractAsyncContextManager["Engine"]):
    """A client of the cluster at `nodes` (URLs), to be closed. `timeout` bounds each call, `attempt` each try, in seconds."""

    def __init__(
        self,
        nodes: Sequence[str],
        *,
        timeout: float = 5.0,
        attempt: float | None = None,
        connections: int = CONNECTIONS,
    ) -> None:
        if not nodes:
            raise ValueError("the engine needs the address of one node at least")
        self._timeout = timeout
        self._attempt = attempt or timeout
        self._client = AsyncOpenSearch(
            hosts=list(nodes),
            connection_class=_Connection,
            serializer=_Json(),
            max_retries=min(len(nodes), MOST_ATTEMPTS) - 1,
            retry_on_timeout=True,
            dead_timeout=DEAD_SECONDS,
            maxsize=connections,
        )

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def __aenter__(self) -> Self:
        return self

    async def close(self) -> None:
        """Close all connections. Idempotent."""
        await self._client.close()
        # The client forgets those to nodes that it holds for dead at this moment.
        for connection in self._client.transport.seed_connections:
            await connection.close()  # type: ignore[attr-defined]  # an AsyncConnection here

    async def search(self, index: str, body: Json, *, within: float | None = None) -> Found:
        """One search of an index or alias. The engine itself stops, with a partial answer, when the time is over."""
        params = {"timeout": f"{max(int(self._left(within) * 1000), 1)}ms"}
        return msgspec.convert(await self._call("POST", f"/{_path(index)}/_search", body, params, within=within), Found)

    async def msearch(self, searches: Sequence[tuple[str, Json]], *, within: float | None = None) -> list[Found]:
        """Several searches in one round trip, in their order. Raises for the first that failed."""
        lines = b"".join(
            msgspec.json.encode({"index": index}) + b"\n" + msgspec.json.encode(body) + b"\n"
            for index, body in searches
        )
        answers = (await self._call("POST", "/_msearch", lines, within=within))["responses"]
        for answer in answers:
            if "error" in answer:
                raise _refusal(answer.get("status", 500), answer["error"])
        return [msgspec.convert(answer, Found) for answer in answers]

    async def explain(self, index: str, document: str, query: Json) -> dict[str, Any] | None:
        """How `query` scores one document; None if it does not match. Raises NotThere for an unknown document."""
        answer = await self._call("POST", f"/{_path(index)}/_explain/{_path(document)}", {"query": query})
        return answer.get("explanation") if answer.get("matched") else None

    async def count(self, index: str, query: Json | None = None) -> int:
        """How many refreshed documents match."""
        body = {"query": query or {"match_all": {}}}
        return int((await self._call("POST", f"/{_path(index)}/_count", body))["count"])

    def scan(
        self, index: str, query: Json, *, source: Collection[str] | bool = True, page: int = SCAN_PAGE
    ) -> AsyncIterator[Hit]:
        """See the function `scan`."""
        return scan(self.search, index, query, source=source, page=page)

    async def get(self, index: str, document: str) -> Document:
        """As last written, refreshed or not; `found` is False if there is none."""
        return (await self.mget(index, [document]))[0]

    async def mget(
        self, index: str, documents: Sequence[str], *, source: Collection[str] | bool = True
    ) -> list[Document]:
        """As last written, in the order asked for. Raises NotThere for an unknown index."""
        if not documents:
            return []
        kept = source if isinstance(source, bool) else list(source)
        params = {"_source": kept if isinstance(kept, bool) else ",".join(kept)}
        answer = await self._call("POST", f"/{_path(index)}/_mget", {"ids": list(documents)}, params)
        for each in answer["docs"]:
            if "error" in each:
                raise _refusal(404 if "index_not_found" in each["error"].get("type", "") else 503, each["error"])
        return [msgspec.convert(each, Document) for each in answer["docs"]]

    async def bulk(
        self, writes: Sequence[Write], *, refresh: bool = False, within: float | None = None
    ) -> list[Written]:
        """What became of each write, in their order. Raises EngineBusy only if the request as a whole was refused so."""
        if not writes:
            return []
        params = {"refresh": "true"} if refresh else {}
        answer = await self._call("POST", "/_bulk", b"".join(each.lines() for each in writes), params, within=within)
        return [_written(next(iter(item.values()))) for item in answer["items"]]

    async def create_index(self, name: str, body: Json) -> None:
        """With settings, mappings and aliases. Raises Conflict if it is there."""
        await self._call("PUT", f"/{_path(name)}", body)

    async def delete_index(self, name: str) -> None:
        """Raises NotThere."""
        await self._call("DELETE", f"/{_path(name)}")

    async def index_exists(self, name: str) -> bool:
        """Also true for an alias."""
        return bool(await self._call("HEAD", f"/{_path(name)}"))

    async def aliases(self, alias: str) -> tuple[str, ...]:
        """The indices behind an alias, sorted; none if there is no such alias."""
        try:
            return tuple(sorted(await self._call("GET", f"/_alias/{_path(alias)}")))
        except NotThere:
            return ()

    async def update_aliases(self, actions: Sequence[Json]) -> None:
        """All of the actions at one instant, known to every node when this returns. Raises EngineDown if it is not certain."""
        answer = await self._call("POST", "/_aliases", {"actions": list(actions)})
        if not answer.get("acknowledged"):
            raise EngineDown("Not every node knows the new aliases yet.")

    async def refresh(self, index: str) -> None:
        """Make what was written visible to searches."""
        await self._call("POST", f"/{_path(index)}/_refresh")

    async def force_merge(self, index: str, segments: int, *, within: float | None = None) -> None:
        """Merge each shard to at most so many segments. The engine goes on with it when the call's time is over."""
        await self._call("POST", f"/{_path(index)}/_forcemerge", params={"max_num_segments": segments}, within=within)

    async def mapping(self, index: str) -> dict[str, Any]:
        """The mapping of one concrete index."""
        answer = await self._call("GET", f"/{_path(index)}/_mapping")
        return dict(next(iter(answer.values()))["mappings"])

    async def put_mapping(self, index: str, mapping: Json) -> None:
        """Add fields. Raises EngineRefused for a change of what is there."""
        await self._call("PUT", f"/{_path(index)}/_mapping", mapping)

    async def put_settings(self, index: str, settings: Json) -> None:
        """Change dynamic settings, `{"refresh_interval": "1s"}`."""
        await self._call("PUT", f"/{_path(index)}/_settings", {"index": dict(settings)})

    async def put_cluster_settings(self, settings: Json) -> None:
        """Change settings of the whole cluster; they outlive its restart."""
        await self._call("PUT", "/_cluster/settings", {"persistent": dict(settings)})

    async def health(self, index: str | None = None, *, wait_for: str | None = None) -> Health:
        """Of the cluster or one index; waits for a status, as long as the call may take, then says what it is."""
        path = "/_cluster/health" + (f"/{_path(index)}" if index else "")
        params = {"wait_for_status": wait_for, "timeout": f"{int(self._left(None) * 800)}ms"} if wait_for else {}
        try:
            return msgspec.convert(await self._call("GET", path, params=params), Health)
        except _WaitedInVain as waited:
            return msgspec.convert(waited.answer, Health)

    async def index_bytes(self, index: str) -> tuple[int, int]:
        """(documents, bytes on disk) of the primaries."""
        primaries = (await self._call("GET", f"/{_path(index)}/_stats/docs,store"))["_all"]["primaries"]
        return int(primaries["docs"]["count"]), int(primaries["store"]["size_in_bytes"])

    async def answers(self, index: str) -> bool:
        """A readiness check: one answer within a second, with every primary of this index or alias at hand.

        False where there is none of the name. What else the cluster holds, and how long that takes to recover, says nothing.
        """
        try:
            async with asyncio.timeout(1.0):
                return (await self.health(index)).status != "red"
        except (EngineError, TimeoutError):
            return False

    def _left(self, within: float | None) -> float:
        return deadline.left(self._timeout if within is None else within)

    async def _call(
        self,
        method: str,
        path: str,
        body: Json | bytes | None = None,
        params: Json | None = None,
        *,
        within: float | None = None,
    ) -> Any:
        seconds = self._left(within)
        attempt = min(self._attempt, seconds) if within is None else seconds
        headers = {"content-type": "application/x-ndjson"} if isinstance(body, bytes) else {}
        query = {name: _parameter(value) for name, value in (params or {}).items()}
        with call_of(method, path):
            return await self._asked(method, path, {**query, "request_timeout": attempt}, body, headers, seconds)

    async def _asked(
        self,
        method: str,
        path: str,
        params: dict[str, Any],
        body: Json | bytes | None,
        headers: dict[str, str],
        seconds: float,
    ) -> Any:
        try:
            async with asyncio.timeout(seconds):
                answer = await self._client.transport.perform_request(
                    method, path, params=params, body=body, headers=headers
                )
        except (TimeoutError, exceptions.ConnectionError) as error:
            _over()
            raise EngineDown(f"The search engine did not answer ({type(error).__name__}).") from None
        except exceptions.SerializationError:
            raise EngineDown(NO_JSON) from None
        except exceptions.TransportError as error:
            raise _mapped(error) from None
        if not isinstance(answer, dict | bool):
            raise EngineDown(NO_JSON)
        return answer


async def scan(
    search: Callable[[str, Json], Awaitable[Found]],
    index: str,
    query: Json,
    *,
    source: Collection[str] | bool = True,
    page: int = SCAN_PAGE,
) -> AsyncIterator[Hit]:
    """All refreshed documents that match, with versions, ordered by `id`; a page at a time, without server-side state."""
    kept = source if isinstance(source, bool) else list(source)
    body: dict[str, Any] = {
        "query": query, "size": page, "sort": [{"id": "asc"}], "_source": kept, "version": True,
        "track_total_hits": False,
    }  # fmt: skip
    while True:
        hits = (await search(index, body)).hits.hits
        for hit in hits:
            yield hit
        if len(hits) < page:
            return
        body = {**body, "search_after": hits[-1].sort}


class _WaitedInVain(EngineError):
    """408 of the health call, which carries the health."""

    def __init__(self, answer: Json) -> None:
        super().__init__("The status that was waited for did not come.")
        self.answer = answer


_THEIR_OWN_FAULT = frozenset({400, 413})
"""What is wrong with a request or a document for ever. 401 and 403 are about us, and pass when somebody mends our rights."""
_PASSING = frozenset({"index_closed_exception", "cluster_block_exception"})
"""A state that somebody put the index into: read-only, closed."""


def _over() -> None:
    until: Deadline | None = deadline.current()
    if until is not None and until.over:
        raise deadline.DeadlineOver from None


def _path(part: str) -> str:
    return quote(part, safe="*,-_")


def _parameter(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _mapped(error: exceptions.TransportError) -> EngineError:
    answer = error.info if isinstance(error.info, dict) else {}
    status = error.status_code if isinstance(error.status_code, int) else 503
    if status == 408 and "status" in answer and "cluster_name" in answer:
        return _WaitedInVain(answer)
    return _refusal(status, answer.get("error") or str(error.error))


def _refusal(status: int, error: Any) -> EngineError:
    kind, reason = _said(error)
    if status == 429:
        return EngineBusy(reason, kind)
    if status == 404:
        return NotThere(reason, kind)
    if status == 409 or kind == "resource_already_exists_exception":
        return Conflict(reason, kind)
    if status in _THEIR_OWN_FAULT and kind not in _PASSING:
        return EngineRefused(reason, kind)
    if "rejected_execution" in reason or "circuit_breaking" in kind:
        return EngineBusy(reason, kind)
    return EngineDown(reason, kind)


def _said(error: Any) -> tuple[str, str]:
    """(kind, reason). The innermost cause says most: "failed to parse" comes with what could not be parsed."""
    if not isinstance(error, dict):
        return "", str(error)[:LONGEST_REASON]
    kind = str(error.get("type", ""))
    root = error.get("root_cause") or []
    if kind == "search_phase_execution_exception" and root:
        kind = str(root[0].get("type", kind))
    reasons = []
    inner: Any = root[0] if root else error
    while isinstance(inner, dict):
        reasons.append(str(inner.get("reason", "")))
        inner = inner.get("caused_by")
    return kind, ": ".join(filter(None, reasons))[:LONGEST_REASON]


def _written(item: Json) -> Written:
    status = int(item["status"])
    kind, reason = _said(item["error"]) if "error" in item else ("", "")
    return Written(item["_index"], item["_id"], _fate(status, kind), kind, reason)


def _fate(status: int, kind: str) -> Fate:
    # A delete of what is not there is answered 404 without an error, and leaves its version.
    if status < 300 or (status == 404 and not kind):
        return Fate.DONE
    if status == 409:
        return Fate.NEWER_THERE
    if status == 429:
        return Fate.BUSY
    if status == 404:
        return Fate.NO_INDEX
    return Fate.REFUSED if status in _THEIR_OWN_FAULT and kind not in _PASSING else Fate.FAILED
