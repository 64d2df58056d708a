"""Who is told, and once, that an allowance goes to its end."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from tenants.admission.caps import has_grown
from tenants.models import QuotaWarning, Tenant
from tenants.notices.services import notify


@transaction.atomic
def warn(
    tenant_id: int,
    code: str,
    threshold: int,
    *,
    used: int,
    limit: int,
    resets_at: datetime,
    period: str,
) -> bool:
    """Remember that `threshold` percent of an allowance are used, and tell the tenant; answers
    whether that is news: once a period, and again of a limit that has grown (`has_grown`). Any
    process may say it, any number of times."""
    # Held, so that two at once of limits a little apart, as a spend cap's move, are one.
    tenant = Tenant.objects.select_for_update().get(pk=tenant_id)
    same = QuotaWarning.objects.for_tenant(tenant).filter(period=period, threshold=threshold)
    told = same.order_by("-limit").values_list("limit", flat=True).first()
    if told is not None and not has_grown(limit, told):
        return False
    QuotaWarning.objects.create(
        tenant=tenant,
        period=period,
        threshold=threshold,
        code=code,
        used=used,
        limit=limit,
        resets_at=resets_at,
    )
    notify(
        tenant=tenant,
        kind="quota.warning" if threshold < 100 else "quota.reached",
        payload={
            "allowance": code,
            "percent": threshold,
            "used": used,
            "limit": limit,
            "resets_at": resets_at.isoformat(),
        },
        dedupe=f"quota:{period}:{threshold}:{limit}",
    )
    return True
