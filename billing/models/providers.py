"""What a payment provider was asked and what it told: customers, attempts to charge them, money
that went back, webhooks."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import Q
from django.utils import timezone

from billing.models.invoices import Invoice, amount_field
from billing.models.payments import Payment
from tenants.models import Tenant


def reference_field(**options: Any) -> models.CharField:
    """A name that the provider gave."""
    return models.CharField(max_length=120, **options)


class ProviderCustomer(models.Model):
    """A tenant as the provider knows it. `method` is what it pays with by default; empty: it left
    nothing there, or took it back."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="provider_customers")
    provider = models.CharField(max_length=20)
    reference = reference_field()
    method = reference_field(blank=True)
    method_since = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["tenant", "provider"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "provider"], name="provider_customer_once_a_tenant"
            ),
            models.UniqueConstraint(
                fields=["provider", "reference"], name="provider_customer_one_reference"
            ),
            models.CheckConstraint(
                condition=Q(method="", method_since__isnull=True)
                | (~Q(method="") & Q(method_since__isnull=False)),
                name="provider_customer_method_since",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.provider} {self.reference}"


class ChargeAttempt(models.Model):
    """One attempt to charge an invoice, under one idempotency key for good. An invoice has one that
    is open at most, so that a second is not begun before the first is known to have failed."""

    class State(models.TextChoices):
        SCHEDULED = "scheduled", "scheduled"
        UNKNOWN = "unknown", "asked, outcome unknown"
        PENDING = "pending", "under way at the provider"
        HELD = "held", "waits for an operator"
        SUCCEEDED = "succeeded", "succeeded"
        FAILED = "failed", "failed"
        REQUIRES_ACTION = "requires_action", "the customer has to act"
        CANCELLED = "cancelled", "not needed any more"

    OPEN = (State.SCHEDULED, State.UNKNOWN, State.PENDING, State.HELD)

    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="charge_attempts")
    number = models.PositiveSmallIntegerField(help_text="1, 2, 3 … of the invoice.")
    provider = models.CharField(max_length=20)
    amount = amount_field()
    currency = models.CharField(max_length=3, default="USD")
    customer = reference_field()
    method = reference_field(blank=True)
    idempotency_key = models.CharField(max_length=64, unique=True)
    state = models.CharField(max_length=16, choices=State.choices, default=State.SCHEDULED)
    # True or NULL, because MySQL has no conditional unique constraints.
    is_open = models.BooleanField(null=True, default=True, editable=False)
    # NULLs never collide, and empty texts would.
    reference = reference_field(null=True, blank=True)
    failure_code = models.CharField(max_length=60, blank=True)
    failure = models.CharField(max_length=200, blank=True)
    attempts = models.PositiveIntegerField(default=0, help_text="How often it was asked about.")
    first_at = models.DateTimeField(null=True, blank=True, help_text="Of the first request.")
    next_at = models.DateTimeField(null=True, blank=True)
    payment = models.OneToOneField(
        Payment, on_delete=models.PROTECT, null=True, blank=True, related_name="charge_attempt"
    )
    created_at = models.DateTimeField(default=timezone.now)
    requested_by = models.CharField(max_length=150, blank=True, help_text="Empty: the relay.")

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["invoice", "number"], name="charge_attempt_one_number"),
            models.UniqueConstraint(fields=["invoice", "is_open"], name="charge_attempt_one_open"),
            models.UniqueConstraint(
                fields=["provider", "reference"], name="charge_attempt_one_reference"
            ),
            models.CheckConstraint(condition=Q(amount__gt=0), name="charge_attempt_of_something"),
            models.CheckConstraint(
                condition=Q(
                    state__in=["scheduled", "unknown", "pending", "held"],
                    is_open__isnull=False,
                    is_open=True,
                )
                | Q(
                    state__in=["succeeded", "failed", "requires_action", "cancelled"],
                    is_open__isnull=True,
                    next_at__isnull=True,
                ),
                name="charge_attempt_open_or_over",
            ),
            models.CheckConstraint(
                condition=(Q(state="succeeded") & Q(payment__isnull=False))
                | (~Q(state="succeeded") & Q(payment__isnull=True)),
                name="charge_attempt_paid_when_succeeded",
            ),
        ]
        indexes = [models.Index(fields=["next_at"], name="charge_attempt_next")]

    def __str__(self) -> str:
        return f"{self.invoice} #{self.number}"


class ProviderReturn(models.Model):
    """Money of a charge that went back: a refund of ours or from the provider's own pages, or a
    dispute. Booked once, and once more the other way round when it came back after all."""

    class Kind(models.TextChoices):
        REFUND = "refund", "refund"
        DISPUTE = "dispute", "dispute"

    class State(models.TextChoices):
        ASKED = "asked", "asked for, outcome unknown"
        PENDING = "pending", "under way at the provider"
        RETURNED = "returned", "went back"
        UNDONE = "undone", "came back, or never went"
        REFUSED = "refused", "refused"

    attempt = models.ForeignKey(ChargeAttempt, on_delete=models.PROTECT, related_name="returns")
    provider = models.CharField(max_length=20)
    kind = models.CharField(max_length=7, choices=Kind.choices)
    reference = reference_field(null=True, blank=True)
    idempotency_key = models.CharField(max_length=64, null=True, blank=True, unique=True)
    amount = amount_field()
    state = models.CharField(max_length=8, choices=State.choices)
    booked_at = models.DateTimeField(null=True, blank=True)
    undone_at = models.DateTimeField(null=True, blank=True)
    error = models.CharField(max_length=200, blank=True, help_text="Why it is not booked.")
    created_at = models.DateTimeField(default=timezone.now)
    requested_by = models.CharField(max_length=150, blank=True, help_text="Empty: the provider.")

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["provider", "reference"], name="provider_return_one_reference"
            ),
            models.CheckConstraint(condition=Q(amount__gt=0), name="provider_return_of_something"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.reference or self.idempotency_key}"


class ProviderEvent(models.Model):
    """A webhook that was received: kept before anything is done about it, and by its id, so that it
    counts once. Not its body, which names people; its hash tells two apart."""

    provider = models.CharField(max_length=20)
    event_id = models.CharField(max_length=120)
    kind = models.CharField(max_length=80)
    subject = models.CharField(max_length=8, blank=True)
    reference = reference_field(blank=True)
    payload_sha256 = models.CharField(max_length=64)
    happened_at = models.DateTimeField(null=True, blank=True)
    received_at = models.DateTimeField(default=timezone.now)
    processed_at = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveIntegerField(default=0)
    next_at = models.DateTimeField(null=True, blank=True)
    error = models.CharField(max_length=200, blank=True, help_text="What an operator should see.")

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["provider", "event_id"], name="provider_event_once")
        ]
        indexes = [models.Index(fields=["next_at"], name="provider_event_next")]

    def __str__(self) -> str:
        return f"{self.kind} {self.event_id}"
