"""What the running period costs, on the usage page and where spending is chosen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client

from billing.catalogue import services
from billing.catalogue.terms import timeline_of
from gateway.account import meter
from tenants.models import AlertChoice, Tenant
from tenants.people.roles import Role
from tests.billing.catalogue.books import make_prices, make_tenant, note_usage, publish
from tests.tenants.people import make_member, owner_of, signed_in

pytestmark = pytest.mark.django_db


def now() -> datetime:
    """Of each test: one that began in the month before would be shown another period."""
    return datetime.now(UTC)


@pytest.fixture(autouse=True)
def _shared(redis_url: str, settings: Any) -> None:
    settings.REDIS_CACHE_URL = redis_url
    cache.clear()


@pytest.fixture
def acme(db: None) -> Tenant:
    """On a plan of $30 with 30,000 messages since two months; $5 for each further thousand."""
    tenant = make_tenant("Acme")
    services.subscribe(
        tenant, plan=publish(make_prices("small", 30)), now=now() - timedelta(days=60)
    )
    services.choose_overage(tenant, is_on=True, now=now() - timedelta(days=59))
    note_usage(tenant, now().replace(minute=0, second=0, microsecond=0), 32_000)
    return tenant


@pytest.fixture
def ada(acme: Tenant) -> Client:
    """Its owner."""
    return signed_in(owner_of(acme).user)


def test_what_it_costs_so_far(acme: Tenant, ada: Client) -> None:
    found = meter.read(acme, now=now())
    assert found.messages == 32_000
    assert found.so_far == Decimal(40)
    page = ada.get("/app/acme/usage/cost").content.decode()
    assert "$40.00" in page
    assert "$10.00" in page
    live = ada.get("/app/acme/usage/live").content.decode()
    assert 'data-value="32000"' in live


def test_billions_of_messages_are_projected(acme: Tenant) -> None:
    # In the middle of the month: of its first hours nothing is projected.
    middle = now().replace(day=15, hour=12, minute=0, second=0, microsecond=0)
    note_usage(acme, middle.replace(hour=0), 5 * 10**9, metric="requests")
    found = meter.read(acme, now=middle)
    assert found.so_far is not None
    assert found.projected is not None
    assert found.projected >= found.so_far > 10**6


def test_a_choice_is_made(acme: Tenant, ada: Client) -> None:
    page = ada.get("/app/acme/alerts").content.decode()
    assert "$5.00 per 1,000" in page
    data = {"overage": "on", "is_capped": "on", "spend_cap": "12.50"}
    assert ada.post("/app/acme/alerts/save", data).status_code == 302
    choice = timeline_of(acme).choice_at(datetime.now(UTC))
    assert (choice.overage, choice.spend_cap) == (True, Decimal("12.50"))
    assert ada.post("/app/acme/alerts/save", {"overage": "on"}).status_code == 302
    assert timeline_of(acme).choice_at(datetime.now(UTC)).spend_cap is None
    assert 'value="12.50"' not in ada.get("/app/acme/alerts").content.decode()


@pytest.mark.parametrize(
    ("cap", "says"),
    [("", "Say how much"), ("-1", "greater than"), ("0.001", "decimal"), ("1e99", "less than")],
)
def test_a_cap_that_is_none_is_refused(acme: Tenant, ada: Client, cap: str, says: str) -> None:
    answer = ada.post("/app/acme/alerts/save", {"is_capped": "on", "spend_cap": cap})
    assert answer.status_code == 422
    assert says in answer.content.decode()
    assert timeline_of(acme).choice_at(datetime.now(UTC)).overage  # nothing was changed


def test_who_may_not_change_it_sees_it(acme: Tenant) -> None:
    owner_of(acme)
    finance = signed_in(make_member(acme, "fin", Role.FINANCE).user)
    page = finance.get("/app/acme/alerts").content.decode()
    assert "<fieldset disabled" in page
    assert "These roles may change it: owner, admin." in page
    assert finance.post("/app/acme/alerts/save", {}).status_code == 403


def test_who_is_told_is_chosen(acme: Tenant, ada: Client) -> None:
    make_member(acme, "fin", Role.FINANCE)
    data = {
        "thresholds": "50 %, 90",
        "mail_kinds": ["quota.reached", "gap.recorded"],
        "mail_roles": ["admin"],
        "mail_addresses": "Fin@example.com\n",
    }
    assert ada.post("/app/acme/alerts/told", data).status_code == 302
    page = ada.get("/app/acme/alerts").content.decode()
    assert 'value="50, 90, 100"' in page
    assert "fin@example.com</textarea>" in page
    assert '<li class="break-all">fin@example.com</li>' in page
    data["mail_kinds"] = []
    ada.post("/app/acme/alerts/told", data)
    assert (
        "Nobody: no mail of allowances is chosen." in ada.get("/app/acme/alerts").content.decode()
    )


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"thresholds": "often"}, "“often” is no whole number from 1 to 1000."),
        ({"thresholds": "12.5"}, "“12.5” is no whole number from 1 to 1000."),
        ({"thresholds": "1001"}, "1001 % is not within 1 and 1000 %."),
        ({"thresholds": "1 2 3 4 5 6 7 8"}, "9 percentages; at most 8 are told."),
        ({"mail_roles": "king"}, "king is not one of the available choices."),
        ({"mail_addresses": "cleo@example.com"}, "cleo@example.com is no member&#x27;s address"),
    ],
)
def test_what_nobody_can_be_told_is_refused(
    acme: Tenant, ada: Client, data: dict[str, str], says: str
) -> None:
    answer = ada.post("/app/acme/alerts/told", data)
    assert answer.status_code == 422
    assert says in answer.content.decode()
    assert not AlertChoice.objects.exists()
