"""The frame around every page, in a browser."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.browser import PHONE, no_serious_violations, no_sideways_scroll

pytestmark = pytest.mark.relay
HOME = "/app/demo/"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_by_everybody(open_page: Callable[..., Page], scheme: str) -> None:
    page = open_page(color_scheme=scheme)
    page.goto(HOME)
    no_serious_violations(page)


def test_the_theme_is_kept(page: Page) -> None:
    page.emulate_media(color_scheme="light")
    page.goto(HOME)
    ground = "() => getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(ground)
    page.get_by_label("Theme").click()
    page.get_by_role("button", name="Dark").click()
    assert page.evaluate(ground) != before
    page.reload()
    assert page.locator("html").get_attribute("data-theme") == "dark"


def test_on_a_phone_the_menu_is_a_drawer(open_page: Callable[..., Page]) -> None:
    page = open_page(viewport=PHONE)
    page.goto(HOME)
    no_sideways_scroll(page)
    page.get_by_role("button", name="Menu").press("Enter")
    link = page.get_by_role("dialog").get_by_role("link", name="Overview")
    expect(link).to_be_visible()
    expect(link).to_have_attribute("aria-current", "page")
    no_serious_violations(page)
    page.keyboard.press("Escape")
    expect(link).not_to_be_visible()


def test_the_first_tab_skips_to_the_content(page: Page) -> None:
    page.goto(HOME)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()


def test_the_language_is_switched_and_kept(page: Page) -> None:
    page.goto(HOME)
    page.get_by_label("Language").click()
    page.get_by_role("button", name="繁體中文").click()
    expect(page.locator("html")).to_have_attribute("lang", "zh-hant")
    page.reload()
    expect(page.locator("html")).to_have_attribute("lang", "zh-hant")


def test_a_customer_may_be_called_like_a_door(open_page: Callable[..., Page]) -> None:
    """`/app/info/` is its page, and not `/<key>/info`."""
    page = open_page(signed_in=False)
    page.goto("/app/info/")
    assert page.url.endswith("/accounts/login/?next=/app/info/")
