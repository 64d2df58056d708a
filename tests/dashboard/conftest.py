"""A browser for a module's tests and a page for each.

Not for the session: Playwright's loop runs in the thread that made it, and while it does neither
asyncio tests nor Django's database calls work there. So a module with a `page` touches no database
of the test's own; it asks the relay (`site.shell`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.conftest import skip
from tests.dashboard.browser import CHROMIUM, DEADLINE_MS, DESKTOP, Site, Watched
from tests.support.environment import VAR
from tests.support.migrated import copy_migrated
from tests.support.relay import RunningRelay

#: Of a test with a browser: the first one starts a relay and fills it.
TIMEOUT_S = 300


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give those with a browser their time."""
    for item in items:
        if item.path.parent == Path(__file__).parent and item.get_closest_marker("relay"):
            item.add_marker(pytest.mark.timeout(TIMEOUT_S))


@pytest.fixture(scope="package")
def site() -> Iterator[Site]:
    """A relay of the dashboard's own, whose customers no other test meets, on a migrated
    database; gone after the last of them, because also a quiet one takes a fifth of a core."""
    relay = RunningRelay(VAR / "dashboard-relay", RELAY_WEBHOOKS_PRIVATE="1")
    relay.var.mkdir(mode=0o700)
    copy_migrated(relay.var / "relay.sqlite3")
    relay.start()
    yield Site(relay)
    relay.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; without it the test is skipped, or fails where nothing may be missing."""
    if CHROMIUM is None:
        skip("chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser, site: Site) -> Iterator[Callable[..., Page]]:
    """Opens a page in a browser of its own: the demo customer's, or with `signed_in=False` a
    stranger's; further options are Playwright's (`viewport`, `color_scheme`). Watched until the
    test's end; `page.watched` forgives what a test provokes."""
    opened: list[tuple[Any, Watched]] = []

    def open_page(*, signed_in: bool = True, **options: Any) -> Page:
        options.setdefault("viewport", DESKTOP)
        # Colours on their way to others are neither's contrast.
        options.setdefault("reduced_motion", "reduce")
        if signed_in:
            options["storage_state"] = site.signed_in(browser)
        context = browser.new_context(base_url=site.url, **options)
        context.set_default_timeout(DEADLINE_MS)
        context.grant_permissions(["clipboard-read", "clipboard-write"], origin=site.url)
        watched = Watched(context, urlsplit(site.url).netloc)
        opened.append((context, watched))
        page = context.new_page()
        page.watched = watched  # type: ignore[attr-defined]
        return page

    yield open_page
    for context, _ in opened:
        context.close()
    for _, watched in opened:
        watched.assert_clean()


@pytest.fixture
def page(open_page: Callable[..., Page]) -> Page:
    """The demo customer's page on a desktop."""
    return open_page()
