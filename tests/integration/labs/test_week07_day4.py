"""Day 4 of week 7, short, against a real engine: sales lose, the full system holds, and the gate stops the promotion."""

from __future__ import annotations

from pathlib import Path

import pytest

from labs.engine.model import Status
from labs.engine.run import Options
from labs.week07.day4_relevance import LAB
from tests.integration.labs.borrowed import BorrowedLab, BorrowedRuntime
from tests.servers import SearchServer

pytestmark = pytest.mark.integration


@pytest.fixture
def borrowed(tmp_path: Path, search_server: SearchServer) -> BorrowedLab:
    return BorrowedLab(tmp_path, BorrowedRuntime(ports={"search-engine": search_server.port, "prometheus": 1}))


async def test_sales_lose_and_the_full_system_holds_everything(borrowed: BorrowedLab) -> None:
    code = await borrowed.run(LAB, Options(short=True))
    assert code == 0, borrowed.text
    verdict = borrowed.verdict(LAB)
    assert verdict.variants["popularity"].invariants["finds_what_is_meant"].status is Status.BROKEN
    assert all(one.status is Status.HELD for one in verdict.variants["personalised"].invariants.values()), borrowed.text
