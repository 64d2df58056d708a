"""What customers do, from beginning to end, in a browser on a whole relay."""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from websockets.sync.client import connect

from tests.dashboard.browser import PHONE, Site, no_serious_violations, no_sideways_scroll
from tests.dashboard.screenshots import seeded

pytestmark = pytest.mark.relay
_numbers = count(int(time.time()))
CODE = re.compile(r"^\s*([A-Z0-9]{3,4}-?[A-Z0-9]{3,4})\s*$", re.MULTILINE)


@pytest.fixture(scope="module")
def names(site: Site) -> dict[str, Any]:
    """Acme Trading and its keys."""
    return seeded(site)


def _code(site: Site, email: str) -> str:
    """The newest code that was mailed to an address."""
    folder = Path(site.relay.var) / "mail"
    end = time.monotonic() + 20
    while time.monotonic() < end:
        for path in sorted(folder.glob("*"), key=lambda one: -one.stat().st_mtime):
            text = path.read_text("utf-8", "replace")
            if email in text and (found := CODE.findall(text)):
                return str(found[-1])
        time.sleep(0.2)
    raise AssertionError(f"no code was mailed to {email}")


def _first_frame(url: str) -> Any:
    with connect(url, open_timeout=20) as socket:
        subscription = {"type": "l2Book", "coin": "BTC"}
        socket.send(json.dumps({"method": "subscribe", "subscription": subscription}))
        socket.recv(20)
        return json.loads(socket.recv(20))


def _tab_to(page: Page, name: str, *, most: int = 120) -> None:
    """Press Tab until what is focused is called `name`."""
    for _ in range(most):
        page.keyboard.press("Tab")
        said = page.evaluate(
            "() => { const e = document.activeElement;"
            " return (e.getAttribute('aria-label') || e.textContent || '').trim(); }"
        )
        if said == name:
            return
    raise AssertionError(f"Tab does not reach {name!r}")


@pytest.mark.parametrize("viewport", [None, PHONE], ids=["desktop", "phone"])
def test_from_sign_up_to_a_stream(
    open_page: Callable[..., Page], site: Site, viewport: dict[str, int] | None
) -> None:
    email = f"new{next(_numbers)}@example.com"
    page = open_page(signed_in=False, **({"viewport": viewport} if viewport else {}))
    page.goto("/accounts/signup/")
    page.get_by_label("Email").fill(email)
    page.get_by_label("Company").fill("Blue Harbour")
    page.get_by_label("I accept the terms").check()
    page.get_by_label("Password", exact=True).fill("a long and odd one")
    page.get_by_label("Password (again)").fill("a long and odd one")
    page.get_by_role("button", name="Sign Up").click()
    page.get_by_label("Code").fill(_code(site, email))
    page.get_by_role("button", name="Confirm").click()
    page.wait_for_url("**/start/")

    page.get_by_role("button", name="Make my first key").click()
    page.get_by_role("button", name="Copy key").click()
    key = page.evaluate("() => navigator.clipboard.readText()")
    assert re.fullmatch(r"hlr_live_[0-9A-Za-z]{38}", key)
    assert key in page.get_by_role("tabpanel").first.inner_text()
    page.get_by_role("tab", name="curl", exact=True).click()
    assert key in page.locator("#text-curl").inner_text()
    expect(page.get_by_role("log", name="Frames")).to_contain_text('"channel":"trades"')
    no_serious_violations(page)
    no_sideways_scroll(page)
    assert _first_frame(f"{site.url.replace('http', 'ws', 1)}/{key}/ws")["channel"] == "l2Book"

    page.goto(page.url)  # and it is never shown again
    assert key not in page.content()


def test_a_key_is_rotated_without_a_pause(page: Page, site: Site, names: dict[str, Any]) -> None:
    ws = site.url.replace("http", "ws", 1)
    page.goto(f"/app/{names['slug']}/keys/new")
    page.get_by_label("Name").fill("Rotated")
    page.get_by_role("button", name="Make the key").click()
    old = page.locator("#raw-key").inner_text()
    page.get_by_role("link", name="Keys").last.click()
    page.get_by_role("link", name="Rotated").first.click()
    page.get_by_label("The old key works on for").select_option("3600")
    page.get_by_role("button", name="Rotate the key").click()
    new = page.locator("#raw-key").inner_text()
    assert new != old
    for key in (old, new):
        assert _first_frame(f"{ws}/{key}/ws")["channel"] == "l2Book"
    page.goto(f"/app/{names['slug']}/keys/")
    expect(page.get_by_text("has a successor").first).to_be_visible()


def test_the_kill_switch_by_keyboard_alone(page: Page, site: Site, names: dict[str, Any]) -> None:
    raw = site.json(
        "import json\n"
        "from tenants import services\n"
        "from tenants.models import Tenant\n"
        f"tenant = Tenant.objects.get(slug={names['slug']!r})\n"
        "issued = services.issue_key(tenant=tenant, name='Desk', scopes=['exchange'])\n"
        "print(json.dumps([issued.raw, issued.key.pk]))"
    )
    key, key_id = raw
    page.goto(f"/app/{names['slug']}/keys/{key_id}/")
    _tab_to(page, "Stop trading")
    page.keyboard.press("Enter")
    expect(page.get_by_text("trading stopped").first).to_be_visible()
    refused = _exchange(site, key)
    assert "kill" in refused.lower() or "stopped" in refused.lower(), refused
    _tab_to(page, "Let it trade")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Stop trading")).to_be_visible()


def test_a_key_is_revoked_only_when_that_is_confirmed(page: Page, names: dict[str, Any]) -> None:
    page.goto(f"/app/{names['slug']}/keys/new")
    page.get_by_label("Name").fill("Ends")
    page.get_by_role("button", name="Make the key").click()
    page.goto(f"/app/{names['slug']}/keys/")
    page.get_by_role("link", name="Ends", exact=True).first.click()
    page.get_by_role("button", name="Revoke the key").click()
    dialog = page.get_by_role("dialog")
    no_serious_violations(page)
    dialog.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("heading", name="Ends", exact=True)).to_be_visible()
    page.get_by_role("button", name="Revoke the key").click()
    dialog.get_by_role("button", name="Revoke").click()
    page.wait_for_url("**/keys/")
    expect(page.get_by_text("Ends is revoked")).to_be_visible()


def _exchange(site: Site, key: str) -> str:
    """What the door of trades answers an order with this key."""
    order = {"a": 0, "b": True, "p": "1", "s": "1", "r": False, "t": {"limit": {"tif": "Gtc"}}}
    body = {
        "action": {"type": "order", "orders": [order], "grouping": "na"},
        "nonce": int(time.time() * 1000),
        "signature": {"r": "0x" + "1" * 64, "s": "0x" + "1" * 64, "v": 27},
    }
    request = urllib.request.Request(  # noqa: S310
        f"{site.url}/{key}/exchange",
        data=json.dumps(body).encode(),
        headers={"content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        return error.read().decode()
