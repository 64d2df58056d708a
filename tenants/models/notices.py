"""What a tenant is told, where it wants to hear it, and what became of each delivery."""

from __future__ import annotations

import uuid

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from tenants.models.admission import Tenant
from tenants.notices.kinds import MAX_DEDUPE_CHARS, SUBSCRIBABLE
from tenants.notices.signature import FINGERPRINT_CHARS
from tenants.wire.targets import MAX_URL_CHARS

#: Of an error or an answer: one line for a person.
SHORT_CHARS = 200


class Notice(models.Model):
    """A fact that a tenant is told once, written in the transaction that makes it one."""

    uid = models.UUIDField("id", default=uuid.uuid4, unique=True, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="notices")
    kind = models.CharField(max_length=40)
    payload = models.JSONField(default=dict)
    dedupe = models.CharField(max_length=MAX_DEDUPE_CHARS, help_text="The fact, once a tenant.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["-created_at", "-pk"]
        indexes = [models.Index(fields=["tenant", "created_at"], name="notice_of_tenant")]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "dedupe"], name="notice_told_once")
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.dedupe}"


def validate_kinds(kinds: object) -> None:
    """Raises ValidationError unless `kinds` is a list of kinds of notices, each once."""
    if not isinstance(kinds, list):
        raise ValidationError(_("A list of kinds is needed."))
    if unknown := [kind for kind in kinds if kind not in SUBSCRIBABLE]:
        raise ValidationError(
            _("Unknown kind %(kind)r; known are %(known)s.")
            % {"kind": unknown[0], "known": ", ".join(SUBSCRIBABLE)}
        )
    if len(set(kinds)) != len(kinds):
        raise ValidationError(_("A kind is named twice."))


class WebhookEndpoint(models.Model):
    """A URL of a tenant's that is told. Its secret is derived and not here (`signature.py`)."""

    uid = models.UUIDField("id", default=uuid.uuid4, unique=True, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="webhook_endpoints")
    url = models.CharField("URL", max_length=MAX_URL_CHARS)
    kinds = models.JSONField(
        default=list,
        blank=True,
        validators=[validate_kinds],
        help_text="What it is told; none: everything.",
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    disabled_at = models.DateTimeField(null=True, blank=True, editable=False)
    disabled_reason = models.CharField(max_length=SHORT_CHARS, blank=True, editable=False)
    # The secret's rotations, and what tells whether SECRET_KEY still gives the one that was shown.
    generation = models.PositiveIntegerField(default=1, editable=False)
    fingerprint = models.CharField(
        "fingerprint of the secret", max_length=FINGERPRINT_CHARS, editable=False
    )
    previous_fingerprint = models.CharField(
        max_length=FINGERPRINT_CHARS, blank=True, editable=False
    )
    previous_until = models.DateTimeField(
        "old secret signs until", null=True, blank=True, editable=False
    )
    # Failures since the last success.
    failures = models.PositiveIntegerField(default=0, editable=False)
    failing_since = models.DateTimeField(null=True, blank=True, editable=False)
    retry_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name = "webhook endpoint"
        ordering = ["-created_at", "-pk"]
        constraints = [
            models.CheckConstraint(
                condition=Q(disabled_at__isnull=True, disabled_reason="")
                | (Q(disabled_at__isnull=False) & ~Q(disabled_reason="")),
                name="webhook_disabled_with_reason",
            ),
            models.CheckConstraint(
                condition=Q(failures=0, failing_since__isnull=True, retry_at__isnull=True)
                | Q(failures__gte=1, failing_since__isnull=False),
                name="webhook_failing_since_some_time",
            ),
            models.CheckConstraint(
                condition=Q(previous_until__isnull=True, previous_fingerprint="")
                | (Q(previous_until__isnull=False) & ~Q(previous_fingerprint="")),
                name="webhook_previous_secret_whole",
            ),
        ]

    def __str__(self) -> str:
        return self.url

    @property
    def is_enabled(self) -> bool:
        """Whether it is told anything."""
        return self.disabled_at is None

    def wants(self, kind: str) -> bool:
        """Whether it asked for this kind."""
        return not self.kinds or kind in self.kinds


class Delivery(models.Model):
    """A notice on its way to one endpoint or one mail address.

    Claiming it moves `next_attempt_at` to where another worker may try, should this one die.
    """

    class State(models.TextChoices):
        PENDING = "pending", "pending"
        DELIVERED = "delivered", "delivered"
        FAILED = "failed", "failed"  # all its attempts
        ABANDONED = "abandoned", "abandoned"  # there is nobody to deliver to any more

    uid = models.UUIDField("id", default=uuid.uuid4, unique=True, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="deliveries")
    notice = models.ForeignKey(Notice, on_delete=models.PROTECT, related_name="deliveries")
    endpoint = models.ForeignKey(
        WebhookEndpoint,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="deliveries",
    )
    # NULL and not empty for a webhook, so that the unique constraint lets it pass.
    address = models.EmailField(null=True, blank=True)  # noqa: DJ001
    state = models.CharField(max_length=10, choices=State.choices, default=State.PENDING)
    attempts = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True, blank=True, default=timezone.now)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    delivered_at = models.DateTimeField(null=True, blank=True)
    # Of the last attempt.
    last_attempt_at = models.DateTimeField(null=True, blank=True)
    last_status = models.PositiveIntegerField("last HTTP status", null=True, blank=True)
    last_error = models.CharField(max_length=SHORT_CHARS, blank=True)
    last_latency_ms = models.PositiveIntegerField("last latency, ms", null=True, blank=True)

    class Meta:
        verbose_name_plural = "deliveries"
        ordering = ["-created_at", "-pk"]
        indexes = [
            models.Index(fields=["state", "next_attempt_at"], name="delivery_due"),
            models.Index(
                fields=["endpoint", "state", "next_attempt_at"], name="delivery_due_endpoint"
            ),
            models.Index(fields=["tenant", "created_at"], name="delivery_of_tenant"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["notice", "endpoint"], name="delivery_once_endpoint"),
            models.UniqueConstraint(fields=["notice", "address"], name="delivery_once_address"),
            models.CheckConstraint(
                condition=Q(endpoint__isnull=False, address__isnull=True)
                | (Q(endpoint__isnull=True, address__isnull=False) & ~Q(address="")),
                name="delivery_one_target",
            ),
            models.CheckConstraint(
                condition=Q(state="pending", next_attempt_at__isnull=False)
                | Q(state__in=["delivered", "failed", "abandoned"], next_attempt_at__isnull=True),
                name="delivery_pending_has_next",
            ),
            models.CheckConstraint(
                condition=~Q(state="delivered") | Q(delivered_at__isnull=False),
                name="delivery_delivered_when",
            ),
        ]

    def __str__(self) -> str:
        return str(self.uid)

    @property
    def target(self) -> str:
        """Where it goes."""
        return self.address or str(self.endpoint)


class DeliveryAttempt(models.Model):
    """The log: a row for each attempt that came to an end. Added, then forgotten by age, never
    changed."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="+")
    delivery = models.ForeignKey(Delivery, on_delete=models.PROTECT, related_name="log")
    number = models.PositiveIntegerField(help_text="1 for the delivery's first.")
    ended_at = models.DateTimeField(default=timezone.now)
    is_success = models.BooleanField()
    http_status = models.PositiveIntegerField("HTTP status", null=True, blank=True)
    error = models.CharField(max_length=SHORT_CHARS, blank=True)
    excerpt = models.CharField("answer", max_length=SHORT_CHARS, blank=True)
    latency_ms = models.PositiveIntegerField("latency, ms", null=True, blank=True)

    class Meta:
        verbose_name = "delivery attempt"
        ordering = ["-ended_at", "-pk"]
        indexes = [models.Index(fields=["ended_at"], name="delivery_attempt_age")]

    def __str__(self) -> str:
        return f"attempt {self.number}"

    def save(self, *arguments: object, **options: object) -> None:
        """Raises TypeError for a row that is there already."""
        if not self._state.adding:
            raise TypeError("delivery attempts are append-only: no update")
        super().save(force_insert=True)
