"""A stranger finds nothing; a member finds what the role may see."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import IntegrityError, transaction

from tenants.models import BillingProfile
from tenants.people import selectors, services
from tenants.people.roles import Role
from tests.tenants.cast import Cast
from tests.tenants.people import OPERATOR, make_member, make_person, owner_of

pytestmark = pytest.mark.django_db


def test_a_stranger_finds_nothing(cast: Cast) -> None:
    ada, cleo = owner_of(cast.acme), owner_of(cast.other, "cleo")
    services.invite(tenant=cast.acme, email="ben@example.com", role="viewer", by=ada)
    services.save_billing_profile(tenant=cast.acme, by=ada, legal_name="Acme LLC")
    assert selectors.membership(ada.user, "acme") == ada
    for user in (cleo.user, make_person("nobody"), AnonymousUser()):
        assert selectors.membership(user, "acme") is None  # type: ignore[arg-type]
    assert selectors.membership(ada.user, "no-such") is None
    assert list(selectors.members(cleo)) == [cleo]
    assert list(selectors.open_invitations(cleo)) == []
    assert selectors.billing_profile(cleo) is None
    for act in (
        lambda: services.save_billing_profile(tenant=cast.acme, by=cleo, legal_name="Mine"),
        lambda: services.change_role(ada, role="viewer", by=cleo),
        lambda: services.remove_member(ada, by=cleo),
    ):
        with pytest.raises(PermissionDenied):
            act()


def test_who_is_no_member_any_more_finds_nothing(cast: Cast) -> None:
    """Also with a membership that was read before."""
    ada, ben = owner_of(cast.acme), make_member(cast.acme, "ben", Role.ADMIN)
    assert len(selectors.members(ben)) == 2
    services.remove_member(ben, by=ada)
    ada.user.is_active = False
    ada.user.save()
    for gone in (ben, ada):
        assert list(selectors.members(gone)) == []
        assert list(selectors.memberships_of(gone.user)) == []


def test_roles_see_what_they_may(cast: Cast) -> None:
    ada = owner_of(cast.acme)
    services.invite(tenant=cast.acme, email="ben@example.com", role="viewer", by=ada)
    services.save_billing_profile(tenant=cast.acme, by=ada, legal_name="Acme LLC")
    for role, invitations, profile in (
        (Role.ADMIN, 1, True),
        (Role.FINANCE, 0, True),
        (Role.DEVELOPER, 0, False),
        (Role.VIEWER, 0, False),
    ):
        member = make_member(cast.acme, role, role)
        assert len(selectors.open_invitations(member)) == invitations
        assert (selectors.billing_profile(member) is not None) is profile


def test_without_a_profile_a_tenant_bills_under_its_name(cast: Cast) -> None:
    owner_of(cast.acme)
    bare = selectors.billing_identity(cast.acme)
    assert (bare.legal_name, bare.tax_percent, bare.currency) == ("Acme", 0, "USD")
    assert bare.invoice_emails == ("ada@example.com",)
    services.save_billing_profile(
        tenant=cast.acme,
        by=OPERATOR,
        legal_name="Acme LLC",
        address_line1="Main 1",
        postal_code="10115",
        city="Berlin",
        country="DE",
        tax_name="VAT",
        tax_percent=Decimal("7.7125"),
        invoice_email="bills@example.com",
    )
    full = selectors.billing_identity(cast.acme)
    assert full.address == ("Main 1", "10115 Berlin")
    assert full.tax_percent == Decimal("7.7125")
    assert full.invoice_emails == ("bills@example.com",)


@pytest.mark.parametrize(
    "wrong",
    [
        {"legal_name": ""},
        {"country": "Germany"},
        {"country": "XX"},
        {"country": "de"},
        {"invoice_email": "none"},
        {"tax_name": "VAT", "tax_percent": Decimal("100.0001")},
        {"tax_name": "VAT", "tax_percent": Decimal("-1")},
        {"tax_name": "VAT", "tax_percent": Decimal("1.00001")},
        {"tax_name": "VAT", "tax_percent": Decimal("NaN")},
        {"tax_percent": Decimal("19")},
        {"tax_name": "VAT", "tax_percent": Decimal("19"), "reverse_charge_text": "Art. 196"},
    ],
)
def test_bad_profiles(cast: Cast, wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        services.save_billing_profile(tenant=cast.acme, by=OPERATOR, **wrong)
    assert not BillingProfile.objects.exists()


def test_a_customer_sets_no_tax(cast: Cast) -> None:
    ada = owner_of(cast.acme)
    with pytest.raises(PermissionDenied):
        services.save_billing_profile(tenant=cast.acme, by=ada, tax_percent=Decimal(0))


def test_the_database_keeps_taxes_whole(cast: Cast) -> None:
    services.save_billing_profile(tenant=cast.acme, by=OPERATOR, legal_name="Acme LLC")
    for wrong in (
        {"tax_percent": 101, "tax_name": "VAT"},
        {"tax_percent": -1, "tax_name": "VAT"},
        {"tax_percent": 19},
        {"tax_percent": 19, "tax_name": "VAT", "reverse_charge_text": "Art. 196"},
        {"legal_name": ""},
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            BillingProfile.objects.update(**wrong)
