"""The pages of usage, the estimator, spending and webhooks, in a browser on a running relay."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.browser import Site, no_serious_violations
from tests.tenants.notices.receiver import Receiver, status

pytestmark = pytest.mark.relay
HOME = "/app/metered"


@pytest.fixture(scope="module", autouse=True)
def names(site: Site) -> dict[str, Any]:
    """The metered tenant is there."""
    found: dict[str, Any] = site.seeded("metered")
    return found


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A customer's server."""
    with Receiver() as server:
        yield server


def number(text: str | None) -> int:
    return int((text or "").replace(",", ""))


def test_the_chart_the_table_the_file_and_the_ledger_agree(page: Page, site: Site) -> None:
    page.goto(f"{HOME}/usage")
    page.get_by_role("navigation", name="Range").get_by_role("link", name="7 days").click()
    page.get_by_role("navigation", name="By").get_by_role("link", name="Coin").click()
    page.locator("select[name=free]").select_option(label="Charged")
    page.get_by_role("button", name="Apply").click()
    assert {"range=7d", "by=coin", "free=no"} <= set(page.url.partition("?")[2].split("&"))
    page.wait_for_selector("#chart[data-is-drawn]")
    expect(page.locator("#chart canvas")).to_be_visible()

    chart = page.evaluate("() => JSON.parse(document.getElementById('usage-chart').textContent)")
    drawn = sum(sum(one["values"]) for one in chart["series"])
    table = sum(
        number(cell) for cell in page.locator("#numbers tbody td:last-child").all_inner_texts()
    )
    with page.expect_download() as download:
        page.locator("#csv").click()
    with Path(download.value.path()).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    by_coin: Counter[str] = Counter()
    for row in rows:
        by_coin[row["name"]] += int(row["units"])
    assert (
        drawn
        == table
        == by_coin.total()
        == number(page.locator("#usage-total").inner_text().split("·")[0])
    )
    assert {one["label"]: sum(one["values"]) for one in chart["series"]} == {
        name or "of no one coin": units for name, units in by_coin.items()
    }
    ledger = site.json(
        "import json; from datetime import *; from django.db.models import Sum;"
        "from billing.models import LedgerEntry; from tenants.models import Tenant;"
        "today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0);"
        "rows = LedgerEntry.objects.for_tenant(Tenant.objects.get(slug='metered'));"
        "rows = rows.filter(metric='messages', zero_rated='', hour__gte=today - timedelta(days=6));"
        "print(json.dumps(rows.aggregate(n=Sum('units'))['n']))"
    )
    assert ledger == drawn


def test_the_chart_follows_the_theme(page: Page) -> None:
    page.emulate_media(color_scheme="light")
    page.goto(f"{HOME}/usage?range=7d")
    page.wait_for_selector("#chart[data-is-drawn]")
    shot = "() => document.querySelector('#chart canvas').toDataURL()"
    before = page.evaluate(shot)
    page.get_by_label("Theme").click()
    page.get_by_role("button", name="Dark").click()
    assert page.evaluate(shot) != before


def test_the_meter_and_the_costs_arrive(page: Page) -> None:
    page.goto(f"{HOME}/usage")
    meter = page.locator("#meter-messages")
    expect(meter).to_be_visible()
    assert int(meter.get_attribute("data-value") or 0) > 1_000_000
    expect(page.get_by_text("Usage beyond the fees")).to_be_visible()
    expect(page.get_by_text("80 % of “messages” are used")).to_be_visible()


def test_receipts_are_checked_and_fetched(page: Page) -> None:
    page.goto(f"{HOME}/usage/receipts")
    expect(page.locator("[data-check=ok]")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name=re.compile("^Download")).first.click()
    last = Path(download.value.path()).read_text("utf-8").splitlines()[-1]
    assert page.locator("#head").inner_text() in last


def test_the_estimator_follows_what_is_chosen(page: Page) -> None:
    # Of a coin whose books no other test follows: the rates are the relay's own.
    page.goto(f"{HOME}/estimator")
    expect(page.get_by_text("Choose some channels")).to_be_visible()
    page.get_by_label("Add a coin").fill("SOL")
    page.get_by_label("Add a coin").press("Enter")
    expect(page.get_by_role("checkbox", name="SOL")).to_be_checked()
    page.get_by_role("checkbox", name="l2Book").press("Space")
    rate = page.locator("#rate")
    expect(rate).to_have_text("1.83")  # 110 a minute
    expect(page.locator("[data-cheapest]")).to_have_count(1)
    expect(page.locator("#saving")).to_contain_text("l2Diff instead of l2Book")
    assert "channel=l2Book" in page.url
    assert "coin=SOL" in page.url
    page.reload()
    expect(rate).to_have_text("1.83")
    page.get_by_label("Connections").fill("2")
    page.get_by_label("Connections").press("Tab")
    expect(rate).to_have_text("3.67")
    page.get_by_role("checkbox", name="SOL").press("Space")
    expect(page.get_by_text("Add a coin", exact=True)).to_be_visible()
    page.get_by_label("Add a coin").fill("NOPE")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.locator("#refused")).to_contain_text("NOPE")
    no_serious_violations(page)
    page.get_by_role("link", name="Market maker").click()
    expect(page.locator("#refused")).to_have_count(0)


def test_a_spend_cap_is_set_and_lifted(page: Page) -> None:
    page.goto(f"{HOME}/alerts")
    page.get_by_label("Cap what that may cost").check()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("Say how much.")).to_be_visible()
    page.watched.forgive("422")  # type: ignore[attr-defined]
    page.get_by_label("The most it may cost").fill("250.50")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("It holds from now on.")).to_be_visible()
    expect(page.get_by_label("The most it may cost")).to_have_value("250.50")
    page.get_by_label("Cap what that may cost").uncheck()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_label("Cap what that may cost")).not_to_be_checked()


def test_who_is_told_is_chosen(page: Page) -> None:
    page.goto(f"{HOME}/alerts")
    save = page.get_by_role("button", name="Save who is told")
    page.get_by_label("Percentages").fill("90 often")
    save.click()
    expect(page.get_by_text("“often” is no whole number from 1 to 1000.")).to_be_visible()
    page.watched.forgive("422")  # type: ignore[attr-defined]
    expect(page.get_by_label("Percentages")).to_have_value("90 often")
    page.get_by_label("Percentages").fill("50, 90 %")
    page.get_by_label("Data is missing from a feed").uncheck()
    page.get_by_label("finance").check()
    save.click()
    expect(page.get_by_text("It holds from now on.")).to_be_visible()
    expect(page.get_by_label("Percentages")).to_have_value("50, 90, 100")
    expect(page.locator("#thresholds li")).to_have_text(["50 %", "90 %", "100 %"])
    expect(page.get_by_label("Data is missing from a feed")).not_to_be_checked()
    no_serious_violations(page)


def test_a_webhook_is_made_pinged_and_replayed(page: Page, receiver: Receiver) -> None:
    receiver.script[:] = [status(500, b"not yet"), status(200)]
    page.goto(f"{HOME}/webhooks")
    page.get_by_label("URL").fill("nonsense")
    page.get_by_role("button", name="Add").click()
    expect(page.locator(".errorlist")).to_be_visible()
    page.watched.forgive("422")  # type: ignore[attr-defined]
    page.get_by_label("URL").fill(receiver.url)
    page.get_by_label("A key is replaced").check()
    page.get_by_role("button", name="Add").click()
    secret = page.locator("#secret").inner_text()
    assert secret.startswith("whsec_")
    page.get_by_label("Copy the secret").click()
    assert page.evaluate("() => navigator.clipboard.readText()") == secret
    no_serious_violations(page)
    page.get_by_role("link", name="I have it").click()
    assert secret not in page.content()
    expect(page.get_by_label("A key is replaced")).to_be_checked()

    page.get_by_role("button", name="Send a ping").click()
    receiver.wait_for(1)
    # A ping is tried once; the log shows it without being asked again.
    row = page.locator("[data-delivery]").first
    expect(row).to_have_attribute("data-state", "failed")
    expect(row).to_contain_text("500")
    row.get_by_role("link", name="ping").click()
    expect(page.get_by_text("not yet")).to_be_visible()
    no_serious_violations(page)
    page.get_by_role("button", name="Replay").click()
    receiver.wait_for(2)
    first, second = receiver.received
    assert first.headers["X-Relay-Delivery"] == second.headers["X-Relay-Delivery"]
    space: dict[str, Any] = {}
    page.get_by_role("main").get_by_role("link", name="Webhook").click()
    exec(page.locator("#verify-python").inner_text(), space)  # noqa: S102 - what customers run
    assert space["verify"](secret, second.headers["X-Relay-Signature"], second.body)
    assert not space["verify"](secret, second.headers["X-Relay-Signature"], second.body + b" ")
    expect(page.locator("[data-delivery]").first).to_have_attribute("data-state", "delivered")

    page.get_by_role("button", name="Rotate the secret").click()
    page.get_by_role("dialog").get_by_role("button", name="Rotate").click()
    assert page.locator("#secret").inner_text() != secret
    page.get_by_role("link", name="I have it").click()
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("dialog").get_by_role("button", name="Pause").click()
    expect(page.get_by_text("Paused: it is told nothing").first).to_be_visible()
    page.get_by_role("button", name="Let it go on").click()
    expect(page.get_by_role("button", name="Send a ping")).to_be_visible()
