"""Money given away by operators, whatever the way: a second person looks at the sum."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from billing.models.invoices import Invoice, amount_field
from billing.models.payments import Payment
from tenants.models import Tenant


class Concession(models.Model):
    """`amount` that an operator gave to a tenant, or asked to give and a second person approves.

    What was given alone has no `decided_by`. A write-off, an entry of a wallet or a refund that
    waits is booked, over the `whole` of it, when it is approved; credit notes and adjustments wait
    as such, and are here once they are given.
    """

    class Kind(models.TextChoices):
        CREDIT = "credit", "credit note"
        ADJUSTMENT = "adjustment", "adjustment"
        WRITE_OFF = "write_off", "write-off"
        WALLET = "wallet", "prepaid credit"
        REFUND = "refund", "refund"
        PROVIDER_REFUND = "provider_refund", "refund by the provider"

    class State(models.TextChoices):
        WAITING = "waiting", "waits for approval"
        GIVEN = "given", "given"
        REJECTED = "rejected", "rejected"

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="concessions")
    kind = models.CharField(max_length=16, choices=Kind.choices)
    amount = amount_field(help_text="What is given away.")
    whole = amount_field(help_text="What is booked; of a refund, also what was overpaid.")
    invoice = models.ForeignKey(
        Invoice, on_delete=models.PROTECT, null=True, blank=True, related_name="concessions"
    )
    payment = models.ForeignKey(
        Payment, on_delete=models.PROTECT, null=True, blank=True, related_name="concessions"
    )
    subject = models.CharField(max_length=80, blank=True, help_text="Of a wallet: kind of entry.")
    reason = models.CharField(max_length=300, blank=True)
    state = models.CharField(max_length=8, choices=State.choices, default=State.WAITING)
    requested_by = models.CharField(max_length=150, blank=True)
    requested_at = models.DateTimeField(default=timezone.now)
    decided_by = models.CharField(max_length=150, blank=True)
    decided_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(amount__gt=0, whole__gte=F("amount")), name="concession_of_something"
            ),
            models.CheckConstraint(
                condition=Q(state="waiting", decided_at__isnull=True, decided_by="")
                | Q(state__in=["given", "rejected"], decided_at__isnull=False),
                name="concession_decided_whole",
            ),
            models.CheckConstraint(
                condition=~Q(state="given") | Q(decided_by="") | ~Q(decided_by=F("requested_by")),
                name="concession_second_person",
            ),
        ]
        indexes = [
            models.Index(
                fields=["tenant", "requested_by", "decided_at"], name="concession_tenant_operator"
            ),
            models.Index(fields=["state"], name="concession_state"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} of {self.amount} to {self.tenant} ({self.state})"
