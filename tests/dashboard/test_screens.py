"""Every page of `screens.py` in a browser: readable by everybody, light and dark, on a phone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page

from tests.dashboard.browser import PHONE, Site, no_serious_violations, no_sideways_scroll
from tests.dashboard.screens import SCREENS, Screen
from tests.dashboard.screenshots import seeded

pytestmark = pytest.mark.relay


@pytest.fixture(scope="module")
def names(site: Site) -> dict[str, str]:
    """What paths may use."""
    return seeded(site)


@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: screen.name)
def test_a_page(open_page: Callable[..., Page], names: dict[str, str], screen: Screen) -> None:
    page = open_page(signed_in=screen.is_signed_in, color_scheme="light")
    answer = page.goto(screen.path.format(**names))
    assert answer is not None
    if answer.status == 404:
        page.watched.forgive("404")  # type: ignore[attr-defined]
    if screen.wait_for:
        page.wait_for_selector(screen.wait_for)
    no_serious_violations(page)
    page.emulate_media(color_scheme="dark")
    no_serious_violations(page)
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    no_sideways_scroll(page)
