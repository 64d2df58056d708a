"""What a tenant chose about spending more than its plan includes, and how it is told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from django.core.exceptions import ValidationError
from django.db import transaction

from billing.catalogue import services, terms
from gateway.account.errors import BadValue
from tenants.admission.caps import THRESHOLDS
from tenants.models import QuotaWarning, Tenant
from tenants.notices import recipients

#: Warnings shown.
MAX_WARNINGS = 50
_EVER = datetime.max.replace(tzinfo=UTC)
WARNED_OF = ("quota.warning", "quota.reached")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """`overage`: whether more than the included is admitted, and charged; `spend_cap` the most it
    may cost in a period, USD, None without bound; `thresholds` of each allowance of which a tenant
    is told, in percent; `mailed_to` who is mailed then (webhooks are told too)."""

    overage: bool
    spend_cap: Decimal | None
    thresholds: tuple[int, ...]
    mailed_to: tuple[str, ...]
    warnings: tuple[QuotaWarning, ...]


def spending(tenant: Tenant) -> Spending:
    """As it is chosen last."""
    timeline = terms.timeline_of(tenant)
    # The last choice: one that ends overage holds from the next hour, and is what was asked for.
    choice = timeline.choice_at(_EVER)
    mailed = {address for kind in WARNED_OF for address in recipients.of(tenant, kind)}
    return Spending(
        overage=choice.overage,
        spend_cap=choice.spend_cap,
        thresholds=THRESHOLDS,
        mailed_to=tuple(sorted(mailed)),
        warnings=tuple(QuotaWarning.objects.for_tenant(tenant)[:MAX_WARNINGS]),
    )


@transaction.atomic
def choose(
    tenant: Tenant,
    *,
    overage: bool | None = None,
    spend_cap: Decimal | None = None,
    is_cap_given: bool = False,
) -> None:
    """Change one or both; `is_cap_given` says that `spend_cap` is meant, also where it is None.
    Raises BadValue."""
    try:
        if is_cap_given:  # before overage, so that none is admitted without it
            services.set_spend_cap(tenant, spend_cap)
        if overage is not None:
            services.choose_overage(tenant, is_on=overage)
    except ValidationError as error:
        raise BadValue(f"spend_cap: {' '.join(error.messages)}") from None
