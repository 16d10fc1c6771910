"""The schema of webhooks, and the lab's demo rows. See kit.migration."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.kit import migration
from services.webhooks.settings import MigrateSettings

PLANS = ("enable_seqscan", "enable_hashjoin", "enable_mergejoin")
"""Off for our role. Every statement of the hot path is a walk along an index; a plan made while a table was still empty
would scan it, and stay until the next ANALYZE."""
SCHEMA = migration.Schema("webhooks", Path(__file__).parent / "migrations", PLANS)
APP = SCHEMA.app

DEMO_APPLICATIONS = {
    "app_demo": ("Demo application", "mer_demo", "lab_demo_application_key"),
    "app_other": ("Other application", "mer_other", "lab_other_application_key"),
}

_APPLICATION = text(
    "INSERT INTO applications (id, name, merchant_id) VALUES (:id, :name, :merchant) ON CONFLICT DO NOTHING"
)
_KEY = text("INSERT INTO api_keys (key_sha256, application_id) VALUES (:hash, :id) ON CONFLICT DO NOTHING")


async def migrate(settings: MigrateSettings, *, demo: bool) -> str:
    """Bring the database up to date; return its name. Raises what kit.migration.migrate raises."""
    admin, app = settings.admin_database_url.get_secret_value(), settings.database_url.get_secret_value()
    return await migration.migrate(SCHEMA, admin, app, _demo if demo else None)


async def _demo(connection: AsyncConnection) -> None:
    for application, (name, merchant, key) in DEMO_APPLICATIONS.items():
        await connection.execute(_APPLICATION, {"id": application, "name": name, "merchant": merchant})
        await connection.execute(_KEY, {"hash": hashlib.sha256(key.encode()).digest(), "id": application})


def run(settings: MigrateSettings, *, demo: bool) -> str:
    """`migrate`, for the command line."""
    return asyncio.run(migrate(settings, demo=demo))
