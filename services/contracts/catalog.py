"""What the catalogue offers to others: its changes on two topics, and the tables that a reader may rely on.

The changes are Debezium's, read from the database's log: no CloudEvents headers, JSON without schemas. The key of
`catalog.product-changes.v1` is the product's id as text, whichever table changed, so that all changes of a product are in
order in one partition. A change says *that* a product changed and how it stands now in its small columns; who needs the
product reads it (`catalog_reader`, see READABLE). Bulky columns are left out: Postgres does not log them when they stay as
they are, and Debezium would send a placeholder.
"""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

import msgspec

Operation = Literal["c", "u", "d", "r"]
"""Created, updated, deleted; `r` is a row read by a snapshot."""

READER = "catalog_reader"
"""The role that reads these tables. It may write nothing."""

READABLE: dict[str, tuple[str, ...]] = {
    "products": (
        "id", "sku", "title", "description", "language", "brand_id", "category_id", "model", "attributes", "price",
        "currency", "stock", "popularity", "created_at", "updated_at", "version",
    ),
    "variants": ("product_id", "sku", "attributes", "price", "stock"),
    "brands": ("id", "name"),
    "categories": ("id", "path", "names"),
}  # fmt: skip
"""Table -> columns that stay as they are within a major version. `attributes`: JSON object of texts; `names`: language ->
name; `path`: keys from the root, separated by slashes; prices in cents."""

LEFT_OUT: dict[str, tuple[str, ...]] = {"products": ("description", "attributes"), "variants": ("attributes",)}
"""Columns that no change carries."""


class Source(msgspec.Struct, frozen=True):
    """Where in the log a change stands. `lsn` is the byte position; `snapshot` is "false" for a change read from the log."""

    table: str
    lsn: int | None = None
    ts_ms: int | None = None
    snapshot: str = "false"
    txId: int | None = None  # noqa: N815  # Debezium's name


class Change(msgspec.Struct, frozen=True):
    """The value of a record. `before` of an update or delete holds the key columns at least; `ts_ms`: when Debezium saw it."""

    op: Operation
    source: Source
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    ts_ms: int | None = None


def product_of(key: bytes | None) -> UUID:
    """The product that a record of `catalog.product-changes.v1` is about. Raises ValueError for a key of another form."""
    if key is None or len(key) != 36:
        raise ValueError("the key is no product id")
    try:
        return UUID(key.decode("ascii"))
    except UnicodeDecodeError:
        raise ValueError("the key is no product id") from None


_changes = msgspec.json.Decoder(Change)


def change_of(value: bytes | None) -> Change | None:
    """The change; None for a tombstone. The connector sends none: that of a variant would have its product's key.

    Raises msgspec.DecodeError (of which ValidationError is one).
    """
    return None if value is None else _changes.decode(value)
