"""Tenants, their keys, and the plans that say how much they may hold open."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, Self

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from tenants.admission.access import parse_network, parse_origin
from tenants.admission.keys import SHOWN_CHARS
from tenants.admission.principal import DEFAULT_SCOPES, Scope
from tenants.said import Said

#: Of each list of a key. Every handshake walks them, and Redis holds them with the key.
MAX_LISTED = 50
#: 1,000 times what a door gives to everybody: beyond it a limit is none.
MAX_PER_MINUTE = 1_200_000

#: What a customer may change of a key, and what its successor takes over.
KEY_RIGHTS = (
    "name",
    "scopes",
    "allowed_networks",
    "allowed_origins",
    "rate_per_minute",
    "rate_burst",
    "daily_quota",
    "monthly_quota",
    "owner",
    "note",
    "expires_at",
)


class TenantQuerySet(models.QuerySet["Tenant"]):
    """Tenants, by what may be done with them."""

    def active(self) -> TenantQuerySet:
        """Those that are not suspended."""
        return self.filter(suspended_at=None)

    def due_for_suspension(self, now: datetime) -> TenantQuerySet:
        """Those whose grace has ended and who are not suspended yet."""
        return self.filter(suspended_at=None, suspend_at__lte=now)


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
    suspend_at = models.DateTimeField("suspended from", null=True, blank=True, editable=False)
    suspend_reason = models.CharField(max_length=200, blank=True, editable=False)
    support_name = models.CharField(
        "support contact", max_length=120, blank=True, help_text="Whom our support asks for."
    )
    support_email = models.EmailField("support e-mail", blank=True)
    support_phone = models.CharField(max_length=40, blank=True)
    requires_second_factor = models.BooleanField(
        default=False, editable=False, help_text="Of who opens its pages."
    )
    closed_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = TenantQuerySet.as_manager()
    _opened_kind = ""

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
            # Announced, or done: never both, and an announcement says why.
            models.CheckConstraint(
                condition=Q(suspend_at__isnull=True, suspend_reason="")
                | (Q(suspend_at__isnull=False, suspended_at__isnull=True) & ~Q(suspend_reason="")),
                name="tenant_suspension_announced_with_reason",
            ),
            models.CheckConstraint(
                condition=Q(closed_at__isnull=True) | Q(suspended_at__isnull=False),
                name="tenant_closed_is_suspended",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def from_db(cls, *arguments: Any, **options: Any) -> Self:
        """A row as Django makes it, with the kind it was read with: `opened_kind`."""
        tenant = super().from_db(*arguments, **options)
        tenant._opened_kind = tenant.__dict__.get("kind", "")
        return tenant

    def refresh_from_db(
        self, using: Any = None, fields: Any = None, from_queryset: Any = None
    ) -> None:
        """Read the row again; its kind is opened as what it says now."""
        super().refresh_from_db(using, fields, from_queryset)
        if fields is None or "kind" in fields:
            self._opened_kind = self.kind

    @property
    def opened_kind(self) -> str:
        """The kind that this object was read with; "" if it never was."""
        return self._opened_kind

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


def validate_words(words: object) -> None:
    """Raises ValidationError unless `words` is None (all there are) or a list of texts."""
    if words is not None and not (
        isinstance(words, list) and all(isinstance(word, str) and word for word in words)
    ):
        raise ValidationError("A list of names is needed, or nothing for all there are.")


class QuotaFields(models.Model):
    """What a tenant may hold open and ask for at one time, over all its keys. Nothing in an
    optional limit is no limit, and in a list all there are."""

    max_connections = models.PositiveIntegerField(default=10)
    max_subscriptions = models.PositiveIntegerField(default=1_000)
    max_coins = models.PositiveIntegerField(
        "distinct coins", null=True, blank=True, help_text="Of coins that are followed by name."
    )
    max_users = models.PositiveIntegerField(
        "distinct users", null=True, blank=True, help_text="Of addresses that are followed."
    )
    max_lag_s = models.PositiveSmallIntegerField(
        "lag of bulk readers, s",
        default=5,
        validators=[MinValueValidator(1), MaxValueValidator(60)],
        help_text="How far behind a reader of l4Book, l4Diff or raw may fall before it is cut.",
    )
    requests_per_s = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Weight a second of requests and handshakes.",
    )
    burst = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="How much of it may come at once.",
    )
    retention_hours = models.PositiveIntegerField(
        null=True, blank=True, help_text="How far back a resume or a query may begin."
    )
    products = models.JSONField(null=True, blank=True, default=None, validators=[validate_words])
    channels = models.JSONField(null=True, blank=True, default=None, validators=[validate_words])
    regions = models.JSONField(null=True, blank=True, default=None, validators=[validate_words])

    class Meta:
        abstract = True
        constraints = [
            models.CheckConstraint(
                condition=Q(requests_per_s__isnull=True, burst__isnull=True)
                | Q(requests_per_s__isnull=False, requests_per_s__gte=1, burst__isnull=False)
                & Q(burst__gte=models.F("requests_per_s")),
                name="%(class)s_rate_whole",
                violation_error_message="A rate needs both: weight a second, and a burst of that "
                "at least.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.max_connections} connections, {self.max_subscriptions} subscriptions"


class Quota(QuotaFields):
    """The limits of a plan, for tenants without limits of their own."""

    plan = models.OneToOneField(Plan, on_delete=models.CASCADE, related_name="quota")

    class Meta(QuotaFields.Meta):
        constraints = [
            *QuotaFields.Meta.constraints,
            models.CheckConstraint(
                condition=Q(max_connections__gte=1) & Q(max_subscriptions__gte=1),
                name="quota_at_least_one",
                violation_error_message="A plan allows at least one connection and subscription.",
            ),
        ]


class QuotaOverride(QuotaFields):
    """The limits of one tenant, in place of its plan's: what its plan's version, its add-ons and
    its own terms come to, written by billing when they change, or by an operator.

    May be 0 connections: a tenant whose trial ended, or without a plan, opens nothing.
    """

    tenant = models.OneToOneField(Tenant, on_delete=models.CASCADE, related_name="quota_override")
    updated_at = models.DateTimeField(auto_now=True)


class Allowance(models.Model):
    """How much a tenant may use of one metric in `[starts_at, ends_at)` before it is refused
    (`is_hard`) or only told.

    It counts `units × weight` of its `channels`; without any, of all that no other allowance of the
    same metric and time names. A channel without a weight has 1. Billing writes it: from the plan's
    included amount, from a spend cap.
    """

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="allowances")
    code = models.CharField(max_length=40, help_text="The meter it is the allowance of.")
    metric = models.CharField(max_length=16)
    channels = models.JSONField(default=list, blank=True)
    weights = models.JSONField(default=dict, blank=True, help_text="Decimal texts by channel.")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    units = models.PositiveBigIntegerField(help_text="Weighted units.")
    is_hard = models.BooleanField(default=True)
    goes_on = models.BooleanField(
        default=False, help_text="Whether its amount holds on after its end until there is another."
    )
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["tenant", "code", "-starts_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "code", "starts_at"], name="allowance_one_of_a_time"
            ),
            models.CheckConstraint(
                condition=Q(ends_at__gt=models.F("starts_at")), name="allowance_ends_after_start"
            ),
        ]
        indexes = [models.Index(fields=["ends_at", "tenant"], name="allowance_end_tenant")]

    def __str__(self) -> str:
        return f"{self.units} {self.metric} until {self.ends_at:%Y-%m-%d %H:%M}"


class QuotaWarningQuerySet(models.QuerySet["QuotaWarning"]):
    """Warnings, by tenant."""

    def for_tenant(self, tenant: Tenant | int) -> QuotaWarningQuerySet:
        """Those of one tenant."""
        return self.filter(tenant=tenant)


class QuotaWarning(models.Model):
    """That a tenant was told how much of an allowance is used: once for each threshold of a
    period and limit; again when the limit has grown."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="quota_warnings")
    code = models.CharField(max_length=40, help_text="Of the allowance, or of a key's own quota.")
    period = models.CharField(max_length=80, help_text="Which of them, and since when.")
    threshold = models.PositiveSmallIntegerField(help_text="Percent.")
    used = models.PositiveBigIntegerField()
    limit = models.PositiveBigIntegerField()
    resets_at = models.DateTimeField()
    at = models.DateTimeField(default=timezone.now)

    objects = QuotaWarningQuerySet.as_manager()

    class Meta:
        ordering = ["-at"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "period", "threshold", "limit"], name="quota_warning_once"
            ),
            models.CheckConstraint(condition=Q(threshold__gte=1), name="quota_warning_percent"),
        ]

    def __str__(self) -> str:
        return f"{self.code}: {self.threshold} %"


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
    version = models.PositiveIntegerField(
        default=1, help_text="Of the plan's prices: who subscribed to one keeps it."
    )
    started_at = models.DateTimeField(default=timezone.now)
    trial_ends_at = models.DateTimeField(null=True, blank=True)
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
        raise ValidationError(_("A key needs at least one scope."))
    unknown = [scope for scope in scopes if scope not in known]
    if unknown:
        raise ValidationError(
            _("Unknown scope %(scope)r; known are %(known)s.")
            % {"scope": unknown[0], "known": ", ".join(known)}
        )
    if len(set(scopes)) != len(scopes):
        raise ValidationError(_("A scope is named twice."))


def validate_networks(networks: object) -> None:
    """Raises ValidationError unless `networks` is a list of addresses and networks."""
    _validate_list(networks, parse_network)


def validate_origins(origins: object) -> None:
    """Raises ValidationError unless `origins` is a list of web origins."""
    _validate_list(origins, parse_origin)


def _validate_list(texts: object, parse: Callable[[str], object]) -> None:
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValidationError(_("A list of texts is needed."))
    if len(texts) > MAX_LISTED:
        raise ValidationError(
            _("%(count)s entries; at most %(most)s fit.")
            % {"count": len(texts), "most": MAX_LISTED}
        )
    problems = []
    for text in texts:
        try:
            parse(text)
        except Said as error:
            problems.append(error.said(_))
    if problems:
        raise ValidationError(problems)


class APIKeyQuerySet(models.QuerySet["APIKey"]):
    """Keys, by tenant and by whether they still open anything."""

    def for_tenant(self, tenant: Tenant | int) -> APIKeyQuerySet:
        """Those of one tenant."""
        return self.filter(tenant=tenant)

    def of_customers(self) -> APIKeyQuerySet:
        """Those that customers made: not what their dashboards are counted under."""
        return self.filter(is_dashboard=None)

    def living(self, now: datetime) -> APIKeyQuerySet:
        """Neither revoked nor expired."""
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=now), revoked_at=None)

    def usable(self, now: datetime) -> APIKeyQuerySet:
        """Neither revoked nor expired, and of a tenant that is not suspended."""
        return self.living(now).filter(tenant__suspended_at=None)


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
    allowed_networks = models.JSONField(
        "allowed addresses",
        default=list,
        blank=True,
        validators=[validate_networks],
        help_text="Addresses and networks it may be used from; none: from everywhere.",
    )
    allowed_origins = models.JSONField(
        default=list,
        blank=True,
        validators=[validate_origins],
        help_text="Web pages it may be used from (https://desk.example); none: from everywhere. "
        "Programs send no origin: with a list here they are refused.",
    )
    rate_per_minute = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(MAX_PER_MINUTE)],
        help_text="Weight a minute of its requests and handshakes; none: the doors' own.",
    )
    rate_burst = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(MAX_PER_MINUTE)],
        help_text="How much of it may come at once.",
    )
    daily_quota = models.PositiveBigIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Messages and requests a UTC day, of all keys of its rotations; "
        "none: the plan's.",
    )
    monthly_quota = models.PositiveBigIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Messages and requests a UTC month, of all keys of its rotations; "
        "none: the plan's.",
    )
    owner = models.CharField(
        max_length=120, blank=True, help_text="Whom to ask about it: a person, a team."
    )
    note = models.CharField(max_length=500, blank=True)
    first_key = models.ForeignKey(
        "self",
        null=True,
        blank=True,
        editable=False,
        on_delete=models.PROTECT,
        related_name="successors",
        help_text="The first key of its rotations; none: it is that itself.",
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    rotated_at = models.DateTimeField(null=True, blank=True, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    # True or NULL: what a tenant's dashboard tokens are counted under. It opens nothing itself.
    is_dashboard = models.BooleanField(null=True, default=None, editable=False)

    objects = APIKeyQuerySet.as_manager()
    _opened_as = ""

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
            models.CheckConstraint(
                condition=Q(rate_per_minute__isnull=True, rate_burst__isnull=True)
                | Q(
                    rate_per_minute__isnull=False,
                    rate_per_minute__gte=1,
                    rate_burst__isnull=False,
                    rate_burst__gte=1,
                ),
                name="api_key_rate_whole",
                violation_error_message=gettext_lazy(
                    "A rate needs both: weight a minute, and its burst."
                ),
            ),
            models.CheckConstraint(
                condition=(Q(daily_quota__isnull=True) | Q(daily_quota__gte=1))
                & (Q(monthly_quota__isnull=True) | Q(monthly_quota__gte=1)),
                name="api_key_quotas_some",
            ),
            models.CheckConstraint(
                condition=Q(daily_quota__isnull=True)
                | Q(monthly_quota__isnull=True)
                | Q(monthly_quota__gte=models.F("daily_quota")),
                name="api_key_month_not_below_day",
                violation_error_message=gettext_lazy("A month's quota cannot be below a day's."),
            ),
            models.CheckConstraint(
                condition=Q(rotated_at__isnull=True) | Q(expires_at__isnull=False),
                name="api_key_rotated_ends",
            ),
            models.UniqueConstraint(
                fields=["tenant", "is_dashboard"], name="api_key_one_dashboard"
            ),
            models.CheckConstraint(
                condition=Q(is_dashboard__isnull=True)
                | Q(is_dashboard__isnull=False, is_dashboard=True, revoked_at__isnull=False),
                name="api_key_dashboard_opens_nothing",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.prefix}… ({self.name})"

    @classmethod
    def from_db(cls, *arguments: Any, **options: Any) -> Self:
        """A row as Django makes it, with the rights it was read with: `opened_as`."""
        key = super().from_db(*arguments, **options)
        if not key.get_deferred_fields():
            key._opened_as = key.rights_now()
        return key

    def refresh_from_db(
        self, using: Any = None, fields: Any = None, from_queryset: Any = None
    ) -> None:
        """Read the row again; what was opened is what it says now."""
        super().refresh_from_db(using, fields, from_queryset)
        if fields is None:
            self._opened_as = self.rights_now()

    @property
    def opened_as(self) -> str:
        """The rights that this object was read with, as a short text; "" if it never was."""
        return self._opened_as

    def rights_now(self) -> str:
        """The rights of this object as a short text: a digest, and the end."""
        rights = [getattr(self, right) for right in KEY_RIGHTS if right != "expires_at"]
        digest = hashlib.sha256(json.dumps(rights).encode()).hexdigest()[:16]
        return f"{digest} {self.expires_at.isoformat() if self.expires_at else ''}"

    def clean(self) -> None:
        """Write the lists as the door compares them."""
        self.allowed_networks = _each_once(parse_network, self.allowed_networks)
        self.allowed_origins = _each_once(parse_origin, self.allowed_origins)

    @property
    def family_id(self) -> int:
        """What all keys of a chain of rotations have in common: the id of the first."""
        return self.first_key_id or self.pk


def _each_once(parse: Callable[[str], object], texts: list[str]) -> list[str]:
    try:
        return list(dict.fromkeys(str(parse(text)) for text in texts))
    except (TypeError, ValueError, AttributeError):
        return texts  # the validators have said so
