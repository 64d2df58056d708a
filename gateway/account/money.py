"""What a tenant has paid, prepaid and owes, and how it can pay."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal

from billing.catalogue.wallet import wallet_balance
from billing.invoicing.parties import seller
from billing.models import (
    InvoiceStanding,
    Payment,
    PaymentAllocation,
    ProviderCustomer,
    WalletEntry,
)
from billing.payments.chosen import provider
from gateway.account.paging import DEFAULT_LIMIT, Page, page
from tenants.models import Tenant

ZERO = Decimal("0.00")
#: Movements of a wallet that are shown beside its balance.
SHOWN_ENTRIES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """`owed` on `open_count` invoices, `overdue` of it; `in_favour` is the tenant's on others, and
    the next invoice takes it. Whole cents, all of them 0 or above."""

    owed: Decimal
    overdue: Decimal
    in_favour: Decimal
    open_count: int


def balance(tenant: Tenant) -> Balance:
    """Where a tenant stands. One statement; summed here, because SQLite adds up floats."""
    rows = InvoiceStanding.objects.filter(invoice__tenant=tenant).exclude(balance=0).order_by()
    open_ones = rows.exclude(
        state__in=[InvoiceStanding.State.VOIDED, InvoiceStanding.State.WRITTEN_OFF]
    )
    owed = overdue = in_favour = ZERO
    count = 0
    for amount, is_overdue in open_ones.values_list("balance", "is_overdue"):
        if amount > 0:
            owed, count = owed + amount, count + 1
            overdue += amount if is_overdue else ZERO
        else:
            in_favour -= amount
    return Balance(owed=owed, overdue=overdue, in_favour=in_favour, open_count=count)


@dataclass(frozen=True, slots=True)
class Received:
    """A payment, and how much of it is used for which invoice."""

    payment: Payment
    used_for: tuple[tuple[str, Decimal], ...]
    unused: Decimal


def payment_page(tenant: Tenant, *, cursor: str = "", limit: int = DEFAULT_LIMIT) -> Page[Received]:
    """Payments received, the newest first. Two statements. Raises BadValue and BadCursor."""
    rows = Payment.objects.filter(tenant=tenant)
    order = ("-received_at", "-pk")
    found = page(rows, order, of="payments", tenant_id=tenant.pk, cursor=cursor, limit=limit)
    booked: dict[int, dict[str, Decimal]] = defaultdict(lambda: defaultdict(lambda: ZERO))
    allocations = PaymentAllocation.objects.filter(payment__in=[row.pk for row in found.rows])
    for payment_id, number, amount in allocations.order_by("pk").values_list(
        "payment_id", "invoice__number", "amount"
    ):
        booked[payment_id][number or ""] += amount
    return Page(
        [
            Received(
                row,
                tuple((number, used) for number, used in booked[row.pk].items() if used),
                row.amount - sum(booked[row.pk].values(), start=ZERO),
            )
            for row in found.rows
        ],
        found.next_cursor,
    )


@dataclass(frozen=True, slots=True)
class WalletShown:
    """What is prepaid, and the newest movements."""

    balance: Decimal
    entries: tuple[WalletEntry, ...]


def wallet(tenant: Tenant) -> WalletShown:
    """Two statements."""
    entries = WalletEntry.objects.filter(tenant=tenant).order_by("-pk")[:SHOWN_ENTRIES]
    return WalletShown(wallet_balance(tenant), tuple(entries))


@dataclass(frozen=True, slots=True)
class PaymentMethod:
    """How a tenant pays: `is_automatic` by what it left with the provider (`customer`), else by
    `instructions`, line by line."""

    provider: str
    is_automatic: bool
    customer: ProviderCustomer | None
    instructions: tuple[str, ...]

    @property
    def has_method(self) -> bool:
        """Whether invoices are charged by themselves."""
        return self.customer is not None and bool(self.customer.method)


def payment_method(tenant: Tenant) -> PaymentMethod:
    """As it is set up here and by the tenant; asks nobody outside."""
    chosen = provider()
    customer = (
        ProviderCustomer.objects.filter(tenant=tenant, provider=chosen.name).first()
        if chosen.is_automatic
        else None
    )
    lines = seller().payment_instructions.splitlines()
    told = tuple(line.strip() for line in lines if line.strip())
    return PaymentMethod(chosen.name, chosen.is_automatic, customer, told)
