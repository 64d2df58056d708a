"""Locks: of a tenant's invoicing, of its usage account, and of the books before a date.

One order for all: the tenant's cursor; its usage account; invoice, standings by number, charge
attempt, payment; the tenant's row and its wallet; the number series, which all tenants share, last.
Whatever moves money of a tenant takes the cursor first, so what follows is never waited for by
another that holds some of it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from billing.invoicing.errors import InvoicingError, LockedError
from billing.models import Account, InvoiceCursor, PeriodLock


def lock_cursor(tenant_id: int) -> InvoiceCursor:
    """The tenant's cursor, locked until the transaction ends: whatever invoices, or moves money,
    takes it first."""
    return _locked(InvoiceCursor, tenant_id, {})


def lock_account(tenant_id: int) -> Account:
    """The tenant's usage account, locked: nothing is posted until the transaction ends, so rollups
    are the sum of the entries up to its last position."""
    # Opened where there is none: else a first entry could be posted between two of our reads.
    return _locked(Account, tenant_id, {"tenant_id": tenant_id, "last_position": 0})


def _locked(model: Any, key: int, defaults: dict[str, Any]) -> Any:
    # Without an order: by that of the model the tenant would be joined, and locked too.
    rows = model.objects.select_for_update().order_by()
    row = next(iter(rows.filter(pk=key)), None)
    if row is None:
        try:
            with transaction.atomic():
                model.objects.create(pk=key, **defaults)
        except IntegrityError:
            pass  # somebody else was first
        row = rows.get(pk=key)
    return row


def refuse_lock(until: datetime) -> None:
    """Raises InvoicingError for a lock in the future, or not after the one in force."""
    if until > timezone.now():
        raise InvoicingError(f"{until:%Y-%m-%d %H:%M} is in the future: lock what is over")
    latest = locked_until()
    if latest is not None and until <= latest:
        raise InvoicingError(
            f"the books are locked until {latest:%Y-%m-%d}: a lock never moves back"
        )


def lock_period(until: datetime, *, by: str, reason: str) -> PeriodLock:
    """Book nothing before `until` any more. Raises InvoicingError as `refuse_lock` does."""
    refuse_lock(until)
    return PeriodLock.objects.create(until=until, actor=by, reason=reason)


def locked_until() -> datetime | None:
    """Before which nothing may be booked; None: no lock."""
    return PeriodLock.objects.order_by("-until").values_list("until", flat=True).first()


def refuse_locked(at: datetime, what: str) -> None:
    """Raises LockedError when `at` lies in a locked period."""
    until = locked_until()
    if until is not None and at < until:
        raise LockedError(
            f"{what} of {at:%Y-%m-%d} is before {until:%Y-%m-%d}, until when the books are locked: "
            "book it today and name the date in its note"
        )
