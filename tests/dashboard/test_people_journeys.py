"""Who gets in, who only looks, and how an account ends, in a browser on a whole relay."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.browser import PHONE, Site, no_serious_violations, no_sideways_scroll, sign_in

pytestmark = pytest.mark.relay

#: An owner who signed up, and a member in `role`, each with a password and a verified address.
ACCOUNT = """
import json, secrets
from allauth.account.models import EmailAddress
from django.contrib.auth.models import User
from tenants.models import Membership
from tenants.people.signup import open_account
def person(name):
    email = f"{name}-{secrets.token_hex(4)}@example.com"
    user = User.objects.create_user(email, email, "a long and odd one")
    EmailAddress.objects.create(user=user, email=email, verified=True, primary=True)
    return user
owner, member = person("ada"), person("ben")
tenant = open_account(user=owner, company=NAME, from_address=None).tenant
Membership.objects.create(tenant=tenant, user=member, role="developer")
"""
PASSWORD = "a long and odd one"


def account(site: Site, name: str, more: str = "") -> Any:
    """The slug and id of a new account, and the addresses of its owner and member."""
    told = (
        "print(json.dumps({'slug': tenant.slug, 'id': tenant.pk,"
        " 'owner': owner.email, 'member': member.email}))"
    )
    return site.json(f"NAME = {name!r}\n{ACCOUNT}\n{more}\n{told}")


def code_now(secret: str) -> str:
    """What an authenticator app shows for a secret (RFC 6238). Waits out a step that is ending."""
    if (left := 30 - time.time() % 30) < 5:
        time.sleep(left)
    key = base64.b32decode(secret + "=" * (-len(secret) % 8))
    digest = hmac.digest(key, struct.pack(">Q", int(time.time()) // 30), hashlib.sha1)
    start = digest[-1] & 15
    return f"{(struct.unpack('>I', digest[start : start + 4])[0] & 0x7FFFFFFF) % 10**6:06d}"


def confirm_access(page: Page) -> None:
    """The password once more, before what somebody at a desk that was left must not do."""
    page.wait_for_url("**/accounts/reauthenticate/**")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Confirm").click()


def enroll(page: Page) -> str:
    """From the page of second factors: set up an app from the secret that is shown; answers it."""
    page.locator("a[href$='/2fa/totp/activate/']").click()
    confirm_access(page)
    field = page.get_by_label("Authenticator secret")
    secret = field.input_value()
    assert re.fullmatch(r"[A-Z2-7]{32}", secret)
    no_serious_violations(page)
    no_sideways_scroll(page)
    page.get_by_label("Code").fill("000000")
    page.get_by_role("button", name="Activate").click()
    expect(page.locator(".errorlist")).to_contain_text("Incorrect code")
    assert field.input_value() == secret  # a slip of the finger asks for no other scan
    page.get_by_label("Code").fill(code_now(secret))
    page.get_by_role("button", name="Activate").click()
    page.wait_for_url("**/2fa/recovery-codes/**")
    return secret


def test_a_second_factor_is_set_up_and_asked_of_everybody(
    open_page: Callable[..., Page], site: Site
) -> None:
    """The owner sets one up and requires it; a member is led to the same before any page opens,
    and is asked for it when they sign in again."""
    made = account(site, "Two Factors")
    app = f"/app/{made['slug']}"
    ada = open_page(signed_in=False)
    sign_in(ada, made["owner"], PASSWORD)
    ada.goto(f"{app}/team")
    expect(ada.get_by_role("button", name="Require it")).to_be_disabled()
    ada.get_by_role("link", name="Set up yours").click()
    secret = enroll(ada)
    no_serious_violations(ada)
    ada.goto(f"{app}/team")
    ada.get_by_role("button", name="Require it").click()
    ada.get_by_role("dialog").get_by_role("button").last.click()
    prove(ada, secret)
    expect(ada.get_by_role("button", name="Make it optional")).to_be_visible()

    ben = open_page(signed_in=False, viewport=PHONE)
    sign_in_anywhere(ben, made["member"])
    ben.goto(f"{app}/keys/")
    ben.wait_for_url("**/accounts/2fa/")
    expect(ben.get_by_text("This account asks for a second factor").first).to_be_visible()
    secret = enroll(ben)
    ben.goto(f"{app}/keys/")
    prove(ben, secret)
    expect(ben.get_by_role("heading", name="Keys", exact=True)).to_be_visible()

    again = open_page(signed_in=False)
    sign_in_anywhere(again, made["member"])
    again.wait_for_url("**/accounts/2fa/authenticate/**")
    again.goto(f"{app}/keys/")  # a password alone opens nothing
    again.wait_for_url("**/accounts/2fa/authenticate/**")


def sign_in_anywhere(page: Page, email: str) -> None:
    """Through the form, wherever it leads."""
    page.goto("/accounts/login/")
    page.locator("input[name=login]").fill(email)
    page.locator("input[name=password]").fill(PASSWORD)
    page.locator("main form[action*=login] button").first.click()
    page.wait_for_url(lambda url: "/accounts/login" not in url)


def prove(page: Page, secret: str) -> None:
    """Use the factor, as is asked of whoever opens a page of such an account."""
    page.wait_for_url("**/2fa/reauthenticate/**")
    page.get_by_label("Code").fill(code_now(secret))
    page.get_by_role("button", name="Confirm").click()
    page.wait_for_url("**/app/**")


def test_an_account_is_closed_with_its_last_invoice(
    open_page: Callable[..., Page], site: Site
) -> None:
    """What is open ends at once; the last invoice is drafted to the second, becomes final as any
    other, and can be taken home from the closed account."""
    made = account(
        site,
        "Closing Time",
        "from datetime import timedelta\n"
        "from django.utils import timezone\n"
        "from billing.catalogue import services\n"
        "from tenants.models import Plan\n"
        "from tenants.services import end_plan, issue_key\n"
        "services.change_plan(tenant, plan=Plan.objects.get(code='starter'))\n"
        "issue_key(tenant=tenant, name='bot')",
    )
    app = f"/app/{made['slug']}"
    page = open_page(signed_in=False)
    sign_in(page, made["owner"], PASSWORD)
    page.goto(f"{app}/settings")
    page.get_by_role("link", name="Close the account").click()
    confirm_access(page)
    expect(page.get_by_text("1 key is revoked")).to_be_visible()
    no_serious_violations(page)
    page.get_by_label("to close this account").fill("closing")
    page.get_by_role("button", name="Close for good").click()
    expect(page.locator("#problem")).to_contain_text(f"Type {made['slug']}")
    page.watched.forgive("422")  # type: ignore[attr-defined]
    page.get_by_label("to close this account").fill(made["slug"])
    page.get_by_role("button", name="Close for good").click()
    expect(page.get_by_text("The account is closed.")).to_be_visible()

    page.goto(f"{app}/keys/")
    page.get_by_role("link", name="Ended", exact=True).click()
    expect(page.get_by_role("link", name="bot", exact=True).first).to_be_visible()
    number = site.json(
        "import json\n"
        "from datetime import timedelta\n"
        "from django.conf import settings\n"
        "from django.utils import timezone\n"
        "from billing.invoicing.closing import finalize_due\n"
        "from billing.models import Invoice\n"
        f"row = Invoice.objects.get(tenant={made['id']})\n"
        "assert row.state == Invoice.State.DRAFT, row.state\n"
        f"closed = row.tenant.closed_at\n"
        "assert row.period_end <= closed + timedelta(seconds=1), (row.period_end, closed)\n"
        "finalize_due(closed + timedelta(hours=settings.RELAY_INVOICE_GRACE_H + 1))\n"
        "row.refresh_from_db()\n"
        "print(json.dumps(row.number))"
    )
    page.goto(f"{app}/invoices")
    expect(page.get_by_text("was closed on")).to_be_visible()
    page.get_by_role("link", name=number, exact=True).click()
    with page.expect_download() as pdf:
        page.get_by_role("link", name="PDF", exact=True).click()
    assert pdf.value.path().read_bytes().startswith(b"%PDF-")
    no_serious_violations(page)


def test_an_operator_looks_at_a_customers_pages_and_changes_nothing(
    open_page: Callable[..., Page], site: Site
) -> None:
    """With a reason, under a banner, without any effect, until it is ended."""
    made = account(site, "Looked At")
    app, run = f"/app/{made['slug']}", site.relay.run
    page = open_page(signed_in=False)
    page.goto("/admin/")
    page.locator("input[name=username]").fill(run["admin_user"])
    page.locator("input[name=password]").fill(run["admin_password"])
    page.locator("button[type=submit]").first.click()
    page.wait_for_url("**/admin/")
    page.watched.forgive("favicon.ico")  # type: ignore[attr-defined]  # the admin has none
    page.goto(f"/admin/tenants/tenant/{made['id']}/change/")
    page.get_by_role("link", name="View as customer").click()
    page.get_by_label("Reason, as the customer reads it").fill("Ticket 4711")
    page.get_by_role("button", name="Look").click()
    page.wait_for_url(f"**{app}/")
    banner = page.get_by_role("region", name="Customer view")
    expect(banner).to_contain_text("You look at Looked At as its people see it")
    expect(banner).to_contain_text("Reason: Ticket 4711")
    no_serious_violations(page)

    page.goto(f"{app}/settings")
    expect(banner).to_be_visible()
    page.get_by_label("Name", exact=True).fill("Taken Over")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("nothing can be changed here")).to_be_visible()
    page.watched.forgive("403")  # type: ignore[attr-defined]
    page.goto(f"{app}/settings")
    expect(page.get_by_label("Name", exact=True)).to_have_value("Looked At")

    banner.get_by_role("button", name="End").click()
    page.wait_for_url(f"**/admin/tenants/tenant/{made['id']}/change/")
    assert page.goto(f"{app}/settings").url.endswith("/accounts/email/")  # type: ignore[union-attr]

    ada = open_page(signed_in=False)
    sign_in(ada, made["owner"], PASSWORD)
    ada.goto(f"{app}/team/audit")
    expect(ada.get_by_text("Ticket 4711").first).to_be_visible()
    expect(ada.get_by_text(run["admin_user"], exact=True)).to_have_count(0)
