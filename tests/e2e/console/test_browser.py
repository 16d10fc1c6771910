"""The console in a real browser, on real processes: run a lab, read its report, break a service and see it heal."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from labs.story import record
from labs.story.follow import new_story
from tests.e2e.console.conftest import Served, Watched
from tests.e2e.console.observers import TRACE
from tests.integration.infra.stack import row

pytestmark = [pytest.mark.slow]
LONG = 60_000


def run_tiny_lab(page: Page, prediction: str, *, keep: bool = False) -> None:
    page.get_by_role("button", name="Run week09-day9").click()
    page.get_by_label("What do you expect?").fill(prediction)
    if keep:
        page.get_by_label("keep it running").check()
    page.locator("#run-start").click()


def test_a_lab_is_started_watched_to_its_end_and_its_report_opened(served: Served, watched: Watched) -> None:
    page = watched.page
    page.goto(served.url)
    run_tiny_lab(page, "half of them, <b>twice</b>")
    expect(page.locator("#dock .progress")).to_contain_text("naive · ", timeout=LONG)
    expect(page.locator("#dock-state")).to_have_text("pass", timeout=LONG)
    result = page.locator("#dock-result")
    expect(result).to_contain_text("half of them, <b>twice</b>")
    expect(result).to_contain_text("naive broke exactly_once")
    expect(result).to_contain_text("engineered held")
    page.get_by_role("button", name="Output").click()
    expect(page.locator("#dock-log")).to_contain_text("VERDICT week09-day9 pass")
    page.get_by_role("link", name="Open the report").click()
    expect(page.get_by_role("heading", name="A fake day")).to_be_visible()
    expect(page.locator("body")).to_contain_text("half of them, <b>twice</b>")
    assert watched.complaints == []


def test_a_cancelled_lab_takes_its_fault_back(served: Served, watched: Watched) -> None:
    page = watched.page
    page.goto(served.url)
    run_tiny_lab(page, "", keep=True)
    expect(page.locator("#dock .progress .faults")).to_be_visible(timeout=LONG)
    assert (served.scratch.root / "world" / "fault").exists()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#dock-state")).to_have_text("cancelled", timeout=LONG)
    assert not (served.scratch.root / "world" / "fault").exists()


def test_a_service_is_killed_and_comes_back_when_the_time_is_over(served: Served, watched: Watched) -> None:
    page = watched.page
    page.goto(served.url)
    before = row(served.runtime, "web")
    kill = page.locator("[data-script=kill]")
    kill.get_by_role("combobox").select_option("web")
    kill.get_by_label("Seconds of kill").fill("12")  # the page polls each 3 s, and must see it dead
    kill.get_by_role("button").click()
    active = page.locator("#chaos-active .active").first
    expect(active).to_contain_text("receipt", timeout=LONG)
    expect(page.locator("tr", has_text="web").first).to_contain_text("exited")
    expect(active).to_contain_text("healed", timeout=LONG)
    expect(page.locator("tr", has_text="web").first).to_contain_text("running", timeout=LONG)
    after = row(served.runtime, "web")
    assert after.state == "running"
    assert after.pid != before.pid
    assert after.restarts == before.restarts + 1


def test_a_fault_can_be_healed_before_its_time(served: Served, watched: Watched) -> None:
    page = watched.page
    page.goto(served.url)
    pause = page.locator("[data-script=pause]")
    pause.get_by_role("combobox").select_option("back")
    pause.get_by_label("Seconds of pause").fill("600")
    pause.get_by_role("button").click()
    active = page.locator("#chaos-active .active", has_text="pause").first
    expect(page.locator("tr", has_text="back").first).to_contain_text("paused", timeout=LONG)
    active.get_by_role("button", name="Heal now").click()
    expect(page.locator("tr", has_text="back").first).to_contain_text("running", timeout=LONG)
    assert row(served.runtime, "back").state == "running"


def test_what_runs_is_shown_with_its_log(served: Served, watched: Watched) -> None:
    page = watched.page
    page.goto(served.url)
    page.get_by_role("button", name="back", exact=True).click()
    expect(page.get_by_label("Log of dev/back")).to_contain_text("listening")
    expect(page.locator("#summary")).to_contain_text("2 running")


def test_charts_alerts_and_traces_are_drawn_without_a_complaint_of_the_browser(
    served: Served, watched: Watched
) -> None:
    page = watched.page
    page.goto(served.url)
    page.locator("#charts").scroll_into_view_if_needed()
    expect(page.locator("#chart-grid .js-plotly-plot path.js-line").first).to_be_attached(timeout=LONG)
    expect(page.locator("#chart-marks")).to_contain_text("naive: kill web")
    expect(page.locator("#chart-grid .stat").first).to_be_visible()
    expect(page.locator("#chart-grid .points path").first).to_be_attached()
    expect(page.locator("#alerts-list")).to_contain_text("Payments burn their budget")
    page.locator("#traces-list a").first.click()
    expect(page).to_have_url(re.compile(TRACE))
    expect(page.locator(".span")).to_have_count(3)
    expect(page.locator(".span .name").nth(2)).to_have_text("POST /v1/charges")
    page.locator(".span button").first.click()
    expect(page.locator(".span-facts").first).to_contain_text("http.request.method")
    expect(page.locator("#trace-logs")).to_contain_text("None among the newest lines")
    assert watched.complaints == []


def test_a_story_is_followed_as_it_goes_with_its_trace_on_the_same_page(served: Served, watched: Watched) -> None:
    page, story = watched.page, new_story("LAMP", 2)
    story.trace_id = TRACE
    page.goto(f"{served.url}/story")
    expect(page.locator("#story-facts")).to_contain_text("No story has been told here yet")
    for station in story.stations[:3]:
        station.state, station.says, station.seconds = "done", "seen <b>so</b>", 0.25
    story.stations[3].state = "now"
    record.write(served.scratch.root, story)
    expect(page.locator("#story-stations tr")).to_have_count(len(story.stations), timeout=LONG)
    expect(page.locator("#story-stations tr.done")).to_have_count(3)
    expect(page.locator("#story-stations tr.now")).to_contain_text("The card is charged once")
    expect(page.locator("#story-stations tr.done").first).to_contain_text("seen <b>so</b>")
    expect(page.locator("#story-waterfall .span")).to_have_count(3, timeout=LONG)
    story.stations[3].state, story.stations[3].says = "stopped", "the bank has no charge of this card"
    story.state, story.problem = "stopped", "The story stopped at 'The card is charged once'."
    record.write(served.scratch.root, story)
    expect(page.locator("#story-stations tr.stopped")).to_contain_text("no charge of this card", timeout=LONG)
    expect(page.get_by_role("alert").filter(has_text="stopped at")).to_be_visible()
    record.path_of(served.scratch.root).unlink()
    assert watched.complaints == []


def test_the_course_has_a_button_at_each_command_and_its_links_stay_here(served: Served, watched: Watched) -> None:
    page = watched.page
    page.goto(f"{served.url}/course/labs/week02/README.md")
    page.get_by_role("button", name="Run make lab week=2 day=2", exact=True).first.click()
    expect(page.locator("#run-preview")).to_have_text("make lab week=2 day=2")
    expect(page.get_by_label("What do you expect?")).to_have_attribute(
        "placeholder", re.compile("for example: about 5 %")
    )
    page.get_by_role("button", name="Not now").click()
    page.locator("article a[href$='naive_payments.py']").first.click()
    expect(page.get_by_role("heading", name="labs/week02/naive_payments.py")).to_be_visible()
    assert watched.complaints == []


def test_a_page_of_another_site_cannot_start_anything(served: Served, watched: Watched) -> None:
    page = watched.page
    page.goto("data:text/html,<p>elsewhere</p>")
    status = page.evaluate(
        """async (url) => { try { const answer = await fetch(url + '/api/jobs', {method: 'POST', mode: 'no-cors',
        headers: {'Content-Type': 'text/plain'}, body: '{"command": "make down"}'}); return answer.status; } catch { return -1; } }""",
        served.url,
    )
    assert status in {0, -1}
    page.goto(served.url)
    jobs = page.evaluate(
        "fetch('/api/state').then((answer) => answer.json()).then((state) => state.jobs.map((job) => job.command))"
    )
    assert "make down" not in jobs


def test_an_unknown_address_gets_a_page_that_leads_back(served: Served, watched: Watched) -> None:
    watched.page.goto(f"{served.url}/course/nothing.md")
    expect(watched.page.get_by_role("heading", name="There is no such page")).to_be_visible()
    expect(watched.page.get_by_role("link", name="Back to the console")).to_be_visible()
