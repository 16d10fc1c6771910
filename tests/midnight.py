"""The day ends while a test is under way: what was paid today then stands in the file of yesterday."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

LONGEST_TEST = timedelta(seconds=30)


async def far_from_midnight() -> None:
    """Return once the day (UTC) is long enough for a test that asks for its date more than once."""
    now = datetime.now(UTC)
    left = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1) - now
    if left < LONGEST_TEST:
        await asyncio.sleep(left.total_seconds() + 0.1)
