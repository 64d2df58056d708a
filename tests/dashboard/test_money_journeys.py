"""What a customer does with money and people, in a browser: change the plan, take an invoice home,
build a team."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.browser import PHONE, Site, no_serious_violations, no_sideways_scroll

pytestmark = pytest.mark.relay
APP = "/app/northwind"


@pytest.fixture(scope="module")
def names(site: Site) -> Any:
    return site.seeded("money")


def test_the_plan_is_changed_as_it_was_shown(page: Page, site: Site, names: Any) -> None:
    """The difference that is shown is, to the cent, what the invoice drafted then has more."""
    drafted = """
import json
from django.utils import timezone
from billing.catalogue import terms
from billing.invoicing.draft import draft_invoice
from tenants.models import Tenant
tenant = Tenant.objects.get(slug="northwind")
invoice = draft_invoice(tenant, terms.period_of(tenant, timezone.now()))
print(json.dumps({"subtotal": str(invoice.subtotal), "lines": [
    [line.name, f"{line.amount:,.2f}"] for line in invoice.lines.order_by("place")]}))
"""
    page.goto(f"{APP}/plan")
    page.locator("[data-plan=growth]").get_by_role("link", name="Preview Growth").click()
    with_it = page.locator("[data-bill='2']")
    expect(with_it.get_by_role("heading", name="With the change")).to_be_visible()
    difference = Decimal(page.locator("[data-difference]").get_attribute("data-difference") or "")
    shown = [row.inner_text() for row in with_it.locator("tbody tr").all()]
    before = Decimal(site.json(drafted)["subtotal"])
    page.get_by_role("button", name="Change the plan").click()
    expect(page.get_by_text("You are on Growth now.")).to_be_visible()
    after = site.json(drafted)
    for (name, amount), text in zip(after["lines"], shown, strict=True):
        assert name in text
        assert amount in text
    # The invoice without the change is another by the seconds between the two looks only.
    assert abs(Decimal(after["subtotal"]) - before - difference) < Decimal("0.05")
    no_serious_violations(page)


def test_a_change_that_moved_is_shown_again(page: Page, site: Site, names: Any) -> None:
    page.goto(f"{APP}/plan/change/business?when=period_end")
    site.shell(
        "from billing.catalogue import services\n"
        "from tenants.models import Tenant\n"
        "services.choose_overage(Tenant.objects.get(slug='northwind'), is_on=True)"
    )
    page.get_by_role("button", name="Plan this change").click()
    expect(page.get_by_text("look at them again")).to_be_visible()
    page.get_by_role("button", name="Plan this change").click()
    planned = page.locator("[data-planned]")
    expect(planned).to_contain_text("Business begins on")
    planned.get_by_role("button", name="Keep the present plan").click()
    expect(page.locator("[data-planned]")).to_have_count(0)


def test_add_ons_ask_and_work(page: Page, names: Any) -> None:
    page.goto(f"{APP}/plan")
    page.get_by_role("button", name="Add Order book").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Add Order book?")
    no_serious_violations(page)
    dialog.get_by_role("button", name="Add").click()
    expect(page.get_by_role("button", name="End Order book")).to_be_visible()
    page.get_by_role("button", name="End Order book").click()
    page.get_by_role("dialog").get_by_role("button", name="End it").click()
    expect(page.get_by_role("button", name="End Order book")).to_have_count(0)


def test_an_invoice_is_taken_home(page: Page, names: Any) -> None:
    number = names["invoice"]
    page.goto(f"{APP}/invoices")
    page.get_by_role("link", name=number, exact=True).click()
    expect(page.get_by_role("heading", name=number)).to_be_visible()
    page.get_by_text("49.00").first.wait_for()
    with page.expect_download() as pdf:
        page.get_by_role("link", name="PDF", exact=True).click()
    assert pdf.value.suggested_filename == f"{number}.pdf"
    assert pdf.value.path().read_bytes().startswith(b"%PDF-")
    with page.expect_download() as csv:
        page.get_by_role("link", name="CSV", exact=True).click()
    text = csv.value.path().read_text("utf-8")
    assert text.startswith('"invoice","issued_at"')
    assert number in text
    assert re.search(r"\b49\.00\b", text)
    page.goto(f"{APP}/invoices")
    with page.expect_download() as book:
        page.get_by_role("button", name="Download CSV").click()
    assert book.value.suggested_filename.startswith("invoices-")


def test_from_invited_to_removed(
    page: Page, open_page: Callable[..., Page], site: Site, names: Any
) -> None:
    made = site.json(
        """
import json, secrets
from allauth.account.models import EmailAddress
from django.contrib.auth.models import User
email = f"mia-{secrets.token_hex(4)}@northwind.example"
password = secrets.token_urlsafe(12)
user = User.objects.create_user(email, email, password)
EmailAddress.objects.create(user=user, email=email, verified=True, primary=True)
print(json.dumps({"email": email, "password": password}))
"""
    )
    email = made["email"]
    page.goto(f"{APP}/team")
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Role", exact=True).select_option("viewer")
    page.get_by_role("button", name="Send the invitation").click()
    expect(page.locator(f"[data-invited='{email}']")).to_be_visible()
    # The link is in the mail alone: another one is made, as a resent mail makes it.
    link = site.shell(
        "from tenants.models import Invitation\n"
        "from tenants.people import services\n"
        f"row = Invitation.objects.get(email={email!r})\n"
        "Invitation.objects.filter(pk=row.pk).update(sent_at=None)\n"
        "print('/invitations/' + services.make_token(row.pk)[1])"
    ).splitlines()[-1]
    guest = open_page(signed_in=False, viewport=PHONE)
    guest.goto("/accounts/login/")
    guest.locator("input[name=login]").fill(email)
    guest.locator("input[name=password]").fill(made["password"])
    guest.locator("main form[action*=login] button").first.click()
    guest.wait_for_url("**/app/**")
    guest.goto(link)
    guest.locator("main form button").first.click()
    guest.goto(f"{APP}/team")
    expect(guest.locator(f"[data-member='{email}']")).to_contain_text("viewer")
    no_sideways_scroll(guest)

    page.goto(f"{APP}/team")
    page.get_by_label(f"Role of {email}", exact=True).select_option("developer")
    page.get_by_role("button", name=f"Save the role of {email}").click()
    expect(page.get_by_text(f"{email} is developer now.")).to_be_visible()
    guest.reload()
    expect(guest.locator(f"[data-member='{email}']")).to_contain_text("developer")
    page.get_by_role("button", name=f"Remove {email}").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove", exact=True).click()
    expect(page.locator(f"[data-member='{email}']")).to_have_count(0)
    gone = guest.goto(f"{APP}/team")
    assert gone is not None
    assert gone.status == 404
    guest.watched.forgive("404")  # type: ignore[attr-defined]
