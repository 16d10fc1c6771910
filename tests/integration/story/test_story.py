"""One checkout through all systems, real ones; and with one of them gone the story says at which station it stopped."""

from __future__ import annotations

import aiohttp
import pytest

from labs.story.follow import STATIONS, Follower, new_story
from labs.story.house import Outside
from labs.story.record import Station, Story
from services.contracts.trace_edges import ONE_PAYMENT, STORY_EDGES, missing
from tests.integration.story.stack import StackHouse, StoryStack
from tests.stack import until

pytestmark = [pytest.mark.integration, pytest.mark.slow]


SALE = "SELECT 1 FROM sales WHERE payment_id = $1"


async def told(house: StoryStack, *, quantity: int = 2, stops_at: str = "") -> Story:
    """Hurries only at the station where it must stop: the ones before it may be slow on a busy machine."""
    story = new_story("", quantity)

    def tell(_: Story, one: Station) -> None:
        if one.title == stops_at:
            follower.patience = 4.0

    async with aiohttp.ClientSession(trust_env=False) as http:
        traces = f"http://127.0.0.1:{house.ports['jaeger']}"
        follower = Follower(Outside(StackHouse(house), http), traces, story, tell, patience=90.0)
        await follower.run()
    return story


async def test_a_checkout_is_followed_through_all_systems_in_one_trace(house: StoryStack) -> None:
    story = await told(house)
    assert story.problem == ""
    assert [station.state for station in story.stations] == ["done"] * len(STATIONS)
    assert story.job_trace_id not in ("", story.trace_id)

    async def whole() -> bool:
        spans = [*await house.spans(story.trace_id), *await house.spans(story.job_trace_id)]
        return not missing((*ONE_PAYMENT, *STORY_EDGES), spans)

    await until(whole, within=60, what="every edge of the story")
    # The sale and its effect stand once, and the next story finds them so.
    again = await told(house, quantity=1)
    assert again.problem == ""
    figures = [one.says for one in again.stations if one.name in ("product", "search")]
    assert "stock 998, popularity 2" in figures[0]
    assert "stock 997, popularity 3" in figures[1]


@pytest.mark.parametrize(
    ("role", "station"),
    [
        ("dispatcher", "The webhook arrives"),
        ("catalog-sales", "The stock goes down"),
        ("search-indexer", "Search shows it, too"),
        ("scheduler", "A scheduled job runs"),
        ("reconciler", "It reconciles"),
        ("relay", "The event is told"),
        ("bank", "The checkout is paid"),
    ],
)
async def test_with_a_part_gone_the_story_names_the_station(house: StoryStack, role: str, station: str) -> None:
    house.of(role).kill()
    try:
        story = await told(house, stops_at=station)
    finally:
        await house.start(role)
    if story.payment:
        await until(lambda: house.sql(SALE, story.payment, database="catalog"), within=60, what="the sale after all")
    await until(house.index_is_fresh, within=60, what="the sale in the index")
    assert story.state == "stopped"
    assert f"stopped at '{station}'" in story.problem, story.problem
