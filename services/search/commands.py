"""What people do with the indices: `python -m services.search index ...` and `audit`."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from services.kit import failpoint, postgres
from services.kit.clock import SystemClock
from services.kit.settings import LabFlag, load, refuse_default_secrets
from services.kit.store import Pool, StoreUnavailable
from services.search import audit, failpoints
from services.search.audit import Auditor
from services.search.engine import Engine, EngineError
from services.search.indexer import backoff_of, writer_of
from services.search.indices import IndexProblem, Indices, Shape
from services.search.mappings import UnknownMapping
from services.search.patience import OutOfPatience, Patience, PatientCatalog, PatientEngine
from services.search.reindex import NotReady, Reindexer
from services.search.settings import ReindexSettings
from services.search.store.catalog import Catalog, NotThePrimary
from services.search.store.reindexes import AnotherAtWork, ReindexState, ReindexStore
from services.search.writer import Writer

LARGEST_RATE = 1_000_000.0
CONNECT_SECONDS = 10.0
_SAID = (
    NotReady, IndexProblem, UnknownMapping, OutOfPatience, AnotherAtWork, NotThePrimary, StoreUnavailable, EngineError,
    OSError, asyncpg.PostgresError,
)  # fmt: skip
"""What ends a command with one sentence and exit code 1."""


def add_parsers(roles: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The commands and their options."""
    index = roles.add_parser("index", help="status, reindex, swap, rollback, drop, update, abandon").add_subparsers(
        dest="what", required=True
    )
    index.add_parser("status", help="which index is for what, and how far a reindex is")
    reindex = index.add_parser("reindex", help="build a new index beside the one in use and put it in its place")
    reindex.add_argument("--mapping", type=_positive, help="version of services/search/mappings; default: the newest")
    reindex.add_argument("--rate", type=_rate, help="documents a second; default: SEARCH_REINDEX_DOCUMENTS_PER_SECOND")
    reindex.add_argument("--accept-refused", type=_count, default=0, help="go on without so many products")
    reindex.add_argument("--no-swap", action="store_true", help="stop when it is ready; `index swap` ends it")
    reindex.add_argument(
        "--drop-old", action="store_true", help="keep no index for a rollback, of this nor of an earlier one"
    )
    swap = index.add_parser("swap", help="let queries read the index that is ready")
    swap.add_argument("--index", help="or this one, which gets changes")
    index.add_parser("rollback", help="let queries read the index before")
    drop = index.add_parser("drop", help="delete an index that no query reads")
    drop.add_argument("name")
    index.add_parser("update", help="add the newest mapping's new fields in place")
    index.add_parser("abandon", help="give up the reindex that was begun")
    auditing = roles.add_parser(
        "audit", help="compare the index with the catalogue; exit 1 if anything is wrong after it"
    )
    auditing.add_argument("--repair", action="store_true", help="write what differs again")
    auditing.add_argument(
        "--deep", action="store_true", help="look at every document's content, not at its digest only"
    )
    auditing.add_argument("--index", help="another index than the one queries read")


def run(given: argparse.Namespace) -> int:
    """Exit 0 if it was done, 1 with a sentence if not."""
    settings, flag = load(ReindexSettings), load(LabFlag)
    refuse_default_secrets(flag, settings)
    failpoint.register(*failpoints.REINDEX)
    if flag.lab_profile:
        failpoint.arm_from_text(os.environ.get("LAB_FAILPOINTS", ""))
    try:
        return asyncio.run(_run(given, settings, flag.lab_prefix))
    except _SAID as error:
        sys.stderr.write(f"Not done: {error}\n")
        return 1


@dataclass(frozen=True, slots=True)
class _Parts:
    engine: Engine
    indices: Indices
    catalog: Catalog
    store: ReindexStore
    writer: Writer
    settings: ReindexSettings

    @property
    def patience(self) -> Patience:
        return Patience(self.settings.patience_seconds, backoff_of(self.settings))

    @property
    def truth(self) -> PatientCatalog:
        return PatientCatalog(self.catalog, self.patience)

    def auditor(self, *, repair: bool) -> Auditor:
        return Auditor(
            PatientEngine(self.engine, self.patience),
            self.truth,
            self.settings.audit_portion,
            self.settings.audit_settle_seconds,
            self.writer if repair else None,
        )

    def reindexer(self, rate: float | None) -> Reindexer:
        return Reindexer(
            self.truth,
            self.store,
            self.indices,
            self.writer,
            self.auditor(repair=True),
            SystemClock(),
            self.settings.portion,
            rate or self.settings.reindex_documents_per_second,
            _tell,
        )


async def _run(given: argparse.Namespace, settings: ReindexSettings, prefix: str) -> int:
    async with _parts(settings, prefix) as parts:
        if given.role == "audit":
            return await _audit(parts, given)
        return await _index(parts, given)


@asynccontextmanager
async def _parts(settings: ReindexSettings, prefix: str) -> AsyncIterator[_Parts]:
    async with (
        Engine(settings.engine_urls, timeout=max(settings.engine_timeout_seconds, 30)) as engine,
        await _pool(settings.database_url.get_secret_value()) as own,
        await _pool(settings.catalog_database_url.get_secret_value()) as pool,
    ):
        catalog = Catalog(pool)
        await catalog.check()
        indices = Indices(engine, prefix, Shape(settings.index_shards, settings.index_replicas))
        writer = writer_of(engine, settings, settings.patience_seconds)
        yield _Parts(engine, indices, catalog, ReindexStore(own, prefix), writer, settings)


async def _pool(url: str) -> Pool:
    return await postgres.create_pool(
        url, name="search-index", minimum=1, maximum=3, statement_timeout_ms=30_000, wait_seconds=CONNECT_SECONDS
    )


async def _index(parts: _Parts, given: argparse.Namespace) -> int:
    indices = parts.indices
    if given.what == "status":
        await _status(parts)
    elif given.what == "reindex":
        await _reindex(parts, given)
    elif given.what == "swap":
        await _swap(parts, given.index)
    elif given.what == "rollback":
        now, before = await indices.rollback()
        _tell(f"queries read {now} again, not {before}, which goes on getting changes")
    elif given.what == "drop":
        await indices.drop(given.name)
        _tell(f"{given.name} is gone")
    elif given.what == "abandon":
        _tell(f"{await parts.reindexer(None).abandon()} is given up")
    else:
        added = await indices.update()
        ending = "; `audit --repair` or a reindex fills them" if added else ""
        _tell(f"new fields: {', '.join(added) or 'none'}{ending}")
    return 0


async def _reindex(parts: _Parts, given: argparse.Namespace) -> None:
    if given.drop_old and await parts.store.active() is None:
        await _drop_old(parts)
    await parts.reindexer(given.rate).run(given.mapping, accept_refused=given.accept_refused, swap=not given.no_swap)
    if given.drop_old and not given.no_swap:
        await _drop_old(parts)


async def _drop_old(parts: _Parts) -> None:
    reading = await parts.indices.reading()
    for name in await parts.indices.writing():
        if name != reading and reading is not None:
            await parts.indices.drop(name)
            _tell(f"{name} is gone")


async def _swap(parts: _Parts, index: str | None) -> None:
    if index is not None:
        before = await parts.indices.swap(index)
        _tell(f"queries read {index}" + (f", not {before}" if before else " already"))
        return
    active = await parts.store.active()
    if active is None or active.state is not ReindexState.READY:
        raise NotReady("No reindex waits for its swap.")
    await parts.reindexer(None).run(None)


async def _status(parts: _Parts) -> None:
    reading, writing = await parts.indices.reading(), await parts.indices.writing()
    for name in sorted({*writing, *filter(None, [reading])}):
        documents, size = await parts.engine.index_bytes(name)
        uses = [use for use, yes in (("queries", name == reading), ("changes", name in writing)) if yes]
        _tell(f"{name}: {documents:,} documents, {size / 1e6:,.1f} MB; for {' and '.join(uses)}")
    if reading is None:
        _tell("no index; `python -m services.search migrate` makes one")
    for each in await parts.store.recent():
        _tell(f"reindex {each.index_name}: {each.state.value}, {each.copied:,} copied, {each.repaired:,} repaired")


async def _audit(parts: _Parts, given: argparse.Namespace) -> int:
    index = given.index or await parts.indices.reading()
    if index is None:
        raise IndexProblem("There is no index yet; `python -m services.search migrate` makes one.")
    report = await parts.auditor(repair=given.repair).audit(index, deep=given.deep)
    for line in audit.lines(report):
        _tell(line)
    return 1 if report.open() else 0


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:10]) <= 9999):
        raise argparse.ArgumentTypeError("a version is 1 to 9999")
    return int(text)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise argparse.ArgumentTypeError("a count is a whole number, at most 999999999")
    return int(text)


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 1 <= rate <= LARGEST_RATE:
        raise argparse.ArgumentTypeError(f"a rate is 1 to {LARGEST_RATE:,.0f} documents a second")
    return rate
