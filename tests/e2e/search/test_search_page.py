"""The search page in a real browser: by keyboard, with suggestions, and with scripts switched off."""

from __future__ import annotations

import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from infra.native.free_ports import free_ports
from tests.servers import ROOT
from tests.stack import launch

pytestmark = [pytest.mark.slow]

CHROMIUM = Path("/usr/bin/chromium")
NOTHING_OUTSIDE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
LONG = 60_000


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    (port,) = free_ports(1)
    log = tmp_path_factory.mktemp("search") / "log"
    process = launch(["tests.e2e.search.served", str(port)], os.environ | {"PYTHONPATH": str(ROOT)}, log)
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 60
    try:
        while True:
            try:
                with urllib.request.urlopen(f"{address}/health/ready", timeout=2):
                    break
            except (urllib.error.URLError, OSError):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
        yield address
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=LONG)  # set_default_timeout does not hold for it
    if not CHROMIUM.exists():
        pytest.skip(f"needs {CHROMIUM} (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", NOTHING_OUTSIDE])
        yield browser
        browser.close()


def test_somebody_searches_by_keyboard_takes_a_suggestion_and_asks_why(url: str, browser: Browser) -> None:
    page = browser.new_page()
    page.set_default_timeout(LONG)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(url)
    field = page.get_by_role("combobox", name="Search for products")
    expect(page.get_by_role("status")).to_have_text("30 products")
    field.press_sequentially("nor")
    expect(page.get_by_role("option").first).to_contain_text("Nord brand, 10", timeout=LONG)
    field.press("Escape")
    expect(page.get_by_role("listbox")).to_be_hidden()
    field.press_sequentially("d")
    expect(page.get_by_role("option").first).to_contain_text("Nord", timeout=LONG)
    field.press("ArrowDown")
    expect(field).to_have_attribute("aria-activedescendant", "option0")
    field.press("Enter")
    page.wait_for_url(re.compile("brand=Nord"), timeout=LONG)
    expect(page.get_by_role("checkbox", name="Nord")).to_be_checked()
    page.get_by_role("link", name="Why is Nord lamp 4 here?").click()
    expect(page.get_by_role("heading", name="is where it is")).to_be_visible()
    page.get_by_role("link", name="Close").click()
    expect(page.locator("#why")).to_have_count(0)
    assert complaints == []
    page.close()


def test_without_scripts_facets_orders_and_pages_work(url: str, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.set_default_timeout(LONG)
    page.goto(f"{url}/?q=lamp")
    page.get_by_role("checkbox", name="red").check()
    page.get_by_label("Order").select_option("price")
    page.get_by_role("button", name="Apply").click()
    page.wait_for_url(re.compile("attr.colour=red"), timeout=LONG)
    assert "sort=price" in page.url
    expect(page.get_by_role("checkbox", name="red")).to_be_checked()
    page.get_by_role("link", name="Next page").click()
    expect(page.get_by_role("status")).to_have_text("10 more products")
    page.get_by_role("link", name="Remove all filters").click()
    expect(page.get_by_role("checkbox", name="red")).not_to_be_checked()
    context.close()


def test_an_error_in_a_query_is_told_beside_the_field(url: str, browser: Browser) -> None:
    page = browser.new_page()
    page.set_default_timeout(LONG)
    page.goto(url)
    page.get_by_role("combobox", name="Search for products").fill('lamp "red')
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("alert")).to_contain_text("This quote is never closed.")
    expect(page.get_by_role("combobox", name="Search for products")).to_have_attribute("aria-invalid", "true")
    page.close()
