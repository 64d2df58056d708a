"""What tenants used and are charged for, as admission asks for it where Redis has forgotten."""

from __future__ import annotations

from datetime import datetime

from django.db import close_old_connections
from django.db.models import Sum

from billing.free import ALWAYS_FREE
from billing.models import UsageRollup
from tenants.admission.allowances import Used
from tenants.models import APIKey


def load_used(tenant_id: int, start: datetime, end: datetime) -> list[Used]:
    """`read_used` in a thread that may have slept through its connection's death."""
    close_old_connections()
    try:
        return read_used(tenant_id, start, end)
    finally:
        close_old_connections()


def read_used(tenant_id: int, start: datetime, end: datetime) -> list[Used]:
    """Units by key family, metric and channel in the hours that begin in `[start, end)`; what is
    always free uses up nothing. A family may have several rows of a kind, one of each key."""
    rows = (
        UsageRollup.objects.for_tenant(tenant_id)
        .filter(hour__gte=start, hour__lt=end)
        .exclude(zero_rated__in=ALWAYS_FREE)
        .values_list("key_id", "metric", "channel")
        .annotate(total=Sum("units"))
        .order_by()
    )
    first_of = dict(APIKey.objects.for_tenant(tenant_id).values_list("pk", "first_key"))
    return [
        Used(first_of.get(key_id) or key_id, metric, channel, units)
        for key_id, metric, channel, units in rows
    ]
