"""Prepaid money. Each movement is an entry, written under the locks of the tenant's row and the
wallet's; a wallet never holds less than nothing."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from django.core.exceptions import ValidationError
from django.db import transaction

from billing.catalogue.written import locked_tenant
from billing.models import Wallet, WalletEntry
from billing.rating.money import AMOUNT_LIMIT, CENT, ZERO
from tenants.models import Tenant

Kind = WalletEntry.Kind
#: Which way the money of a kind goes; the others may go either.
_SIGNS = {Kind.TOP_UP: 1, Kind.SPEND: -1, Kind.EXPIRY: -1}


def wallet_balance(tenant: Tenant | int) -> Decimal:
    """What a tenant has prepaid, in whole cents."""
    pk = tenant if isinstance(tenant, int) else tenant.pk
    found = Wallet.objects.filter(pk=pk).values_list("balance", flat=True).first()
    return (ZERO if found is None else found).quantize(CENT)


def prepaid_among(tenants: Iterable[int]) -> set[int]:
    """Those of these tenants, by id, who have prepaid something."""
    rows = Wallet.objects.filter(pk__in=tenants, balance__gt=0).order_by()
    return set(rows.values_list("pk", flat=True))


@transaction.atomic
def enter(
    tenant: Tenant, *, amount: Decimal, kind: str, reference: str = "", by: str = ""
) -> WalletEntry:
    """Put money in (above 0) or take it out. Raises ValidationError for an amount that is not in
    whole cents, of the wrong sign for its kind, or more than there is."""
    kind = Kind(kind)
    if not amount.is_finite() or abs(amount) >= AMOUNT_LIMIT or amount != round(amount, 2):
        raise ValidationError(f"amount: {amount} is not an amount in whole cents below 10^18.")
    sign = _SIGNS.get(kind, 0)
    if amount == 0 or amount * sign < 0:
        way = {1: "above 0", -1: "below 0", 0: "other than 0"}[sign]
        raise ValidationError(f"amount: {kind.label} is an amount {way}, not {amount}.")
    wallet = _locked(tenant)
    balance = wallet.balance + amount
    if balance < 0:
        raise ValidationError(f"amount: the wallet holds {wallet.balance} USD, not {-amount}.")
    if balance >= AMOUNT_LIMIT:
        raise ValidationError("amount: a wallet holds less than 10^18 USD.")
    wallet.balance = balance
    wallet.save(update_fields=["balance"])
    return WalletEntry.objects.create(
        tenant=tenant,
        amount=amount,
        kind=kind,
        reference=reference[:100],
        balance=balance,
        created_by=by[:150],
    )


def spend_up_to(tenant: Tenant, amount: Decimal, *, reference: str, by: str = "") -> Decimal:
    """Take as much of `amount` as there is; answers how much that was. What an invoice does."""
    with transaction.atomic():
        wallet = _locked(tenant)
        taken = min(amount, wallet.balance)
        if taken > 0:
            enter(tenant, amount=-taken, kind=Kind.SPEND, reference=reference, by=by)
        return max(taken, ZERO)


def _locked(tenant: Tenant) -> Wallet:
    # The tenant's row first: an entry names it, and so needs it, while the wallet is held.
    locked = locked_tenant(tenant)
    Wallet.objects.get_or_create(tenant=locked)
    return Wallet.objects.select_for_update().get(tenant=locked)
