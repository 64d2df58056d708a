"""Spend caps, held against what was used: by a beat each minute, for all tenants that have one.

Their terms and rows are read 500 tenants at a time, without locks; only where an amount is another
one now is the tenant locked and written. Who was least recently looked at comes first, so a turn
that runs out of time leaves no tenant out for good.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

import structlog
from django.db.models import Exists, OuterRef

from billing.catalogue import terms
from billing.catalogue.written import wanted_allowances, write_allowances
from billing.invoicing.kinds import customs_of
from billing.models import AppliedTerms, BillingChoice
from billing.rating.periods import in_utc
from tenants.models import Allowance, Tenant
from tenants.selectors import chunks
from tenants.services import is_allowed_already

log = structlog.get_logger(__name__)

#: Of the minute between two beats.
LIMIT_S = 50.0


def limit_spending(now: datetime, *, is_time: Callable[[], bool] | None = None) -> int:
    """Write down what spend caps allow, given what was used, until `is_time` (by default for 50 s).
    Answers for how many tenants that changed."""
    now = in_utc(now)
    end_s = time.monotonic() + LIMIT_S
    is_over = is_time or (lambda: time.monotonic() > end_s)
    capped = BillingChoice.objects.filter(tenant=OuterRef("tenant")).exclude(spend_cap=None)
    applied = AppliedTerms.objects.filter(Exists(capped.order_by()))
    # The databases put null first.
    found = applied.order_by("limited_at", "pk").values_list("pk", flat=True)
    changed = 0
    for ids in chunks(list(found)):
        changed += _limit(ids, now, is_over)
        if is_over():
            break
    return changed


def _limit(ids: Sequence[int], now: datetime, is_over: Callable[[], bool]) -> int:
    book = terms.TermsBook.load(ids)
    rows = _rows_of(ids, now)
    changed, done = 0, []
    tenants = Tenant.objects.in_bulk(ids)
    customs = customs_of(tenants.values())
    for tenant in (tenants[pk] for pk in ids):
        try:
            timeline = book.timeline(tenant)
            if timeline.choice_at(now).spend_cap is not None:
                wanted, since = wanted_allowances(tenant, timeline, now, customs[tenant.pk])
                if not is_allowed_already(rows[tenant.pk], wanted, since=since):
                    changed += write_allowances(tenant, now)
        except Exception as error:  # one tenant's trouble is not the others'
            log.exception("spend_not_limited", tenant=tenant.pk, error=type(error).__name__)
        done.append(tenant.pk)
        if is_over():
            break
    AppliedTerms.objects.filter(pk__in=done).update(limited_at=now)
    return changed


def _rows_of(ids: Iterable[int], now: datetime) -> dict[int, list[Allowance]]:
    found: dict[int, list[Allowance]] = defaultdict(list)
    for row in Allowance.objects.filter(tenant__in=ids, ends_at__gt=now).order_by():
        found[row.tenant_id].append(row)
    return found
