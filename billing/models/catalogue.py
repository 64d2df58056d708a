"""What is sold and to whom: versions of prices, and what a tenant has beside its plan.

Which plan and version a tenant was on, and when, are `tenants.PlanSubscription` rows; everything
here is read together with them by `billing/catalogue/terms.py` and written by its `services.py`.
"""

from __future__ import annotations

from typing import TypeVar

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from billing.append_only import AppendOnlyModel, AppendOnlyQuerySet
from billing.rating.prices import AddOnPrices, Discount, Override, PlanPrices, Unit
from billing.rating.texts import discount_of, override_of, read_add_on_once, read_plan_once
from tenants.models import Plan, PlanSubscription, Tenant

_Row = TypeVar("_Row", bound=models.Model)

DOCUMENT = "As docs/prices.md describes it."


class VersionQuerySet(AppendOnlyQuerySet[_Row]):
    """Versions of prices, for good."""


class PlanVersion(AppendOnlyModel):
    """The prices of a plan as they were published. Who subscribes to a version keeps it until
    moved."""

    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="versions")
    version = models.PositiveIntegerField()
    effective_from = models.DateTimeField(help_text="When it may first be subscribed to.")
    document = models.TextField(help_text=DOCUMENT)
    published_at = models.DateTimeField(default=timezone.now)
    published_by = models.CharField(max_length=150, blank=True)
    note = models.CharField(max_length=200, blank=True)

    objects = VersionQuerySet["PlanVersion"].as_manager()

    class Meta:
        ordering = ["plan", "-version"]
        constraints = [
            models.UniqueConstraint(fields=["plan", "version"], name="plan_version_once"),
            models.CheckConstraint(condition=Q(version__gte=1), name="plan_version_from_one"),
        ]

    def __str__(self) -> str:
        return f"{self.plan} version {self.version}"

    @property
    def prices(self) -> PlanPrices:
        """The document, read."""
        return read_plan_once(self.document)


class AddOn(models.Model):
    """What can be added to a plan."""

    code = models.SlugField(max_length=40, unique=True)
    name = models.CharField(max_length=80)
    is_active = models.BooleanField(default=True, help_text="Offered.")

    class Meta:
        verbose_name = "add-on"
        ordering = ["code"]

    def __str__(self) -> str:
        return self.name


class AddOnVersion(AppendOnlyModel):
    """The prices of an add-on as they were published."""

    add_on = models.ForeignKey(AddOn, on_delete=models.PROTECT, related_name="versions")
    version = models.PositiveIntegerField()
    effective_from = models.DateTimeField(help_text="When it may first be bought.")
    document = models.TextField(help_text=DOCUMENT)
    published_at = models.DateTimeField(default=timezone.now)
    published_by = models.CharField(max_length=150, blank=True)
    note = models.CharField(max_length=200, blank=True)

    objects = VersionQuerySet["AddOnVersion"].as_manager()

    class Meta:
        verbose_name = "add-on version"
        ordering = ["add_on", "-version"]
        constraints = [
            models.UniqueConstraint(fields=["add_on", "version"], name="add_on_version_once"),
            models.CheckConstraint(condition=Q(version__gte=1), name="add_on_version_from_one"),
        ]

    def __str__(self) -> str:
        return f"{self.add_on} version {self.version}"

    @property
    def prices(self) -> AddOnPrices:
        """The document, read."""
        return read_add_on_once(self.document)


class OfTenantQuerySet(models.QuerySet[_Row]):
    """Rows of tenants."""

    def for_tenant(self, tenant: Tenant | int) -> OfTenantQuerySet[_Row]:
        """Those of one tenant."""
        return self.filter(tenant=tenant)


class AppendOnlyOfTenantQuerySet(AppendOnlyQuerySet[_Row]):
    """Rows of tenants that are never changed."""

    def for_tenant(self, tenant: Tenant | int) -> AppendOnlyOfTenantQuerySet[_Row]:
        """Those of one tenant."""
        return self.filter(tenant=tenant)


class AddOnSubscription(models.Model):
    """`quantity` of one version of an add-on, for the half-open time `[started_at, ended_at)`."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="add_ons")
    add_on = models.ForeignKey(AddOn, on_delete=models.PROTECT, related_name="subscriptions")
    version = models.PositiveIntegerField()
    quantity = models.PositiveIntegerField(default=1)
    started_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = OfTenantQuerySet["AddOnSubscription"].as_manager()

    class Meta:
        verbose_name = "add-on subscription"
        ordering = ["tenant", "-started_at", "-id"]
        constraints = [
            models.CheckConstraint(condition=Q(quantity__gte=1), name="add_on_at_least_one"),
            models.CheckConstraint(
                condition=Q(ended_at__isnull=True) | Q(ended_at__gte=F("started_at")),
                name="add_on_ends_after_start",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} × {self.add_on}"


class OwnTerms(models.Model):
    """What a tenant pays and may do while it is on `plan`, in place of what the plan says.

    The columns say when: `document` keeps the rest. Those of one tenant and plan never overlap
    (`services.set_own_terms`, under the lock of the tenant's row).
    """

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="own_terms")
    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="+")
    document = models.TextField(help_text=DOCUMENT)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField(null=True, blank=True)
    note = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = OfTenantQuerySet["OwnTerms"].as_manager()

    class Meta:
        verbose_name_plural = "own terms"
        ordering = ["tenant", "-starts_at"]
        constraints = [
            models.CheckConstraint(
                condition=Q(ends_at__isnull=True) | Q(ends_at__gte=F("starts_at")),
                name="own_terms_end_after_start",
            ),
        ]

    def __str__(self) -> str:
        return f"own terms of {self.tenant} on {self.plan}"

    @property
    def override(self) -> Override:
        """The document, read, in force when the columns say."""
        return override_of(self.document, self.starts_at, self.ends_at)


class DiscountGrant(models.Model):
    """A discount of one tenant. The columns say when: `document` keeps the rest."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="discounts")
    document = models.TextField(help_text=DOCUMENT)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField(null=True, blank=True)
    note = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = OfTenantQuerySet["DiscountGrant"].as_manager()

    class Meta:
        verbose_name = "discount"
        ordering = ["tenant", "id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(ends_at__isnull=True) | Q(ends_at__gte=F("starts_at")),
                name="discount_ends_after_start",
            ),
        ]

    def __str__(self) -> str:
        return f"discount of {self.tenant} from {self.starts_at:%Y-%m-%d}"

    @property
    def discount(self) -> Discount:
        """The document, read, in force when the columns say."""
        return discount_of(self.document, self.starts_at, self.ends_at)


class BillingChoice(AppendOnlyModel):
    """What a tenant chose, from `since` (a full UTC hour, or the beginning of a billing period)
    until its next choice: whether it may use more than is included, and what that may cost in a
    period. Without any: not."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="billing_choices")
    since = models.DateTimeField()
    overage = models.BooleanField(default=False)
    spend_cap = models.DecimalField(
        max_digits=20,
        decimal_places=2,
        null=True,
        blank=True,
        help_text="US dollars a period, before tax.",
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = AppendOnlyOfTenantQuerySet["BillingChoice"].as_manager()

    class Meta:
        ordering = ["tenant", "id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(spend_cap__isnull=True) | Q(spend_cap__isnull=False, spend_cap__gte=0),
                name="billing_choice_cap_not_negative",
            ),
        ]

    def __str__(self) -> str:
        cap = "" if self.spend_cap is None else f", at most {self.spend_cap} USD"
        return f"overage {'on' if self.overage else 'off'}{cap} from {self.since:%Y-%m-%d %H:%M}"


class BillingAnchor(AppendOnlyModel):
    """From `at` on, billing periods of the tenant are `every` `unit` long, counted from there. A
    later row takes the place of those at the same or a later time."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="billing_anchors")
    at = models.DateTimeField()
    unit = models.CharField(max_length=5, choices=[(str(unit), str(unit)) for unit in Unit])
    every = models.PositiveSmallIntegerField(default=1)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = AppendOnlyOfTenantQuerySet["BillingAnchor"].as_manager()

    class Meta:
        ordering = ["tenant", "id"]
        constraints = [
            models.CheckConstraint(condition=Q(every__gte=1), name="billing_anchor_every_one"),
            models.CheckConstraint(
                condition=Q(unit__in=[str(unit) for unit in Unit]), name="billing_anchor_unit"
            ),
        ]

    def __str__(self) -> str:
        return f"every {self.every} {self.unit} from {self.at:%Y-%m-%d %H:%M}"


class TenantTerms(Tenant):
    """A tenant as billing sees it: its plan, its add-ons, what it chose. No table of its own."""

    class Meta:
        proxy = True
        verbose_name = "terms of a tenant"
        verbose_name_plural = "terms of tenants"


class PlannedChange(models.Model):
    """A change of plan, or without a `plan` the end of it, that is to happen at `at`.

    Terms contain it from the moment it is planned; the beat writes it down once it is due.
    """

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="planned_changes")
    plan = models.ForeignKey(
        Plan, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    version = models.PositiveIntegerField(null=True, blank=True)
    at = models.DateTimeField()
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    done_at = models.DateTimeField(null=True, blank=True, editable=False)
    # True or NULL, so that a tenant has one pending change on every database.
    is_pending = models.BooleanField(null=True, default=True, editable=False)

    objects = OfTenantQuerySet["PlannedChange"].as_manager()

    class Meta:
        ordering = ["tenant", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "is_pending"], name="planned_change_one_pending"
            ),
            models.CheckConstraint(
                condition=Q(is_pending__isnull=False, is_pending=True, done_at__isnull=True)
                | Q(is_pending__isnull=True, done_at__isnull=False),
                name="planned_change_pending_or_done",
            ),
            models.CheckConstraint(
                condition=Q(plan__isnull=True, version__isnull=True)
                | Q(plan__isnull=False, version__isnull=False),
                name="planned_change_names_version",
            ),
        ]
        indexes = [models.Index(fields=["is_pending", "at"], name="planned_change_due")]

    def __str__(self) -> str:
        return f"{self.plan or 'no plan'} from {self.at:%Y-%m-%d %H:%M}"


class AppliedTerms(models.Model):
    """What of a tenant's terms has been written down as limits and allowances, and when the next
    of them changes by itself."""

    tenant = models.OneToOneField(
        Tenant, on_delete=models.PROTECT, primary_key=True, related_name="+"
    )
    subscription = models.ForeignKey(
        PlanSubscription, on_delete=models.PROTECT, null=True, related_name="+"
    )
    applied_at = models.DateTimeField()
    next_change_at = models.DateTimeField(null=True, db_index=True)
    # Whether the tenant's own limits are those that billing wrote, and not an operator's.
    has_limits = models.BooleanField(default=False)
    # When a spend cap was last held against what was used; null where none ever was.
    limited_at = models.DateTimeField(null=True, db_index=True)

    class Meta:
        verbose_name_plural = "applied terms"

    def __str__(self) -> str:
        return f"terms of {self.tenant_id} at {self.applied_at:%Y-%m-%d %H:%M:%S}"


class Wallet(models.Model):
    """The prepaid money of a tenant. Its row is the lock under which entries are written."""

    tenant = models.OneToOneField(
        Tenant, on_delete=models.PROTECT, primary_key=True, related_name="wallet"
    )
    balance = models.DecimalField(max_digits=20, decimal_places=2, default=0, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(balance__gte=0), name="wallet_never_below_zero")
        ]

    def __str__(self) -> str:
        return f"{self.balance} USD of {self.tenant}"


class WalletEntry(AppendOnlyModel):
    """Money that came into a wallet (above 0) or left it; `balance` is what it held then."""

    class Kind(models.TextChoices):
        TOP_UP = "top_up", "top-up"
        SPEND = "spend", "spend"
        REFUND = "refund", "refund"
        EXPIRY = "expiry", "expiry"
        ADJUSTMENT = "adjustment", "adjustment"

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="wallet_entries")
    amount = models.DecimalField(max_digits=20, decimal_places=2)
    kind = models.CharField(max_length=10, choices=Kind.choices)
    reference = models.CharField(max_length=100, blank=True, help_text="Invoice, payment, ticket.")
    balance = models.DecimalField(max_digits=20, decimal_places=2, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    created_by = models.CharField(max_length=150, blank=True, editable=False)

    objects = AppendOnlyOfTenantQuerySet["WalletEntry"].as_manager()

    class Meta:
        verbose_name_plural = "wallet entries"
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(condition=Q(balance__gte=0), name="wallet_entry_balance"),
            models.CheckConstraint(
                condition=Q(kind="top_up", amount__gt=0)
                | Q(kind__in=["spend", "expiry"], amount__lt=0)
                | Q(kind__in=["refund", "adjustment"]) & ~Q(amount=0),
                name="wallet_entry_sign_of_kind",
            ),
        ]
        indexes = [models.Index(fields=["tenant", "-id"], name="wallet_entry_newest")]

    def __str__(self) -> str:
        return f"{self.amount} USD, {self.get_kind_display()}"
