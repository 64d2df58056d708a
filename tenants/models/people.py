"""Who belongs to a tenant, who is asked to, what they agreed to, in which language they are written
to, and whom an invoice names."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TypeVar

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from tenants.append_only import AppendOnlyModel, AppendOnlyQuerySet
from tenants.models.admission import Tenant
from tenants.people.countries import COUNTRIES
from tenants.people.roles import Role

_Row = TypeVar("_Row", bound=models.Model)

ROLES = [(str(role), str(role)) for role in Role]
#: SHA-256 in hex.
DIGEST_CHARS = 64


class TenantScoped(models.QuerySet[_Row]):
    """Rows that name their tenant."""

    def for_tenant(self, tenant: Tenant | int) -> TenantScoped[_Row]:
        """Those of one tenant."""
        return self.filter(tenant=tenant)


class Membership(models.Model):
    """Somebody's role in a tenant. A tenant that has members has an owner among them: `services`
    hold the tenant's row while they look."""

    # Protected, or deleting a user could take a tenant's last owner.
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="memberships"
    )
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="memberships")
    role = models.CharField(max_length=10, choices=ROLES)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = TenantScoped["Membership"].as_manager()

    class Meta:
        ordering = ["created_at", "pk"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "user"], name="membership_once"),
            models.CheckConstraint(
                condition=Q(role__in=[str(role) for role in Role]), name="membership_role_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} is {self.role} of {self.tenant}"


class InvitationQuerySet(TenantScoped["Invitation"]):
    """Invitations, by whether they can still be accepted."""

    def open(self) -> InvitationQuerySet:
        """Neither accepted nor withdrawn; they may have expired."""
        return self.filter(is_open=True)


class Invitation(models.Model):
    """Somebody is asked, at an e-mail address, to take a role in a tenant."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="invitations")
    email = models.EmailField("e-mail", help_text="In lower case.")
    role = models.CharField(max_length=10, choices=ROLES)
    # Of the token in the newest mail; none until that is made. The token itself is nowhere.
    digest = models.CharField(max_length=DIGEST_CHARS, null=True, unique=True, editable=False)  # noqa: DJ001
    invited_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        editable=False,
        on_delete=models.SET_NULL,
        related_name="invitations_sent",
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(editable=False)
    sent_at = models.DateTimeField(null=True, editable=False)
    accepted_at = models.DateTimeField(null=True, editable=False)
    accepted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        editable=False,
        on_delete=models.PROTECT,
        related_name="invitations_accepted",
    )
    withdrawn_at = models.DateTimeField(null=True, editable=False)
    # True or NULL, as `PlanSubscription.is_current`: one open invitation an address.
    is_open = models.BooleanField(null=True, default=True, editable=False)

    objects = InvitationQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "email", "is_open"], name="invitation_one_open"
            ),
            models.CheckConstraint(
                condition=Q(role__in=[str(role) for role in Role]), name="invitation_role_known"
            ),
            models.CheckConstraint(
                condition=Q(
                    is_open__isnull=False,
                    is_open=True,
                    accepted_at__isnull=True,
                    withdrawn_at__isnull=True,
                )
                | Q(is_open__isnull=True, accepted_at__isnull=False, withdrawn_at__isnull=True)
                | Q(is_open__isnull=True, accepted_at__isnull=True, withdrawn_at__isnull=False),
                name="invitation_open_or_ended_once",
            ),
            models.CheckConstraint(
                condition=Q(accepted_at__isnull=True, accepted_by__isnull=True)
                | Q(accepted_at__isnull=False, accepted_by__isnull=False),
                name="invitation_accepted_by_somebody",
            ),
            models.CheckConstraint(
                condition=Q(expires_at__gt=models.F("created_at")),
                name="invitation_expires_after_creation",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.email} as {self.role} of {self.tenant}"

    def state(self, now: datetime) -> str:
        """`accepted`, `withdrawn`, `expired`, `waiting` (its mail is not sent yet) or `sent`."""
        if self.accepted_at is not None:
            return "accepted"
        if self.withdrawn_at is not None:
            return "withdrawn"
        if self.expires_at <= now:
            return "expired"
        return "sent" if self.sent_at else "waiting"


class ChosenLanguage(models.Model):
    """In which language somebody is written to; who has no row has chosen none."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL,
        primary_key=True,
        on_delete=models.CASCADE,
        related_name="chosen_language",
    )
    language = models.CharField(max_length=10, help_text="A code of LANGUAGES.")

    class Meta:
        constraints = [
            models.CheckConstraint(condition=~Q(language=""), name="chosen_language_is_one")
        ]

    def __str__(self) -> str:
        return f"{self.user_id}: {self.language}"


class TermsAcceptanceQuerySet(AppendOnlyQuerySet["TermsAcceptance"]):
    """Acceptances of a tenant."""

    def for_tenant(self, tenant: Tenant | int) -> TermsAcceptanceQuerySet:
        """Those of one tenant."""
        return self.filter(tenant=tenant)


class TermsAcceptance(AppendOnlyModel):
    """Somebody accepted a version of the terms for a tenant. Written once, never changed."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="terms_acceptances")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="terms_acceptances"
    )
    version = models.CharField(max_length=40)
    accepted_at = models.DateTimeField(default=timezone.now)
    from_address = models.GenericIPAddressField(null=True)

    objects = TermsAcceptanceQuerySet.as_manager()

    class Meta:
        ordering = ["-accepted_at", "-pk"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "user", "version"], name="terms_once"),
            models.CheckConstraint(condition=~Q(version=""), name="terms_have_a_version"),
        ]

    def __str__(self) -> str:
        return f"{self.tenant} accepted {self.version}"


def validate_country(code: str) -> None:
    """Raises ValidationError unless `code` is a country's two letters."""
    if code not in COUNTRIES:
        raise ValidationError(
            _("%(code)r is no country: two capital letters, as in ISO 3166 (DE).") % {"code": code}
        )


class BillingProfile(models.Model):
    """Whom a tenant's invoices name, where they go, and how they are taxed. In USD, as all."""

    tenant = models.OneToOneField(Tenant, on_delete=models.PROTECT, related_name="billing_profile")
    legal_name = models.CharField(max_length=200)
    address_line1 = models.CharField("address", max_length=200, blank=True)
    address_line2 = models.CharField("address, second line", max_length=200, blank=True)
    postal_code = models.CharField(max_length=20, blank=True)
    city = models.CharField(max_length=100, blank=True)
    region = models.CharField("state or region", max_length=100, blank=True)
    country = models.CharField(max_length=2, blank=True, validators=[validate_country])
    tax_id = models.CharField("tax id", max_length=40, blank=True, help_text="As invoices show it.")
    tax_name = models.CharField(
        max_length=20, blank=True, help_text="What the tax is called: VAT, GST, Sales tax."
    )
    tax_percent = models.DecimalField(
        max_digits=7,
        decimal_places=4,
        default=Decimal(0),
        validators=[MinValueValidator(Decimal(0)), MaxValueValidator(Decimal(100))],
    )
    reverse_charge_text = models.CharField(
        max_length=300,
        blank=True,
        help_text="Printed where the customer owes the tax; then the percent is 0.",
    )
    invoice_email = models.EmailField("invoice e-mail", blank=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = TenantScoped["BillingProfile"].as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(tax_percent__gte=0) & Q(tax_percent__lte=100),
                name="billing_profile_tax_within_0_and_100",
            ),
            models.CheckConstraint(
                condition=Q(reverse_charge_text="") | Q(tax_percent=0),
                name="billing_profile_reverse_charge_without_tax",
                violation_error_message="With a reverse charge the tax percent is 0.",
            ),
            models.CheckConstraint(
                condition=Q(tax_percent=0) | ~Q(tax_name=""),
                name="billing_profile_tax_has_a_name",
                violation_error_message="A tax needs a name: VAT, GST, Sales tax.",
            ),
            models.CheckConstraint(condition=~Q(legal_name=""), name="billing_profile_has_a_name"),
        ]

    def __str__(self) -> str:
        return self.legal_name
