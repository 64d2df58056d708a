"""Prices in words."""

from __future__ import annotations

from decimal import Decimal

from django.utils.translation import gettext as _

from billing.rating.prices import (
    Flat,
    Graduated,
    Meter,
    Metric,
    Package,
    PerUnit,
    Pricing,
    Volume,
)
from gateway.dashboard.figures import money, size, whole


def price(meter: Meter) -> str:
    """What usage beyond the included costs by a meter: `$3.00 per 1,000,000`."""
    return _price(meter.pricing, is_bytes=meter.metric in (Metric.BYTES, Metric.ARCHIVE_BYTES))


def _price(pricing: Pricing, *, is_bytes: bool) -> str:
    match pricing:
        case Flat():
            return _("%(price)s once a period") % {"price": _exact(pricing.price)}
        case PerUnit():
            return _per(pricing.price, pricing.per, is_bytes)
        case Package():
            return _("%(price)s for each %(size)s begun") % {
                "price": _exact(pricing.price),
                "size": _units(pricing.size, is_bytes),
            }
        case Graduated() | Volume():
            first = pricing.tiers[0]
            return _("from %(price)s, less for more") % {
                "price": _per(first.price, first.per, is_bytes)
            }
    raise AssertionError("unreachable")


def _per(amount: Decimal, per: int, is_bytes: bool) -> str:
    return _("%(price)s per %(per)s") % {"price": _exact(amount), "per": _units(per, is_bytes)}


def _units(number: int, is_bytes: bool) -> str:
    return size(number).replace(".0 ", " ").removeprefix("1 ") if is_bytes else whole(number)


def _exact(amount: Decimal) -> str:
    """Prices may be fractions of a cent."""
    return money(amount) if amount == round(amount, 2) else f"${amount.normalize():f}"
