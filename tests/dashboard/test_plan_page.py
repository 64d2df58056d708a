"""Plan & billing: what it says, who may change what, and what changing does."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from billing.catalogue import services, wallet
from billing.models import AddOnSubscription, PlannedChange, WalletEntry
from gateway.dashboard.once import new_ticket
from tenants.models import BillingProfile, Plan, PlanSubscription, Tenant
from tenants.people.roles import Role
from tenants.selectors import current_plan_subscription
from tenants.services import update_tenant
from tests.billing.catalogue.books import make_add_on, make_tenant, publish_book
from tests.tenants.cast import Cast
from tests.tenants.people import make_member, owner_of, signed_in

#: Statements of the page, however many plans and invoices there are.
MOST_QUERIES = 60


@pytest.fixture
def book(db: None) -> dict[str, Plan]:
    return publish_book()


@pytest.fixture
def ada(book: dict[str, Plan]) -> Tenant:
    tenant = make_tenant()
    services.subscribe(tenant, plan=book["small"])
    return tenant


@pytest.fixture
def client(ada: Tenant) -> Client:
    return signed_in(owner_of(ada).user)


def url(name: str, **arguments: Any) -> str:
    return reverse(f"dashboard:{name}", kwargs={"slug": "ada", **arguments})


def test_it_shows_the_plan_the_wallet_and_the_others(ada: Tenant, client: Client) -> None:
    wallet.enter(ada, amount=wallet.CENT * 12_345, kind=WalletEntry.Kind.TOP_UP)
    client.get(url("plan"))
    with CaptureQueriesContext(
        connection,
    ) as seen:
        page = client.get(url("plan")).content.decode()
    assert "30.00 USD" in page
    assert "123.45 USD" in page
    assert "300.00 USD" in page
    assert "3,650.00 USD" not in page
    assert "3,650.00 USD" in client.get(url("plan") + "?interval=year").content.decode()
    assert len(seen) <= MOST_QUERIES, len(seen)


def test_a_viewer_sees_no_amount_of_the_tenant(ada: Tenant, client: Client) -> None:
    vera = signed_in(make_member(ada, "vera", Role.VIEWER).user)
    page = vera.get(url("plan")).content.decode()
    assert "data-wallet" not in page
    assert "Preview" not in page


def token_of(page: str) -> str:
    found = re.search(r'name="token" value="([^"]+)"', page)
    assert found is not None
    return found[1]


def test_the_plan_is_changed_as_previewed(
    ada: Tenant, client: Client, book: dict[str, Plan]
) -> None:
    page = client.get(url("plan_change", code="large")).content.decode()
    assert "Without the change" in page
    assert "With the change" in page
    data = {"token": token_of(page), "when": "now"}
    answer = client.post(url("plan_confirm", code="large"), data, follow=True)
    assert b"You are on Large now." in answer.content
    assert current_plan_subscription(ada).plan == book["large"]  # type: ignore[union-attr]


@pytest.mark.parametrize("when", ["now", "period_end"])
def test_a_form_that_is_sent_twice_changes_the_plan_once(
    ada: Tenant, client: Client, when: str
) -> None:
    page = client.get(f"{url('plan_change', code='large')}?when={when}").content.decode()
    data = {"token": token_of(page), "when": when}
    client.post(url("plan_confirm", code="large"), data, follow=True)
    before = PlanSubscription.objects.count(), PlannedChange.objects.count()
    again = client.post(url("plan_confirm", code="large"), data, follow=True)
    assert again.redirect_chain[-1][0] == url("plan")
    assert b"was changed already" in again.content
    assert b"look at them again" not in again.content
    assert (PlanSubscription.objects.count(), PlannedChange.objects.count()) == before
    # What moved since is something else.
    services.cancel(ada)
    moved = client.post(url("plan_confirm", code="large"), data, follow=True)
    assert b"look at them again" in moved.content


def test_what_moved_is_previewed_again(ada: Tenant, client: Client, book: dict[str, Plan]) -> None:
    page = client.get(url("plan_change", code="large") + "?when=period_end").content.decode()
    services.choose_overage(ada, is_on=True)
    data = {"token": token_of(page), "when": "period_end"}
    answer = client.post(url("plan_confirm", code="large"), data)
    assert answer["Location"] == url("plan_change", code="large") + "?when=period_end"
    assert b"look at them again" in client.get(answer["Location"]).content
    assert not PlannedChange.objects.exists()


def test_a_planned_change_is_shown_and_called_off(ada: Tenant, client: Client) -> None:
    page = client.get(url("plan_change", code="large") + "?when=period_end").content.decode()
    client.post(url("plan_confirm", code="large"), {"token": token_of(page)})
    assert b"data-planned" in client.get(url("plan")).content
    client.post(url("plan_keep"))
    assert b"data-planned" not in client.get(url("plan")).content
    client.post(url("plan_cancel"))
    assert PlannedChange.objects.get(is_pending=True).plan is None
    assert b"Your plan ends on" in client.get(url("plan")).content


def test_add_ons_are_put_on_and_off(
    ada: Tenant, client: Client, redis_url: str, settings: Any
) -> None:
    settings.REDIS_CACHE_URL = redis_url
    services.publish_add_on_version(make_add_on())
    assert b"More" in client.get(url("plan")).content
    form = {"code": "more", "quantity": "2", "once": new_ticket()}
    for _ in range(2):  # the answer was lost on its way, and the form sent again
        assert client.post(url("plan_add_on"), form).status_code == 302
    row = AddOnSubscription.objects.get()
    assert row.quantity == 2
    assert b"20.00 USD" in client.get(url("plan")).content
    client.post(url("plan_add_on"), {"end": str(row.pk)})
    row.refresh_from_db()
    assert row.ended_at is not None
    assert row.ended_at <= timezone.now()


@pytest.mark.parametrize(
    "data",
    [
        {"code": "no-such", "once": new_ticket()},
        {"code": "more", "quantity": "0", "once": new_ticket()},
        {"end": "x"},
        {"end": "999"},
        {"end": "9" * 5_000},
    ],
)
def test_nonsense_about_add_ons_is_told(ada: Tenant, client: Client, data: dict[str, str]) -> None:
    services.publish_add_on_version(make_add_on())
    answer = client.post(url("plan_add_on"), data, follow=True)
    assert b'data-level="error"' in answer.content
    assert not AddOnSubscription.objects.exists()


def test_finance_edits_the_profile_and_not_the_plan(ada: Tenant, client: Client) -> None:
    fay = signed_in(make_member(ada, "fay", Role.FINANCE).user)
    data = {"legal_name": "Ada GmbH", "country": "de", "tax_id": "DE123"}
    assert fay.post(url("billing_profile"), data).status_code == 302
    assert BillingProfile.objects.get().country == "DE"
    assert fay.post(url("billing_profile"), data | {"country": "xx"}).status_code == 422
    assert BillingProfile.objects.get().country == "DE"
    assert fay.get(url("plan_change", code="large")).status_code == 403


def test_a_tenant_without_a_plan_is_told_so(book: dict[str, Plan]) -> None:
    bare = make_tenant("Bare")
    owner = signed_in(owner_of(bare).user)
    page = owner.get(reverse("dashboard:plan", kwargs={"slug": "bare"})).content
    assert b"Without a plan your keys open nothing" in page
    change = reverse("dashboard:plan_change", kwargs={"slug": "bare", "code": "large"})
    assert owner.get(change).status_code == 200
    gone = reverse("dashboard:plan_change", kwargs={"slug": "bare", "code": "no-such"})
    assert owner.get(gone).status_code == 404


@pytest.mark.django_db
def test_a_plan_without_a_period_is_not_ended_at_once(cast: Cast) -> None:
    """It was arranged by hand; the page shows no button, and an old page's changes nothing."""
    client = signed_in(owner_of(cast.acme).user)
    cancel = reverse("dashboard:plan_cancel", kwargs={"slug": "acme"})
    answer = client.post(cancel, follow=True)
    assert b'data-level="error"' in answer.content
    assert current_plan_subscription(cast.acme) is not None


def test_who_is_metered_only_is_shown_that_nothing_is_owed(
    ada: Tenant, client: Client, book: dict[str, Plan]
) -> None:
    assert "data-not-invoiced" not in client.get(url("plan")).content.decode()
    ada.kind = Tenant.Kind.DEMO
    update_tenant(ada)
    for page in (url("plan"), url("plan_change", code="large")):
        assert "data-not-invoiced" in client.get(page).content.decode()
    page = client.get(url("plan_change", code="large")).content.decode()
    assert 'data-difference="0.00"' in page
