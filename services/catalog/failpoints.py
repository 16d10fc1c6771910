"""Every place where a process of the catalogue may be made to die. A test walks ALL of them."""

from __future__ import annotations

from services.kit import failpoint

API_AFTER_COMMIT = "catalog.api.after_commit"
"""A created product, or a feed's offers, are committed, their client has no answer."""
IMPORT_BEFORE_COMMIT = "catalog.import.before_commit"
"""A portion's products are written, nothing is committed."""
IMPORT_AFTER_COMMIT = "catalog.import.after_commit"
"""A portion and its place are committed, the next is not begun."""

ALL = (API_AFTER_COMMIT, IMPORT_BEFORE_COMMIT, IMPORT_AFTER_COMMIT)


def register(*names: str) -> None:
    """Make these known in this process, before LAB_FAILPOINTS is read."""
    failpoint.register(*names)
