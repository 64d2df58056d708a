"""What the public pages do in a browser, without a console error and without another host."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.browser import PHONE

pytestmark = pytest.mark.relay


@pytest.fixture
def visitor(open_page: Callable[..., Page]) -> Page:
    """Somebody who is not signed in."""
    return open_page(signed_in=False)


def test_search_by_keyboard_leads_to_the_passage(visitor: Page) -> None:
    visitor.goto("/docs/en/")
    visitor.keyboard.press("/")
    visitor.keyboard.type("close codes")
    found = visitor.locator("#docs-found a")
    expect(found.first).to_have_text("Limits and close codes: Close codes")
    visitor.keyboard.press("Enter")
    visitor.wait_for_url("**/docs/en/limits/#close-codes")
    visitor.locator("#docs-search").fill("zzzz-nothing")
    expect(visitor.locator("#docs-found")).to_have_text("Nothing found.")
    visitor.keyboard.press("Escape")
    expect(visitor.locator("#docs-found")).to_be_hidden()


def test_a_snippet_is_copied_with_this_relays_address(visitor: Page) -> None:
    visitor.goto("/docs/en/quickstart/")
    first = visitor.locator(".pub-code").first
    first.get_by_role("button", name="Copy").click()
    expect(first.get_by_role("button")).to_have_text("Copied")
    copied = visitor.evaluate("() => navigator.clipboard.readText()")
    assert "from hyperliquid.info import Info" in copied
    host = visitor.evaluate("() => location.host")
    assert f'Info("http://{host}/YOUR_KEY")' in copied


def test_the_language_is_switched_on_the_same_page(visitor: Page) -> None:
    visitor.goto("/docs/en/design/relay-core-design/")
    visitor.get_by_role("link", name="繁體中文").click()
    visitor.wait_for_url("**/docs/zh-hant/design/relay-core-design/")
    expect(visitor.locator("h1")).to_have_text("Relay 核心")
    assert visitor.locator("html").get_attribute("lang") == "zh-hant"


def test_the_menu_of_a_phone_opens_by_itself_to_nobody(open_page: Callable[..., Page]) -> None:
    page = open_page(signed_in=False, viewport=PHONE)
    page.goto("/docs/en/faq/")
    link = page.locator(".docs-menu").get_by_role("link", name="Quickstart")
    expect(link).to_be_hidden()
    page.locator(".docs-menu summary").click()
    link.click()
    page.wait_for_url("**/docs/en/quickstart/")


def test_from_the_first_page_to_a_sign_up(visitor: Page) -> None:
    visitor.goto("/")
    expect(visitor.get_by_role("link", name="All feeds are fresh")).to_be_visible()
    visitor.get_by_role("link", name="Sign up").click()
    visitor.wait_for_url("**/accounts/signup/")


def test_the_theme_is_kept(visitor: Page) -> None:
    visitor.goto("/status/")
    visitor.locator("summary[aria-label=Theme]").click()
    visitor.get_by_role("button", name="Dark").click()
    visitor.goto("/docs/en/")
    assert visitor.locator("html").get_attribute("data-theme") == "dark"
