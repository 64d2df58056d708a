"""Who is told, and once, that an allowance goes to its end."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

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
    whether that is news. Any process may say it, any number of times."""
    # Two at once: one insert fails on the constraint, and is then found.
    _, is_news = QuotaWarning.objects.get_or_create(
        tenant_id=tenant_id,
        period=period,
        threshold=threshold,
        defaults={"code": code, "used": used, "limit": limit, "resets_at": resets_at},
    )
    if is_news:
        payload = {
            "allowance": code,
            "percent": threshold,
            "used": used,
            "limit": limit,
            "resets_at": resets_at.isoformat(),
        }
        notify(
            tenant=Tenant.objects.get(pk=tenant_id),
            kind="quota.warning" if threshold < 100 else "quota.reached",
            payload=payload,
            dedupe=f"quota:{period}:{threshold}",
        )
    return is_news
