"""What a tenant chose about spending more than its plan includes, and how it is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from django.core.exceptions import ValidationError
from django.db import transaction

from billing.catalogue import services, terms
from gateway.account.errors import BadValue
from gateway.account.keys import bad_value
from tenants.models import QuotaWarning, Tenant
from tenants.notices import recipients
from tenants.people import alerts

#: Warnings shown.
MAX_WARNINGS = 50
_EVER = datetime.max.replace(tzinfo=UTC)
WARNED_OF = ("quota.warning", "quota.reached")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """`overage`: whether more than the included is admitted, and charged; `spend_cap` the most it
    may cost in a period, USD, None without bound; `thresholds` of each allowance of which a tenant
    is told, in percent; `mail_kinds` of notices are mailed, to the members in `mail_roles` and at
    `mail_addresses`, without either to those whose business it is; `mailed_to` who is mailed of
    allowances as it stands (webhooks are told too)."""

    overage: bool
    spend_cap: Decimal | None
    thresholds: tuple[int, ...]
    mail_kinds: tuple[str, ...]
    mail_roles: tuple[str, ...]
    mail_addresses: tuple[str, ...]
    mailed_to: tuple[str, ...]
    warnings: tuple[QuotaWarning, ...]

    @property
    def mails_allowances(self) -> bool:
        """Whether anything of allowances is mailed at all."""
        return not set(WARNED_OF).isdisjoint(self.mail_kinds)


def spending(tenant: Tenant) -> Spending:
    """As it is chosen last."""
    timeline = terms.timeline_of(tenant)
    # The last choice: one that ends overage holds from the next hour, and is what was asked for.
    choice = timeline.choice_at(_EVER)
    chosen = alerts.alerts_of(tenant)
    mailed = {address for kind in WARNED_OF for address in recipients.of(tenant, kind)}
    return Spending(
        overage=choice.overage,
        spend_cap=choice.spend_cap,
        thresholds=tuple(chosen.thresholds),
        mail_kinds=tuple(chosen.mail_kinds),
        mail_roles=tuple(chosen.mail_roles),
        mail_addresses=tuple(chosen.mail_addresses),
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


def choose_alerts(
    tenant: Tenant,
    *,
    thresholds: Sequence[int] | None = None,
    mail_kinds: Sequence[str] | None = None,
    mail_roles: Sequence[str] | None = None,
    mail_addresses: Sequence[str] | None = None,
) -> None:
    """Change what is given of how the tenant is told. Raises BadValue."""
    try:
        alerts.choose_alerts(
            tenant,
            thresholds=thresholds,
            mail_kinds=mail_kinds,
            mail_roles=mail_roles,
            mail_addresses=mail_addresses,
        )
    except ValidationError as error:
        raise bad_value(error) from None
