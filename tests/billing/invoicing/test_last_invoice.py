"""Closing an account: keys at once, money to the second, and nothing billed after."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import IntegrityError, transaction

from billing.catalogue import services
from billing.invoicing import draft
from billing.invoicing.closing import close_due_periods, finalize_due
from billing.invoicing.reconcile import reconcile_invoices
from billing.models import AddOn, AddOnSubscription, Invoice, PlannedChange
from tenants import services as tenants
from tenants.models import APIKey, Invitation, Membership, Plan, Tenant
from tenants.notices.services import add_endpoint
from tenants.people import services as people
from tenants.people.closing import close_tenant, reopen_tenant
from tenants.people.roles import Role
from tenants.selectors import current_plan_subscription, principals_by_digest
from tests.billing.catalogue.books import make_add_on, make_tenant, publish_book
from tests.billing.invoicing.books import line_amounts, use
from tests.tenants.people import OPERATOR, make_member, owner_of

BEGAN = datetime(2026, 11, 1, tzinfo=UTC)
CLOSED = datetime(2026, 11, 16, 12, 30, 20, tzinfo=UTC)
GRACE = timedelta(hours=72)


@pytest.fixture
def book(db: None) -> dict[str, Plan]:
    return publish_book()


@pytest.fixture
def owner(book: dict[str, Plan]) -> Membership:
    """Of Ada's, on the small plan (30 USD a month)."""
    tenant = make_tenant()
    services.subscribe(tenant, plan=book["small"], now=BEGAN)
    return owner_of(tenant)


def close(owner: Membership, now: datetime = CLOSED) -> Tenant:
    return close_tenant(owner.tenant, typed="ada", by=owner, now=now)


def test_keys_are_revoked_at_once_and_all_that_hangs_on_them(owner: Membership) -> None:
    ada = owner.tenant
    issued = tenants.issue_key(tenant=ada, name="bot")
    endpoint = add_endpoint(tenant=ada, url="https://hooks.example.com/x").endpoint
    people.invite(tenant=ada, email="ben@example.com", role=Role.VIEWER, by=owner)
    close(owner)
    assert principals_by_digest([issued.key.digest]) == {}
    issued.key.refresh_from_db()
    endpoint.refresh_from_db()
    assert issued.key.revoked_at == CLOSED
    assert endpoint.disabled_at is not None
    assert not Invitation.objects.open().exists()
    assert Membership.objects.get() == owner
    ada.refresh_from_db()
    assert ada.closed_at == ada.suspended_at == CLOSED


def test_the_last_invoice_is_to_the_second(owner: Membership, book: dict[str, Plan]) -> None:
    ada = owner.tenant
    services.publish_add_on_version(make_add_on())
    services.add_add_on(ada, add_on=AddOn.objects.get(), now=BEGAN)
    key = tenants.issue_key(tenant=ada, name="bot").key
    use(key, CLOSED.replace(minute=0, second=0), 7)
    services.change_plan(ada, plan=book["large"], at=datetime(2026, 12, 1, tzinfo=UTC), now=BEGAN)
    draft.draft_invoice(ada, services.terms.period_of(ada, BEGAN))  # ahead, of the whole month
    close(owner)

    drafted = Invoice.objects.get()
    assert drafted.period_end == CLOSED
    share = Decimal(int((CLOSED - BEGAN).total_seconds())) / (30 * 86_400)
    fee, extra = (round(Decimal(price) * share, 2) for price in (30, 10))
    expected = {"small": fee, "more": extra, "messages": Decimal("0.00")}
    assert line_amounts(drafted) == expected
    assert not PlannedChange.objects.filter(is_pending=True).exists()
    assert AddOnSubscription.objects.get().ended_at == CLOSED
    assert current_plan_subscription(ada) is None

    use(key, CLOSED.replace(minute=0, second=0), 5)  # posted after, of the last hour
    close_due_periods(CLOSED + timedelta(minutes=5))
    assert finalize_due(CLOSED + GRACE - timedelta(seconds=1)) == (0, 0)
    assert finalize_due(CLOSED + GRACE) == (1, 0)
    final = Invoice.objects.get()
    assert line_amounts(final) == expected
    assert final.lines.get(code="messages").quantity == 12
    assert list(reconcile_invoices()) == []


def test_nothing_is_billed_after(owner: Membership) -> None:
    close(owner)
    later = CLOSED + timedelta(days=100)
    close_due_periods(later)
    finalize_due(later + GRACE)
    assert [row.period_end for row in Invoice.objects.finalized()] == [CLOSED]
    assert list(reconcile_invoices()) == []


def test_who_pays_by_the_year_has_its_last_invoice_now(book: dict[str, Plan]) -> None:
    ada = make_tenant()
    services.subscribe(ada, plan=book["year"], now=BEGAN)
    close(owner_of(ada), BEGAN + timedelta(days=73))
    assert Invoice.objects.get().subtotal == Decimal("730.00")  # a fifth of 3,650
    closed = BEGAN + timedelta(days=73)
    close_due_periods(closed)
    assert finalize_due(closed + GRACE) == (1, 0)
    assert Invoice.objects.get().total == Decimal("730.00")


def test_what_is_owed_stays_owed(owner: Membership) -> None:
    december = datetime(2026, 12, 1, tzinfo=UTC)
    close_due_periods(december)
    finalize_due(december + GRACE)
    close(owner, december + timedelta(days=5))
    assert Invoice.objects.finalized().get().standing.balance == Decimal("30.00")
    assert Invoice.objects.filter(state=Invoice.State.DRAFT).count() == 1


def test_closing_twice_keeps_the_first_time(owner: Membership) -> None:
    close(owner)
    close(owner, CLOSED + timedelta(days=1))
    owner.tenant.refresh_from_db()
    assert owner.tenant.closed_at == CLOSED
    assert Invoice.objects.get().period_end == CLOSED


def test_without_a_plan_or_as_a_demo_it_closes_too(book: dict[str, Plan]) -> None:
    bare = make_tenant("Bare")
    demo = tenants.create_tenant(name="Show", plan=None, kind=Tenant.Kind.DEMO)
    services.subscribe(demo, plan=book["small"], now=BEGAN)
    for tenant in (bare, demo):
        close_tenant(tenant, typed=tenant.slug, by=OPERATOR, now=CLOSED)
    assert not Invoice.objects.exists()


def test_only_an_owner_who_typed_it(owner: Membership) -> None:
    admin = make_member(owner.tenant, "ben", Role.ADMIN)
    with pytest.raises(PermissionDenied):
        close_tenant(owner.tenant, typed="ada", by=admin)
    with pytest.raises(ValidationError, match="Type ada"):
        close_tenant(owner.tenant, typed="Ada Ltd", by=owner)
    assert current_plan_subscription(owner.tenant) is not None


def test_it_is_not_resumed_by_mistake(owner: Membership, book: dict[str, Plan]) -> None:
    ada = close(owner)
    with pytest.raises(ValidationError, match="reopen"):
        tenants.resume_tenant(ada)
    with pytest.raises(IntegrityError), transaction.atomic():
        Tenant.objects.filter(pk=ada.pk).update(suspended_at=None, suspension_reason="")
    reopen_tenant(ada)
    services.subscribe(ada, plan=book["small"], now=CLOSED + timedelta(days=1))
    assert APIKey.objects.filter(revoked_at=None).count() == 0
    close_due_periods(datetime(2027, 2, 1, tzinfo=UTC))
    finalize_due(datetime(2027, 2, 1, tzinfo=UTC) + GRACE)
    ends = list(
        Invoice.objects.finalized().order_by("period_start").values_list("total", flat=True)
    )
    assert ends[0] == Decimal("15.52")
    assert list(reconcile_invoices()) == []


def test_opened_again_it_is_suspended_as_it_was(owner: Membership) -> None:
    tenants.suspend_tenant(owner.tenant, reason="The invoice is not paid.", now=BEGAN)
    close(owner)
    reopened = reopen_tenant(owner.tenant)
    assert reopened.suspended_at == BEGAN
    assert reopened.suspension_reason == "The invoice is not paid."
    tenants.resume_tenant(reopened)
    close(owner)
    assert reopen_tenant(owner.tenant).suspended_at is None
