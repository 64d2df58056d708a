"""The live pages in a browser: frames of a real relay, what happens when its workers die, a socket
that is closed from the page, and a race."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.dashboard.browser import PHONE, Site, no_serious_violations, no_sideways_scroll

pytestmark = pytest.mark.relay
MARKET = "/app/demo/market"
LIVE = "#market[data-state=live]"
#: Workers that died are begun anew within seconds; on a starved machine it takes longer.
BACK_MS = 60_000


def _number(page: Page, name: str) -> int:
    return int(re.sub(r"\D", "", page.locator(f"[data-{name}]").inner_text()) or 0)


def _run(site: Site) -> dict[str, Any]:
    """As the supervisor has it now."""
    found: dict[str, Any] = json.loads((site.relay.var / "run.json").read_text("utf-8"))
    return found


# --- the market ---


def test_the_book_and_the_tape_move(page: Page) -> None:
    page.goto(MARKET)
    page.wait_for_selector(LIVE)
    height, sequence = _number(page, "height"), _number(page, "sequence")
    page.wait_for_function(
        "([height, sequence]) => ['height', 'sequence'].every((name, at) => "
        "Number(document.querySelector(`[data-${name}]`).textContent.replace(/\\D/g, '')) > "
        "[height, sequence][at])",
        arg=[height, sequence],
    )
    bids, asks = (
        [_price(text) for text in page.locator(f"[data-{side}] .ladder-px").all_inner_texts()]
        for side in ("bids", "asks")
    )
    assert bids == sorted(bids, reverse=True)
    assert asks == sorted(asks, reverse=True)
    assert len(bids) == len(asks) == 13
    expect(page.locator(".tape-line.is-buy, .tape-line.is-sell").first).to_be_visible()
    expect(page.locator("[data-latency]")).to_contain_text(re.compile(r"\d+ ms|\d s"))
    expect(page.locator("[data-gaps]")).to_have_text("0")


def _price(text: str) -> float:
    return float(text.replace(",", ""))


def test_a_coin_is_found_with_the_keyboard(page: Page) -> None:
    page.goto(MARKET)
    page.wait_for_selector(LIVE)
    page.keyboard.press("/")
    search = page.get_by_role("combobox", name="Find a coin")
    expect(search).to_be_focused()
    expect(page.locator("#coin-list [role=option]").first).to_be_visible()
    page.keyboard.type("h")
    page.keyboard.press("Escape")
    expect(search).not_to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type("eth")
    expect(page.locator("#coin-list [aria-selected=true]")).to_contain_text("ETH")
    page.keyboard.press("Enter")
    page.wait_for_url("**coin=ETH")
    page.wait_for_selector(LIVE)
    expect(page).to_have_title(re.compile(r"[\d,.]+ ETH · "))


def test_an_unknown_coin_is_said_to_be_one(page: Page) -> None:
    page.goto(f"{MARKET}?coin=BTX")
    expect(page.locator("[data-message]")).to_contain_text("BTX")
    expect(page.locator(LIVE)).to_have_count(0)


def test_price_steps_and_pause(open_page: Callable[..., Page]) -> None:
    page = open_page(viewport=PHONE)
    page.goto(MARKET)
    page.wait_for_selector(LIVE)
    page.get_by_label("Price steps").select_option("3")
    page.wait_for_selector(LIVE)
    first = page.locator("[data-bids] .ladder-px").first
    expect(first).to_have_text(re.compile(r"00$"))
    no_sideways_scroll(page)
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#market")).to_have_attribute("data-state", "paused")
    no_serious_violations(page)
    page.get_by_role("button", name="Pause").click()
    page.wait_for_selector(LIVE)
    expect(page.locator("[data-tape]")).to_contain_text("Went on at the last cursor")


def test_a_line_that_breaks_is_mended_and_said(page: Page) -> None:
    page.add_init_script(
        "const Native = WebSocket; window.sockets = [];"
        "window.WebSocket = class extends Native {"
        " constructor(...given) { super(...given); window.sockets.push(this); } };"
    )
    page.goto(MARKET)
    page.wait_for_selector(LIVE)
    page.evaluate("() => window.sockets.at(-1).close(4000)")
    expect(page.locator("[data-tape]")).to_contain_text("Connection lost")
    page.wait_for_selector(LIVE)
    expect(page.locator("[data-tape]")).to_contain_text("Went on at the last cursor")


def test_dead_workers_are_stale_and_then_a_gap(page: Page, site: Site) -> None:
    page.goto(MARKET)
    page.wait_for_selector(LIVE)
    processes = _run(site)["processes"]
    workers = [processes[name] for name in ("upstream", "upstream-2")]
    # Killed at once they can be back before anything has grown stale.
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    expect(page.locator("#market")).to_have_attribute("data-state", "stale")
    expect(page.locator(".tape-line.is-gap").first).to_contain_text("Stale")
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    expect(page.locator("[data-gaps]")).to_have_attribute("data-any", "yes", timeout=BACK_MS)
    page.wait_for_selector(LIVE, timeout=BACK_MS)


# --- connections ---


@pytest.fixture
def socket(site: Site) -> Iterator[ClientConnection]:
    """A customer's own, that follows something."""
    with connect(f"{site.relay.run['ws']}?relay=1") as open_socket:
        subscription = {"type": "trades", "coin": "SOL"}
        open_socket.send(json.dumps({"method": "subscribe", "subscription": subscription}))
        yield open_socket


def test_a_socket_is_seen_and_closed(page: Page, socket: ClientConnection) -> None:
    page.goto("/app/demo/connections")
    row = page.locator("tr[data-connection]").filter(has_text="SOL")
    expect(row).to_be_visible()
    no_serious_violations(page)
    row.get_by_role("link").first.click()
    expect(page.get_by_role("heading", name="1 subscription")).to_be_visible()
    no_serious_violations(page)
    page.go_back()
    row.get_by_role("button", name="Disconnect").press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="Disconnect").click()
    expect(page.get_by_text("It is closed within a second.", exact=True)).to_be_visible()
    with pytest.raises(ConnectionClosed):
        _read_to_the_end(socket)
    expect(row).to_have_count(0)


def _read_to_the_end(socket: ClientConnection) -> None:
    while True:
        socket.recv(timeout=10)


# --- the race ---


def test_a_race_against_the_simulator(open_page: Callable[..., Page], site: Site) -> None:
    page = open_page(viewport=PHONE)
    _race(page, f"{site.relay.run['simulator'].replace('http', 'ws', 1)}/ws")
    expect(page.locator("[data-status]")).to_contain_text("Done", timeout=40_000)
    assert _number(page, "a-events") > 0
    assert _number(page, "a-missing") == _number(page, "b-missing") == 0
    no_serious_violations(page)
    no_sideways_scroll(page)
    page.get_by_role("button", name="Copy as JSON").click()
    told = json.loads(page.evaluate("() => navigator.clipboard.readText()"))
    assert told["compared"] == sum(told["histogram"])
    assert set(told["endpoints"]) == {"a", "b"}
    assert "hlr_" not in json.dumps(told)


def test_a_stranger_brings_a_key_which_stays_here(
    open_page: Callable[..., Page], site: Site
) -> None:
    page = open_page(signed_in=False)
    opened: list[str] = []
    page.on("websocket", lambda socket: opened.append(socket.url))
    page.goto("/race/")
    page.get_by_label("Your key for this relay").fill(site.relay.run["api_key"])
    _race(page, f"{site.relay.run['simulator'].replace('http', 'ws', 1)}/ws", at="")
    expect(page.locator("[data-status]")).to_contain_text("Done", timeout=40_000)
    assert len(opened) == 2
    assert not any(site.relay.run["api_key"] in url for url in opened)
    assert page.evaluate("() => [localStorage.length, sessionStorage.length]") == [0, 0]
    page.reload()
    assert page.get_by_label("Your key for this relay").input_value() == ""


def test_an_endpoint_that_is_not_there_is_named(page: Page) -> None:
    _race(page, "ws://127.0.0.1:9/SECRET/ws")
    expect(page.locator("[data-status]")).to_contain_text(
        "B (ws://127.0.0.1:9) could not be opened"
    )
    page.watched.forgive("127.0.0.1:9")  # type: ignore[attr-defined]


def _race(page: Page, other: str, *, at: str = "/race/") -> None:
    if at:
        page.goto(at)
    page.get_by_label("B: another endpoint").fill(other)
    page.get_by_label("Seconds").select_option("10")
    page.get_by_role("button", name="Start the race").click()
