"""Tenants, their keys, and the plans that say how much they may hold open."""

from __future__ import annotations

from datetime import datetime

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

from tenants.admission.keys import SHOWN_CHARS
from tenants.admission.principal import DEFAULT_SCOPES, Scope


class TenantQuerySet(models.QuerySet["Tenant"]):
    """Tenants, by what may be done with them."""

    def active(self) -> TenantQuerySet:
        """Those that are not suspended."""
        return self.filter(suspended_at=None)


class Tenant(models.Model):
    """Who pays."""

    class Kind(models.TextChoices):
        EXTERNAL = "external", "customer"
        INTERNAL = "internal", "our own"
        DEMO = "demo", "demo"

    name = models.CharField(max_length=120)
    slug = models.SlugField(max_length=60, unique=True)
    kind = models.CharField(max_length=10, choices=Kind.choices, default=Kind.EXTERNAL)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    suspended_at = models.DateTimeField(null=True, blank=True, editable=False)
    suspension_reason = models.CharField(max_length=200, blank=True, editable=False)

    objects = TenantQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=Q(kind__in=["external", "internal", "demo"]), name="tenant_kind_known"
            ),
            models.CheckConstraint(
                condition=Q(suspended_at__isnull=False) | Q(suspension_reason=""),
                name="tenant_reason_only_when_suspended",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_suspended(self) -> bool:
        """Whether every key of this tenant is refused."""
        return self.suspended_at is not None


class Plan(models.Model):
    """What can be bought. Its limits are its `Quota`; its prices belong to billing."""

    code = models.SlugField(max_length=40, unique=True)
    name = models.CharField(max_length=80)
    is_active = models.BooleanField(default=True, help_text="Offered to new tenants.")

    class Meta:
        ordering = ["code"]

    def __str__(self) -> str:
        return self.name


class Quota(models.Model):
    """The limits of a plan: what one tenant may hold open at one time, over all its keys."""

    plan = models.OneToOneField(Plan, on_delete=models.CASCADE, related_name="quota")
    max_connections = models.PositiveIntegerField(default=10, validators=[MinValueValidator(1)])
    max_subscriptions = models.PositiveIntegerField(
        default=1_000, validators=[MinValueValidator(1)]
    )
    max_lag_s = models.PositiveSmallIntegerField(
        "lag of bulk readers, s",
        default=5,
        validators=[MinValueValidator(1), MaxValueValidator(60)],
        help_text="How far behind a reader of l4Book, l4Diff or raw may fall before it is cut.",
    )

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(max_connections__gte=1) & Q(max_subscriptions__gte=1),
                name="quota_at_least_one",
            )
        ]

    def __str__(self) -> str:
        return f"{self.max_connections} connections, {self.max_subscriptions} subscriptions"


class PlanSubscriptionQuerySet(models.QuerySet["PlanSubscription"]):
    """Plan subscriptions, by tenant and time."""

    def for_tenant(self, tenant: Tenant | int) -> PlanSubscriptionQuerySet:
        """Those of one tenant."""
        return self.filter(tenant=tenant)

    def current(self) -> PlanSubscriptionQuerySet:
        """The one each tenant is on now."""
        return self.filter(is_current=True)


class PlanSubscription(models.Model):
    """A tenant on a plan, for the half-open time `[started_at, ended_at)`."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="plan_subscriptions")
    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="plan_subscriptions")
    started_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True, blank=True)
    # True or NULL, never False: MariaDB has no conditional unique constraint, but NULLs never
    # collide.
    is_current = models.BooleanField(null=True, default=True, editable=False)

    objects = PlanSubscriptionQuerySet.as_manager()

    class Meta:
        ordering = ["-started_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "is_current"], name="plan_subscription_one_current"
            ),
            models.CheckConstraint(
                # `is_current = true` alone is NULL, and so no refusal, where `is_current` is NULL.
                condition=Q(is_current__isnull=False, is_current=True, ended_at__isnull=True)
                | Q(is_current__isnull=True, ended_at__isnull=False),
                name="plan_subscription_current_has_no_end",
            ),
            models.CheckConstraint(
                condition=Q(ended_at__isnull=True) | Q(ended_at__gte=models.F("started_at")),
                name="plan_subscription_ends_after_start",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.tenant} on {self.plan}"


def default_scopes() -> list[str]:
    """What a new key may do unless told otherwise."""
    return [str(scope) for scope in DEFAULT_SCOPES]


def validate_scopes(scopes: object) -> None:
    """Raises ValidationError unless `scopes` is a non-empty list of scopes we know, each once."""
    known = [str(scope) for scope in Scope]
    if not isinstance(scopes, list) or not scopes:
        raise ValidationError("A key needs at least one scope.")
    unknown = [scope for scope in scopes if scope not in known]
    if unknown:
        raise ValidationError(f"Unknown scope {unknown[0]!r}; known are {', '.join(known)}.")
    if len(set(scopes)) != len(scopes):
        raise ValidationError("A scope is named twice.")


class APIKeyQuerySet(models.QuerySet["APIKey"]):
    """Keys, by tenant and by whether they still open anything."""

    def for_tenant(self, tenant: Tenant | int) -> APIKeyQuerySet:
        """Those of one tenant."""
        return self.filter(tenant=tenant)

    def usable(self, now: datetime) -> APIKeyQuerySet:
        """Neither revoked nor expired, and of a tenant that is not suspended."""
        return self.filter(
            Q(expires_at=None) | Q(expires_at__gt=now), revoked_at=None, tenant__suspended_at=None
        )


class APIKey(models.Model):
    """A key, without the key: only its beginning and its digest are kept."""

    class Environment(models.TextChoices):
        LIVE = "live", "live"
        TEST = "test", "test"

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="api_keys")
    name = models.CharField(max_length=80, help_text="What it is for, in the customer's words.")
    environment = models.CharField(
        max_length=4, choices=Environment.choices, default=Environment.LIVE
    )
    prefix = models.CharField(max_length=SHOWN_CHARS, editable=False)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    scopes = models.JSONField(default=default_scopes, validators=[validate_scopes])
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = APIKeyQuerySet.as_manager()

    class Meta:
        verbose_name = "API key"
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                condition=Q(environment__in=["live", "test"]), name="api_key_environment_known"
            ),
            models.CheckConstraint(
                condition=Q(expires_at__isnull=True) | Q(expires_at__gte=models.F("created_at")),
                name="api_key_expires_after_creation",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.prefix}… ({self.name})"
