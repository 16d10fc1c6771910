"""The schema of payments, and the lab's demo rows. See kit.migration."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.kit import migration
from services.payments.settings import MigrateSettings

SCHEMA = migration.Schema("payments", Path(__file__).parent / "migrations")
APP = SCHEMA.app

DEMO_MERCHANTS = {
    "mer_demo": ("Demo merchant", "lab_demo_merchant_key"),
    "mer_other": ("Other merchant", "lab_other_merchant_key"),
}

_MERCHANT = text("INSERT INTO merchants (id, name) VALUES (:id, :name) ON CONFLICT DO NOTHING")
_KEY = text("INSERT INTO api_keys (key_sha256, merchant_id) VALUES (:hash, :id) ON CONFLICT DO NOTHING")


async def migrate(settings: MigrateSettings, *, demo_merchants: bool) -> str:
    """Bring the database up to date; return its name. Raises what kit.migration.migrate raises."""
    admin, app = settings.admin_database_url.get_secret_value(), settings.database_url.get_secret_value()
    return await migration.migrate(SCHEMA, admin, app, _demo if demo_merchants else None)


async def _demo(connection: AsyncConnection) -> None:
    for merchant, (title, key) in DEMO_MERCHANTS.items():
        await connection.execute(_MERCHANT, {"id": merchant, "name": title})
        await connection.execute(_KEY, {"hash": hashlib.sha256(key.encode()).digest(), "id": merchant})


def run(settings: MigrateSettings, *, demo_merchants: bool) -> str:
    """`migrate`, for the command line."""
    return asyncio.run(migrate(settings, demo_merchants=demo_merchants))
