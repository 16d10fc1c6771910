"""Connections of search's workers, which wait longer for one than a request may."""

from __future__ import annotations

from functools import partial

from services.kit import store

connection = partial(store.connection, wait_seconds=5.0)
