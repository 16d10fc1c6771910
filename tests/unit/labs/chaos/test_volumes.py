"""Which folder a full disk covers, by the compose file as it is."""

from __future__ import annotations

import re
from pathlib import Path

import aiohttp
import pytest

from infra.choose import open_runtime
from infra.runtime import RuntimeProblem
from labs.chaos.context import ByHand
from labs.chaos.scripts import SMALL_VOLUMES
from labs.soak.run import DISK_OF

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture
async def by_hand(monkeypatch: pytest.MonkeyPatch) -> ByHand:
    monkeypatch.setenv("LAB_RUNTIME", "native")
    async with aiohttp.ClientSession() as session:
        return ByHand(open_runtime("volumes", edges=False), session, ROOT)


@pytest.mark.parametrize("service", sorted({*SMALL_VOLUMES, DISK_OF}))
async def test_whoever_may_get_a_full_disk_has_one_volume_that_nobody_shares(by_hand: ByHand, service: str) -> None:
    assert by_hand.volume(service).name == service


@pytest.mark.parametrize("service", ["payments-api", "kafka-jvm", "nobody"])
async def test_a_service_without_one_is_named(by_hand: ByHand, service: str) -> None:
    with pytest.raises(RuntimeProblem, match=re.escape(f"{service} has no named volume of its own.")):
        by_hand.volume(service)
