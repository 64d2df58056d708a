"""Invoices: what is frozen once they are finalized, and what goes on around them.

A finalized invoice, its lines and its documents never change; a trigger refuses it (migration
0006). What happens to it afterwards is an event, and `InvoiceStanding` is the sum of these, which
can be made again at any time.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, TypeVar

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from billing.append_only import AppendOnlyModel, AppendOnlyQuerySet
from billing.models.freezing import FreezingModel, FreezingQuerySet
from billing.models.mailed import PartlyMailed
from tenants.models import Tenant

_Row = TypeVar("_Row", bound=models.Model)
ZERO = Decimal("0.00")


def amount_field(**options: Any) -> models.DecimalField:
    """US dollars in whole cents."""
    return models.DecimalField(max_digits=20, decimal_places=2, default=ZERO, **options)


def adds_up(total: str, one: str, other: str) -> Q:
    """`total` is the sum of two amounts. To half a cent, because SQLite keeps them as floats."""
    least, most = (F(one) + F(other) + Decimal(half) for half in ("-0.005", "0.005"))
    return Q(**{f"{total}__gt": least, f"{total}__lt": most})


class FrozenRows(FreezingQuerySet[_Row]):
    """Rows that are final once what they belong to is."""


class KeptRows(AppendOnlyQuerySet[_Row]):
    """Rows that are written once."""


class NumberSeries(models.Model):
    """The last number given in a series and year. Its row is locked until the transaction that took
    a number ends, so a number exists only on a document."""

    prefix = models.CharField(max_length=12)
    year = models.PositiveSmallIntegerField()
    last = models.PositiveIntegerField(default=0)

    class Meta:
        verbose_name_plural = "number series"
        ordering = ["prefix", "-year"]
        constraints = [
            models.UniqueConstraint(fields=["prefix", "year"], name="number_series_once")
        ]

    def __str__(self) -> str:
        return f"{self.prefix}-{self.year}: {self.last}"


class InvoiceCursor(models.Model):
    """How far a tenant is invoiced. Its row is the lock of whatever drafts or finalizes for the
    tenant, and taken before the usage account's.

    All ledger entries up to `position` whose hour is before `usage_until` are billed, each once;
    regular invoices are final up to `finalized_until`; periods that end by `closed_until` have a
    draft or more. Of its kind there are `kind_changes` rows of `KindChange`.
    """

    tenant = models.OneToOneField(Tenant, on_delete=models.PROTECT, primary_key=True)
    closed_until = models.DateTimeField(null=True, blank=True)
    finalized_until = models.DateTimeField(null=True, blank=True)
    usage_until = models.DateTimeField(null=True, blank=True)
    position = models.BigIntegerField(default=0)
    kind_changes = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["tenant"]

    def __str__(self) -> str:
        return f"{self.tenant_id} until {self.finalized_until}"


class InvoiceQuerySet(FreezingQuerySet["Invoice"]):
    """Invoices, by tenant and state."""

    def for_tenant(self, tenant: Tenant | int) -> InvoiceQuerySet:
        """Those of one tenant."""
        return self.filter(tenant=tenant)

    def finalized(self) -> InvoiceQuerySet:
        """Those with a number."""
        return self.filter(state=Invoice.State.FINALIZED)


class Invoice(FreezingModel):
    """An invoice of the half-open period `[period_start, period_end)`.

    Its usage is that of the hours `[usage_from, usage_until)`: the last hour of a period that ends
    within one belongs to it. `seller` and `buyer` are copies. `due` is `total` less what was
    `prepaid`, and `carried` what of `due` was settled as it was finalized: by invoices in the
    tenant's favour or, below 0, of open ones by this one. `ledger_position` is the place in the
    tenant's usage account up to which it was rated.
    """

    class Kind(models.TextChoices):
        REGULAR = "regular", "regular"
        ONE_OFF = "one_off", "one-off"

    class State(models.TextChoices):
        DRAFT = "draft", "draft"
        FINALIZED = "finalized", "finalized"

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="invoices")
    kind = models.CharField(max_length=8, choices=Kind.choices, default=Kind.REGULAR)
    sequence = models.PositiveIntegerField(default=1)
    state = models.CharField(max_length=9, choices=State.choices, default=State.DRAFT)
    period_start = models.DateTimeField()
    period_end = models.DateTimeField()
    full_end = models.DateTimeField(help_text="Where the full interval would have ended.")
    interval_unit = models.CharField(max_length=8, blank=True)
    interval_every = models.PositiveIntegerField(default=1)
    is_first_period = models.BooleanField(default=False)
    usage_from = models.DateTimeField(
        null=True, blank=True, help_text="The first hour whose usage is of this period."
    )
    usage_until = models.DateTimeField(null=True, blank=True, help_text="Up to before this hour.")
    number = models.CharField(max_length=32, null=True, blank=True, unique=True)
    currency = models.CharField(max_length=3, default="USD")
    seller = models.JSONField(default=dict)
    buyer = models.JSONField(default=dict)
    tax = models.JSONField(default=dict)
    segments = models.JSONField(default=list)
    unmetered = models.JSONField(default=list, help_text="Usage that nothing charges for.")
    subtotal = amount_field()
    tax_total = amount_field()
    total = amount_field()
    prepaid = amount_field()
    due = amount_field()
    carried = amount_field()
    ledger_position = models.BigIntegerField(default=0)
    previous_position = models.BigIntegerField(default=0)
    drafted_at = models.DateTimeField(default=timezone.now)
    finalized_at = models.DateTimeField(null=True, blank=True)
    due_at = models.DateTimeField(null=True, blank=True)
    content_sha256 = models.CharField(max_length=64, blank=True)

    objects = InvoiceQuerySet.as_manager()

    class Meta:
        ordering = ["-period_start", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "period_start", "kind", "sequence"], name="invoice_once_a_period"
            ),
            models.CheckConstraint(
                condition=Q(kind__in=["regular", "one_off"]), name="invoice_kind_known"
            ),
            models.CheckConstraint(
                condition=Q(
                    state="draft",
                    number__isnull=True,
                    finalized_at__isnull=True,
                    due_at__isnull=True,
                    content_sha256="",
                )
                | Q(
                    state="finalized",
                    number__isnull=False,
                    finalized_at__isnull=False,
                    due_at__isnull=False,
                )
                & ~Q(content_sha256=""),
                name="invoice_finalized_whole",
            ),
            models.CheckConstraint(
                condition=adds_up("total", "subtotal", "tax_total")
                & adds_up("total", "due", "prepaid")
                & Q(prepaid__gte=0),
                name="invoice_adds_up",
            ),
            models.CheckConstraint(
                condition=Q(carried=0)
                | Q(carried__gt=0, carried__lte=F("due"))
                | Q(carried__lt=0, carried__gte=F("due")),
                name="invoice_carried_of_due",
            ),
            models.CheckConstraint(
                condition=Q(period_end__gte=F("period_start")), name="invoice_period_not_reversed"
            ),
        ]
        indexes = [
            models.Index(fields=["state", "period_end"], name="invoice_state_end"),
            models.Index(fields=["tenant", "state", "period_end"], name="invoice_tenant_state_end"),
        ]

    def __str__(self) -> str:
        return self.number or f"draft {self.period_start:%Y-%m-%d}"

    @property
    def is_finalized(self) -> bool:
        """Whether it has a number, and can no longer change."""
        return self.state == self.State.FINALIZED

    @property
    def payable(self) -> Decimal:
        """What it asks for: `due` less what was `carried`."""
        return self.due - self.carried


class InvoiceLine(FreezingModel):
    """A line. `net` is what discounts leave of `amount`, and what is taxed: the customer paid `net`
    and `tax` for it, and a discount's own `net` is 0. `sources` are the usage it was made of,
    `parts` how its amount came about;
    `[window_start, window_end)` the segment it is for, `[original_start, original_end)` the earlier
    period that late usage or a correction belongs to."""

    invoice = models.ForeignKey(Invoice, on_delete=models.CASCADE, related_name="lines")
    place = models.PositiveIntegerField()
    kind = models.CharField(max_length=16)
    code = models.CharField(max_length=40)
    name = models.CharField(max_length=200)
    reason = models.CharField(max_length=16, blank=True)
    quantity = models.DecimalField(max_digits=34, decimal_places=4)
    unit = models.CharField(max_length=16, blank=True)
    amount = amount_field()
    net = amount_field()
    tax_percent = models.DecimalField(max_digits=7, decimal_places=4, default=Decimal(0))
    tax = amount_field()
    parts = models.JSONField(default=list)
    sources = models.JSONField(default=list)
    window_start = models.DateTimeField(null=True, blank=True)
    window_end = models.DateTimeField(null=True, blank=True)
    original_start = models.DateTimeField(null=True, blank=True)
    original_end = models.DateTimeField(null=True, blank=True)

    objects = FrozenRows["InvoiceLine"].as_manager()
    thaws_with = "invoice"

    class Meta:
        ordering = ["invoice", "place"]
        constraints = [
            models.UniqueConstraint(fields=["invoice", "place"], name="invoice_line_one_place")
        ]

    def __str__(self) -> str:
        return f"{self.name}: {self.amount}"


class InvoiceEvent(AppendOnlyModel):
    """Something that happened to an invoice: who did it, when and why. An event with a `once` can
    happen once to an invoice."""

    class Kind(models.TextChoices):
        FINALIZED = "finalized", "finalized"
        SENT = "sent", "sent"
        RESENT = "resent", "sent again"
        PARTIALLY_PAID = "partially_paid", "partially paid"
        PAID = "paid", "paid"
        REOPENED = "reopened", "open again"
        CREDITED = "credited", "credited"
        CREDIT_SENT = "credit_sent", "credit note sent"
        OVERDUE = "overdue", "overdue"
        REMINDED = "reminded", "reminded"
        SUSPENDED = "suspended", "tenant suspended"
        VOIDED = "voided", "voided"
        DRAFTED_AGAIN = "drafted_again", "drafted again"
        WRITTEN_OFF = "written_off", "written off"

    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="events")
    kind = models.CharField(max_length=16, choices=Kind.choices)
    at = models.DateTimeField(default=timezone.now)
    actor = models.CharField(max_length=150, blank=True, help_text="Empty: the relay itself.")
    reason = models.CharField(max_length=300, blank=True)
    # Empty texts would collide; NULLs never do.
    once = models.CharField(max_length=32, null=True, blank=True)  # noqa: DJ001

    objects = KeptRows["InvoiceEvent"].as_manager()

    class Meta:
        ordering = ["invoice", "id"]
        constraints = [
            models.UniqueConstraint(fields=["invoice", "once"], name="invoice_event_once")
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.at:%Y-%m-%d %H:%M}"


class InvoiceStanding(PartlyMailed):
    """Where a finalized invoice stands: the sum of its allocations and events, beside it because it
    itself cannot change. `balance` is what is still to pay; below 0 it is in the tenant's favour.

    Each time that what was settled is open again is a round of dunning of its own, which begins at
    `reopened_at` with the first step.
    """

    class State(models.TextChoices):
        OPEN = "open", "open"
        PARTIALLY_PAID = "partially_paid", "partially paid"
        PAID = "paid", "paid"
        IN_FAVOUR = "in_favour", "in the customer's favour"
        VOIDED = "voided", "void"
        WRITTEN_OFF = "written_off", "written off"

    invoice = models.OneToOneField(
        Invoice, on_delete=models.PROTECT, primary_key=True, related_name="standing"
    )
    state = models.CharField(max_length=14, choices=State.choices, default=State.OPEN)
    balance = amount_field()
    due_at = models.DateTimeField()
    is_overdue = models.BooleanField(default=False)
    dunning_step = models.PositiveSmallIntegerField(
        default=0, validators=[MinValueValidator(0)], help_text="Steps of the schedule taken."
    )
    dunning_round = models.PositiveSmallIntegerField(
        default=0, help_text="How often it was open again."
    )
    reopened_at = models.DateTimeField(null=True, blank=True)
    sent_at = models.DateTimeField(null=True, blank=True)
    sending_since = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-due_at"]
        indexes = [
            models.Index(fields=["state", "due_at"], name="invoice_standing_state_due"),
            models.Index(fields=["is_overdue", "due_at"], name="invoice_standing_overdue"),
        ]

    def __str__(self) -> str:
        return f"{self.state}, {self.balance}"
