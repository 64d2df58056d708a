"""Money that came in, and what it was for. Both are append-only: a mistake is put right by a row of
the opposite sign."""

from __future__ import annotations

from typing import TypeVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Coalesce
from django.utils import timezone

from billing.append_only import AppendOnlyModel, AppendOnlyQuerySet
from billing.models.corrections import CreditNote
from billing.models.invoices import Invoice, amount_field
from tenants.models import Tenant

_Row = TypeVar("_Row", bound=models.Model)


class KeptRows(AppendOnlyQuerySet[_Row]):
    """Rows that are written once."""


def identity_of_payment() -> models.GeneratedField:
    """What tells a payment from others of its method: its id at the bank, or else its reference."""
    text = models.CharField(max_length=120)
    expression = Coalesce("external_id", "reference", output_field=text)
    return models.GeneratedField(expression=expression, output_field=text, db_persist=True)


class Payment(AppendOnlyModel):
    """An amount received. What of it is allocated to nothing yet is `payments.remainder`.

    A bank's text may be that of many transfers: then `external_id` tells them apart.
    """

    #: Whether `record_payment` found it recorded already, the very same, and booked nothing.
    was_known = False

    class Method(models.TextChoices):
        BANK_TRANSFER = "bank_transfer", "bank transfer"
        USDC = "usdc", "USDC"
        CARD = "card", "card"
        OTHER = "other", "other"

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="payments")
    amount = amount_field()
    method = models.CharField(max_length=13, choices=Method.choices)
    received_at = models.DateTimeField()
    reference = models.CharField(max_length=120, help_text="Of the bank, the chain, the provider.")
    # Without one the reference tells: NULL, because an empty text would be an id too.
    external_id = models.CharField(  # noqa: DJ001
        max_length=120, null=True, blank=True, help_text="Where one reference is of several."
    )
    identity = identity_of_payment()
    note = models.CharField(max_length=300, blank=True)
    recorded_at = models.DateTimeField(default=timezone.now)
    recorded_by = models.CharField(max_length=150, blank=True)

    objects = KeptRows["Payment"].as_manager()

    class Meta:
        ordering = ["-received_at", "-id"]
        constraints = [
            # The same transfer entered twice is one mistake.
            models.UniqueConstraint(fields=["method", "identity"], name="payment_one_identity"),
            models.CheckConstraint(
                condition=Q(external_id__isnull=True) | ~Q(external_id=""),
                name="payment_external_id_of_something",
            ),
            models.CheckConstraint(condition=Q(amount__gt=0), name="payment_of_something"),
        ]

    def __str__(self) -> str:
        return f"{self.amount} {self.method} {self.reference}"


class PaymentAllocation(AppendOnlyModel):
    """A signed amount: of a payment, to an invoice, or both.

    The rows of a payment sum to what of it is used, never beyond its amount; those of an invoice to
    what of it is settled. A chargeback below 0 is one that the bank gave back.
    """

    class Kind(models.TextChoices):
        PAYMENT = "payment", "payment → invoice"
        RELEASE = "release", "payment ← invoice"
        REFUND = "refund", "sent back"
        CHARGEBACK = "chargeback", "taken back by the bank"
        CREDIT = "credit", "credit note → invoice"
        WALLET = "wallet", "invoice → wallet"
        CARRY = "carry", "invoice → invoice"
        WRITE_OFF = "write_off", "written off"

    kind = models.CharField(max_length=13, choices=Kind.choices)
    payment = models.ForeignKey(
        Payment, on_delete=models.PROTECT, null=True, blank=True, related_name="allocations"
    )
    invoice = models.ForeignKey(
        Invoice, on_delete=models.PROTECT, null=True, blank=True, related_name="allocations"
    )
    credit_note = models.ForeignKey(
        CreditNote, on_delete=models.PROTECT, null=True, blank=True, related_name="allocations"
    )
    amount = amount_field()
    at = models.DateTimeField(default=timezone.now)
    actor = models.CharField(max_length=150, blank=True)
    reason = models.CharField(max_length=300, blank=True)

    objects = KeptRows["PaymentAllocation"].as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(condition=~Q(amount=0), name="allocation_of_something"),
            models.CheckConstraint(
                condition=Q(payment__isnull=False) | Q(invoice__isnull=False),
                name="allocation_has_an_end",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.amount}"
