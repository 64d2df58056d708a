"""A tenant's receipts, which it can check without us (docs/receipts.md), and the end of its
chain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Max, Min
from django.utils.translation import gettext as _

from billing.metering.receipts import parse_month, receipt_lines
from billing.models import LedgerSeal
from gateway.account.errors import BadValue
from tenants.models import Tenant


@dataclass(frozen=True, slots=True)
class ChainHead:
    """The newest seal of a tenant's chain; `months` there are receipts of."""

    number: int
    sealed_until: datetime
    sha256: str
    months: tuple[str, ...]


def chain_head(tenant: Tenant) -> ChainHead | None:
    """The end of a tenant's chain; None before its first seal. Two statements."""
    seals = LedgerSeal.objects.for_tenant(tenant)
    last = seals.order_by("-number").first()
    if last is None:
        return None
    hours = seals.aggregate(first=Min("first_hour"), last=Max("last_hour"))
    return ChainHead(last.number, last.hour, last.sha256, _months(hours["first"], hours["last"]))


def receipt_file(tenant: Tenant, month: str) -> Iterator[bytes]:
    """The receipts of a month (`2026-11`), a JSON line at a time. Raises BadValue at once."""
    try:
        day = parse_month(month)
    except ValueError:
        raise BadValue(
            _("month: %(month)r is no month like 2026-11.") % {"month": month[:20]}
        ) from None
    return (line.encode() + b"\n" for line in receipt_lines(tenant_id=tenant.pk, month=day))


def _months(first: datetime, last: datetime) -> tuple[str, ...]:
    begin, end = (12 * at.year + at.month - 1 for at in (first, last))
    return tuple(f"{n // 12}-{n % 12 + 1:02d}" for n in range(end, begin - 1, -1))
