"""The schema of cron, and the lab's demo rows. See kit.migration."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.cron.settings import MigrateSettings
from services.kit import migration

SCHEMA = migration.Schema("cron", Path(__file__).parent / "migrations")
APP = SCHEMA.app

DEMO_TENANTS = {
    "ten_demo": ("Demo tenant", "lab_demo_cron_key"),
    "ten_other": ("Other tenant", "lab_other_cron_key"),
}

_TENANT = text("INSERT INTO tenants (id, name) VALUES (:id, :name) ON CONFLICT DO NOTHING")
_KEY = text("INSERT INTO api_keys (key_sha256, tenant_id) VALUES (:hash, :id) ON CONFLICT DO NOTHING")


async def migrate(settings: MigrateSettings, *, demo_tenants: bool) -> str:
    """Bring the database up to date; return its name. Raises what kit.migration.migrate raises."""
    admin, app = settings.admin_database_url.get_secret_value(), settings.database_url.get_secret_value()
    return await migration.migrate(SCHEMA, admin, app, _demo if demo_tenants else None)


async def _demo(connection: AsyncConnection) -> None:
    for tenant, (title, key) in DEMO_TENANTS.items():
        await connection.execute(_TENANT, {"id": tenant, "name": title})
        await connection.execute(_KEY, {"hash": hashlib.sha256(key.encode()).digest(), "id": tenant})


def run(settings: MigrateSettings, *, demo_tenants: bool) -> str:
    """`migrate`, for the command line."""
    return asyncio.run(migrate(settings, demo_tenants=demo_tenants))
