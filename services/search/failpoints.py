"""Every place where a search process may be made to die. A test walks ALL of them."""

from __future__ import annotations

INDEXER_AFTER_POLL = "search.indexer.after_poll"
INDEXER_AFTER_READ = "search.indexer.after_read"
INDEXER_AFTER_BULK = "search.indexer.after_bulk"
INDEXER_AFTER_COMMIT = "search.indexer.after_commit"

REINDEX_AFTER_CREATE = "search.reindex.after_create"
REINDEX_AFTER_BULK = "search.reindex.after_bulk"
REINDEX_AFTER_PORTION = "search.reindex.after_portion"
REINDEX_AFTER_VERIFY = "search.reindex.after_verify"
REINDEX_AFTER_SWAP = "search.reindex.after_swap"

INDEXER = (INDEXER_AFTER_POLL, INDEXER_AFTER_READ, INDEXER_AFTER_BULK, INDEXER_AFTER_COMMIT)
REINDEX = (
    REINDEX_AFTER_CREATE,
    REINDEX_AFTER_BULK,
    REINDEX_AFTER_PORTION,
    REINDEX_AFTER_VERIFY,
    REINDEX_AFTER_SWAP,
)
ALL = (*INDEXER, *REINDEX)
