"""Who is told, and once, that an allowance goes to its end."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import structlog
from django.db import transaction

from tenants.models import QuotaWarning

log = structlog.get_logger(__name__)


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
        _notify(tenant_id, "quota.warning", payload, dedupe=f"{period}:{threshold}")
    return is_news


def _notify(tenant_id: int, kind: str, payload: dict[str, Any], *, dedupe: str) -> None:
    """The one place from which mail and webhooks of it leave; called once, inside the transaction
    that remembers it."""
    log.info("quota_warning", tenant=tenant_id, kind=kind, dedupe=dedupe, **payload)
