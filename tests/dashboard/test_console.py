"""The live console shows the relay's frames, for whoever is signed in, and renews itself."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Page, WebSocket, expect

from tests.dashboard.browser import Site

pytestmark = pytest.mark.relay
START = "/app/demo/start/"


def test_first_frames_come_and_can_be_stopped(page: Page) -> None:
    page.goto(START)
    out = page.get_by_role("log", name="Frames")
    expect(out).to_contain_text('"channel":"trades"', timeout=30_000)
    page.get_by_label("Channel").select_option("l2Book")
    page.get_by_label("Coin").fill("ETH")
    page.get_by_role("button", name="Subscribe").click()
    expect(out).to_contain_text('"channel":"l2Book"', timeout=30_000)
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Clear").click()
    expect(out).to_be_empty()
    page.get_by_role("button", name="Resume").click()
    expect(out).to_contain_text('"coin":"ETH"')


def test_no_token_is_in_an_address(page: Page) -> None:
    opened: list[str] = []
    page.on("websocket", lambda socket: opened.append(socket.url))
    page.goto(START)
    page.wait_for_selector("[data-console][data-state=live]")
    assert opened
    assert not [url for url in opened if "hlr_" in url]


def test_a_token_that_ends_is_renewed_without_a_word(page: Page, site: Site) -> None:
    sockets: list[WebSocket] = []
    page.on("websocket", lambda socket: sockets.append(socket))
    page.goto(START)
    page.wait_for_selector("[data-console][data-state=live]")
    with page.expect_websocket():
        # As its 15 minutes would: the door refuses it, and what is open closes.
        site.shell(
            "from tenants.models import DashboardToken\n"
            "from tenants.admission.changes import announce\n"
            "digests = list(DashboardToken.objects.values_list('digest', flat=True))\n"
            "DashboardToken.objects.all().delete(); announce(digests)"
        )
    assert len(sockets) >= 2
    page.get_by_role("button", name="Clear").click()
    page.get_by_label("Channel").select_option("l2Book")
    page.get_by_role("button", name="Subscribe").click()
    expect(page.get_by_role("log", name="Frames")).to_contain_text('"channel":"l2Book"')


def test_signing_out_ends_the_stream(open_page, site: Site) -> None:  # type: ignore[no-untyped-def]
    from tests.dashboard.browser import sign_in

    page = open_page(signed_in=False)
    sign_in(page, site.relay.run["customer_user"], site.relay.run["customer_password"])
    page.goto(START)
    page.wait_for_selector("[data-console][data-state=live]")
    other = page.context.new_page()
    other.goto("/accounts/logout/")
    other.locator("main form button").first.click()
    page.wait_for_selector("[data-console][data-state=signed-out]")
    page.watched.forgive("401", "403")


def test_what_it_shows_is_counted_as_free(page: Page, site: Site) -> None:
    page.goto(START)
    page.wait_for_selector("[data-console][data-state=live]")
    expect(page.get_by_role("log", name="Frames")).to_contain_text('"channel":"trades"')
    told = json.loads(
        site.shell(
            "import json\n"
            "from billing.models import LedgerEntry\n"
            "rows = LedgerEntry.objects.filter(key__is_dashboard=True)\n"
            "import time\n"
            "end = time.monotonic() + 60\n"
            "while not rows.exists() and time.monotonic() < end: time.sleep(0.5)\n"
            "print(json.dumps(sorted(set(rows.values_list('zero_rated', flat=True)))))"
        )
    )
    assert told == ["dashboard"]
