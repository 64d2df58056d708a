"""What corrects an invoice: adjustments on the next one, credit notes for one that is issued, and
the date before which nothing changes."""

from __future__ import annotations

from decimal import Decimal
from typing import TypeVar

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from billing.append_only import AppendOnlyModel, AppendOnlyQuerySet
from billing.models.freezing import FreezingModel, FreezingQuerySet
from billing.models.invoices import Invoice, InvoiceLine, adds_up, amount_field
from tenants.models import Tenant

_Row = TypeVar("_Row", bound=models.Model)


class FrozenRows(FreezingQuerySet[_Row]):
    """Rows that are final once what they belong to is."""


class KeptRows(AppendOnlyQuerySet[_Row]):
    """Rows that are written once."""


class Adjustment(models.Model):
    """A charge (above 0) or a credit that goes on the tenant's next invoice, once.

    Late usage is none: it is computed from the ledger whenever an invoice is rated. `origin` names
    what it is for (a gap, a ticket), so that proposing it twice is proposing it once. `windows` are
    the times `[start, end)` that a service credit is for, as texts; it comes to 0 while others
    cover all of them, or the fee is used up.
    """

    class Source(models.TextChoices):
        SLA_GAP = "sla_gap", "gap or stale window"
        ONE_OFF = "one_off", "one-off charge"
        MANUAL = "manual", "correction by hand"

    class State(models.TextChoices):
        PROPOSED = "proposed", "proposed"
        APPROVED = "approved", "approved"
        REJECTED = "rejected", "rejected"
        BILLED = "billed", "billed"

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="adjustments")
    source = models.CharField(max_length=8, choices=Source.choices)
    # Empty texts would collide; NULLs never do.
    origin = models.CharField(max_length=80, null=True, blank=True)  # noqa: DJ001
    code = models.CharField(max_length=40)
    name = models.CharField(max_length=200, help_text="As it stands on the invoice.")
    amount = amount_field(help_text="Without tax; below 0 it is a credit.")
    is_taxable = models.BooleanField(default=True)
    original_start = models.DateTimeField(null=True, blank=True)
    original_end = models.DateTimeField(null=True, blank=True)
    windows = models.JSONField(default=list, editable=False)
    state = models.CharField(max_length=8, choices=State.choices, default=State.PROPOSED)
    reason = models.CharField(max_length=300, blank=True)
    proposed_by = models.CharField(max_length=150, blank=True)
    proposed_at = models.DateTimeField(default=timezone.now)
    decided_by = models.CharField(max_length=150, blank=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    billed_on = models.ForeignKey(
        Invoice, on_delete=models.PROTECT, null=True, blank=True, related_name="adjustments"
    )

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "origin"], name="adjustment_one_of_an_origin"
            ),
            models.CheckConstraint(
                condition=~Q(amount=0) | Q(source="sla_gap", state__in=["proposed", "rejected"]),
                name="adjustment_of_something",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["proposed", "approved", "rejected"], billed_on__isnull=True)
                | Q(state="billed", billed_on__isnull=False),
                name="adjustment_billed_on_an_invoice",
            ),
        ]
        indexes = [models.Index(fields=["tenant", "state"], name="adjustment_tenant_state")]

    def __str__(self) -> str:
        return f"{self.name}: {self.amount}"


class CreditNote(FreezingModel):
    """Takes back all or a part of a finalized invoice, under a number of its own series.

    Above a limit it waits as a draft until somebody else than `requested_by` has approved it.
    `seller`, `buyer` and `tax` are copied when it is issued: whom the invoice named, and the seller
    of that day.
    """

    class State(models.TextChoices):
        DRAFT = "draft", "waits for approval"
        ISSUED = "issued", "issued"
        REJECTED = "rejected", "rejected"

    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="credit_notes")
    state = models.CharField(max_length=8, choices=State.choices, default=State.DRAFT)
    number = models.CharField(max_length=32, null=True, blank=True, unique=True)
    reason = models.CharField(max_length=300)
    seller = models.JSONField(default=dict)
    buyer = models.JSONField(default=dict)
    tax = models.JSONField(default=dict)
    voids = models.BooleanField(default=False, help_text="The whole invoice, as if never issued.")
    subtotal = amount_field()
    tax_total = amount_field()
    total = amount_field()
    requested_by = models.CharField(max_length=150, blank=True)
    requested_at = models.DateTimeField(default=timezone.now)
    approved_by = models.CharField(max_length=150, blank=True)
    issued_at = models.DateTimeField(null=True, blank=True)
    content_sha256 = models.CharField(max_length=64, blank=True)

    objects = FrozenRows["CreditNote"].as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=["draft", "rejected"], number__isnull=True)
                | Q(state="issued", number__isnull=False, issued_at__isnull=False)
                & ~Q(content_sha256=""),
                name="credit_note_issued_whole",
            ),
            models.CheckConstraint(
                condition=adds_up("total", "subtotal", "tax_total") & Q(total__gt=0),
                name="credit_note_adds_up",
            ),
        ]

    def __str__(self) -> str:
        return self.number or f"credit of {self.total} ({self.state})"


class CreditNoteLine(FreezingModel):
    """What is taken back of one line: of what the customer paid for it after discounts (`amount`),
    and of its tax. Above 0 but where the line was a credit itself."""

    credit_note = models.ForeignKey(CreditNote, on_delete=models.CASCADE, related_name="lines")
    line = models.ForeignKey(InvoiceLine, on_delete=models.PROTECT, related_name="credited")
    name = models.CharField(max_length=200)
    amount = amount_field()
    tax_percent = models.DecimalField(max_digits=7, decimal_places=4, default=Decimal(0))
    tax = amount_field()

    objects = FrozenRows["CreditNoteLine"].as_manager()
    thaws_with = "credit_note"

    class Meta:
        ordering = ["credit_note", "id"]
        constraints = [
            models.UniqueConstraint(fields=["credit_note", "line"], name="credit_note_line_once")
        ]

    def __str__(self) -> str:
        return f"{self.name}: {self.amount}"


class InvoiceReplacement(models.Model):
    """`invoice` says again what `replaces` said, which is void: of the same period and the same
    usage. One invoice is replaced by one; the row goes with a draft that is discarded."""

    invoice = models.OneToOneField(
        Invoice, on_delete=models.CASCADE, primary_key=True, related_name="replacement_of"
    )
    replaces = models.OneToOneField(Invoice, on_delete=models.PROTECT, related_name="replaced_by")

    class Meta:
        ordering = ["invoice"]
        constraints = [
            models.CheckConstraint(
                condition=~Q(invoice=F("replaces")), name="invoice_replaces_another"
            )
        ]

    def __str__(self) -> str:
        return f"{self.invoice_id} for {self.replaces_id}"


class PeriodLock(AppendOnlyModel):
    """From now on nothing is booked before `until`: no invoice, no credit, no payment. The latest
    row counts, and a lock never moves back."""

    until = models.DateTimeField()
    at = models.DateTimeField(default=timezone.now)
    actor = models.CharField(max_length=150, blank=True)
    reason = models.CharField(max_length=300, blank=True)

    objects = KeptRows["PeriodLock"].as_manager()

    class Meta:
        ordering = ["-until"]

    def __str__(self) -> str:
        return f"until {self.until:%Y-%m-%d}"
