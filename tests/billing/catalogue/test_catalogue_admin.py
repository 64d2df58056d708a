"""Operators publish, grant and change plans on pages; what is published cannot be changed there."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing.catalogue import services, terms
from billing.models import (
    AddOn,
    AddOnSubscription,
    AddOnVersion,
    BillingAnchor,
    BillingChoice,
    DiscountGrant,
    OwnTerms,
    PlannedChange,
    PlanVersion,
    WalletEntry,
)
from billing.rating.document import write
from billing.rating.periods import HOUR, full_hour
from billing.rating.prices import Discount, Override
from tenants.models import Plan, PlanSubscription, Tenant
from tenants.selectors import current_plan_subscription
from tests.billing.catalogue.books import make_add_on, make_prices, make_tenant, publish_book

ADMIN = "/admin/billing/"


@pytest.fixture
def book(db: None) -> dict[str, Plan]:
    return publish_book()


@pytest.fixture
def ada(book: dict[str, Plan]) -> Tenant:
    tenant = make_tenant()
    services.subscribe(tenant, plan=book["small"])
    return tenant


def later() -> Any:
    return full_hour(timezone.now()) + HOUR


def mistakes(response: Any) -> list[str]:
    form = response.context["adminform"].form
    return [line for lines in form.errors.values() for line in lines]


def test_publishing_a_version_from_the_last(operator: Client, book: dict[str, Plan]) -> None:
    old = PlanVersion.objects.get(plan=book["small"])
    page = operator.get(f"{ADMIN}planversion/add/?from={old.pk}")
    document = page.context["adminform"].form.initial["document"]
    assert json.loads(document)["version"] == 2
    document = document.replace('"fee": "30"', '"fee": "35"')
    page = operator.post(f"{ADMIN}planversion/add/", {"document": document, "note": "dearer"})
    assert page.status_code == 302
    new = PlanVersion.objects.get(plan=book["small"], version=2)
    assert (new.prices.fee, new.note, new.published_by) == (Decimal(35), "dearer", "op")
    assert operator.get(f"{ADMIN}planversion/{new.pk}/change/").status_code == 200
    assert operator.get(f"{ADMIN}planversion/").status_code == 200


def test_each_mistake_is_a_line_and_nothing_is_published(
    operator: Client, book: dict[str, Plan]
) -> None:
    wrong = json.loads(write(make_prices("small", 1)))
    wrong["fee"], wrong["meters"][0]["included"] = "-1", -5
    page = operator.post(f"{ADMIN}planversion/add/", {"document": json.dumps(wrong)})
    assert page.status_code == 200
    assert {line.split(":")[0] for line in mistakes(page)} == {"fee", "meters[0].included"}
    page = operator.post(f"{ADMIN}planversion/add/", {"document": "{"})
    assert "not JSON" in mistakes(page)[0]
    assert PlanVersion.objects.count() == len(book)


def test_forged_posts_change_nothing(operator: Client, ada: Tenant) -> None:
    services.publish_add_on_version(make_add_on())
    services.choose_overage(ada, is_on=True)
    WalletEntry.objects.create(tenant=ada, amount=5, kind="top_up", balance=5)
    for model in (PlanVersion, AddOnVersion, BillingChoice, BillingAnchor, WalletEntry):
        base = f"{ADMIN}{model.__name__.lower()}/"
        row = model._default_manager.all()[0]
        before = model._default_manager.filter(pk=row.pk).values().get()
        forged = {"document": "{}", "note": "x", "fee": "0", "amount": "900", "overage": "on"}
        assert operator.post(f"{base}{row.pk}/change/", forged).status_code == 403
        assert operator.post(f"{base}{row.pk}/delete/", {"post": "yes"}).status_code == 403
        operator.post(
            base, {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
        )
        assert model._default_manager.filter(pk=row.pk).values().get() == before


def test_what_a_tenant_has_of_its_own(operator: Client, ada: Tenant) -> None:
    services.publish_add_on_version(make_add_on())
    start = later()
    own = Override(plan="small", starts_at=start, fee=Decimal(3))
    off = Discount(code="ten", name="Ten", starts_at=start, percent=Decimal(10))
    posts = {
        "ownterms": {"document": write(own)},
        "discountgrant": {"document": write(off)},
        "addonsubscription": {"add_on": AddOn.objects.get().pk, "quantity": 2},
        "walletentry": {"kind": "top_up", "amount": "50.00"},
    }
    for name, fields in posts.items():
        base = f"{ADMIN}{name}/"
        assert operator.get(f"{base}add/").status_code == 200
        page = operator.post(f"{base}add/", {"tenant": ada.pk, **fields})
        assert page.status_code == 302, mistakes(page)
        assert operator.get(base).status_code == 200
    assert OwnTerms.objects.get().override == own
    assert DiscountGrant.objects.get().discount == off
    assert WalletEntry.objects.get().created_by == "op"

    page = operator.post(f"{ADMIN}ownterms/add/", {"tenant": ada.pk, "document": write(own)})
    assert "end them first" in mistakes(page)[0]
    page = operator.post(
        f"{ADMIN}walletentry/add/", {"tenant": ada.pk, "kind": "spend", "amount": "-51"}
    )
    assert "holds 50.00" in mistakes(page)[0]

    row = AddOnSubscription.objects.get()
    operator.post(f"{ADMIN}addonsubscription/", {"action": "end", "_selected_action": [row.pk]})
    row.refresh_from_db()
    assert row.ended_at is not None


def test_a_plan_is_changed_after_a_look_at_the_invoice(
    operator: Client, ada: Tenant, book: dict[str, Plan]
) -> None:
    url = f"{ADMIN}tenantterms/{ada.pk}/change-plan/"
    assert operator.get(url).status_code == 200
    fields = {"plan": book["large"].pk, "when": "period_end"}
    page = operator.post(url, fields)
    assert b"Difference: 270.00 USD" in page.content
    assert not PlannedChange.objects.exists()

    page = operator.post(url, {**fields, "confirmed": "1:large:7"})
    assert b"changed meanwhile" in page.content
    assert not PlannedChange.objects.exists()

    page = operator.post(url, {**fields, "confirmed": page.context["confirmed"]})
    assert page.status_code == 302
    end = terms.period_of(ada, timezone.now()).end
    assert PlannedChange.objects.get().at == end
    assert b"Large" in operator.get(f"{ADMIN}tenantterms/{ada.pk}/change/").content

    fields = {"plan": book["year"].pk, "when": "now"}
    page = operator.post(url, fields)
    assert b"The period that it begins" in page.content
    page = operator.post(url, {**fields, "confirmed": page.context["confirmed"]})
    assert page.status_code == 302
    current = current_plan_subscription(ada)
    assert current is not None
    assert current.plan == book["year"]
    assert operator.post(url, {"plan": 999_999, "when": "never"}).status_code == 200


def test_overage_and_cap_on_the_page(operator: Client, ada: Tenant) -> None:
    url = f"{ADMIN}tenantterms/{ada.pk}/change/"
    assert operator.post(url, {"overage": "on", "spend_cap": "25.50"}).status_code == 302
    choice = terms.timeline_of(ada).choice_at(timezone.now())
    assert (choice.overage, choice.spend_cap) == (True, Decimal("25.50"))
    count = BillingChoice.objects.count()
    operator.post(url, {"overage": "on", "spend_cap": "25.50"})
    assert BillingChoice.objects.count() == count
    assert operator.post(url, {"overage": "on", "spend_cap": "-1"}).status_code == 200


def test_the_list_asks_as_often_for_many(operator: Client, book: dict[str, Plan]) -> None:
    counts = []
    for n in (2, 20):
        for k in range(n):
            services.subscribe(make_tenant(f"T {n} {k}"), plan=book["small"])
        with CaptureQueriesContext(connection) as queries:
            assert operator.get(f"{ADMIN}tenantterms/").status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_a_stranger_is_let_in_nowhere(client: Client, ada: Tenant) -> None:
    for path in ("planversion/add/", f"tenantterms/{ada.pk}/change-plan/", "walletentry/add/"):
        assert client.get(ADMIN + path).status_code == 302
        assert client.post(ADMIN + path, {"plan": 1, "when": "now"}).status_code == 302
    assert PlanSubscription.objects.for_tenant(ada).count() == 1
