"""Add-ons: which a tenant has, which it could have, and having more or fewer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.core.exceptions import ValidationError
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from billing.catalogue import services, terms
from billing.models import AddOn, AddOnSubscription
from billing.rating.periods import in_utc
from billing.rating.prices import AddOnPrices
from gateway.account.errors import Conflict, NotFound
from tenants.models import Tenant


@dataclass(frozen=True, slots=True)
class Held:
    """An add-on that a tenant has now or from a later time on, at what it costs."""

    row: AddOnSubscription
    prices: AddOnPrices | None

    @property
    def fee(self) -> Decimal | None:
        """Of a whole period, all of them together, USD."""
        return None if self.prices is None else self.prices.fee * self.row.quantity


def held(tenant: Tenant, *, now: datetime | None = None) -> list[Held]:
    """Those that have not ended, the oldest first."""
    at = now or timezone.now()
    rows = AddOnSubscription.objects.filter(Q(ended_at=None) | Q(ended_at__gt=at), tenant=tenant)
    prices = terms.prices().add_ons
    found = rows.select_related("add_on").order_by("started_at", "pk")
    return [Held(row, prices.get((row.add_on_id, row.version))) for row in found]


def offered(*, now: datetime | None = None) -> list[AddOnPrices]:
    """What can be added now, by its fee: of each that is offered the version in force."""
    at = in_utc(now or timezone.now())
    active = set(AddOn.objects.filter(is_active=True).values_list("code", flat=True))
    newest: dict[str, AddOnPrices] = {}
    for one in terms.catalogue().add_ons:
        if one.code in active and one.effective_from <= at:
            before = newest.get(one.code)
            if before is None or (before.effective_from, before.version) < (
                one.effective_from,
                one.version,
            ):
                newest[one.code] = one
    return sorted(newest.values(), key=lambda one: (one.fee, one.code))


def add(tenant: Tenant, code: str, quantity: int) -> AddOnSubscription:
    """Add some of an offered add-on from now on. Raises NotFound and Conflict."""
    add_on = AddOn.objects.filter(code=code, is_active=True).first()
    if add_on is None:
        raise NotFound(_("There is no add-on %(code)r.") % {"code": code[:40]})
    try:
        return services.add_add_on(tenant, add_on=add_on, quantity=quantity)
    except ValidationError as error:
        raise Conflict(" ".join(error.messages)) from None


def end(tenant: Tenant, pk: int) -> AddOnSubscription:
    """End one now: it is paid until this second. Raises NotFound and Conflict."""
    row = AddOnSubscription.objects.filter(tenant=tenant, pk=pk).first()
    if row is None:
        raise NotFound(_("There is no such add-on in this account."))
    try:
        return services.end_add_on(row)
    except ValidationError as error:
        raise Conflict(" ".join(error.messages)) from None
