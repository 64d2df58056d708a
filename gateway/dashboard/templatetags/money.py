"""Money and large numbers as people read them. Amounts are exact: nothing is rounded here that was
not rounded by rating."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import template
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from billing.invoicing import sheet
from billing.rating.prices import Flat, Interval, Meter, Package, PerUnit

register = template.Library()

_WORDS = {
    "messages": gettext_lazy("messages"),
    "bytes": gettext_lazy("bytes"),
    "requests": gettext_lazy("requests"),
    "coin_minutes": gettext_lazy("coin minutes"),
    "archive_bytes": gettext_lazy("bytes of archives"),
}


@register.filter
def usd(amount: Decimal | None) -> str:
    """`1,234.50 USD`; whole cents, as invoices show them."""
    return "" if amount is None else f"{sheet.money(amount)} USD"


@register.filter
def signed_usd(amount: Decimal) -> str:
    """The same with a plus in front of what is above 0."""
    return f"+{usd(amount)}" if amount > 0 else usd(amount)


@register.filter
def count(number: Any) -> str:
    """`30,000,000`; what has no bound is said so."""
    return _("unlimited") if number is None else sheet.number(number)


@register.filter
def short(number: int | None) -> str:
    """`30 M`, where that is exact; else all of it."""
    if number is None:
        return _("unlimited")
    for unit, size in (("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size and (number * 100) % size == 0:
            return f"{sheet.number(Decimal(number) / size)} {unit}"
    return sheet.number(Decimal(number))


@register.filter
def included(meter: Meter) -> str:
    """How much of a meter is paid with the fee: `30 M`, `2 TB`."""
    return _much(meter, meter.included)


@register.filter
def interval(one: Interval) -> str:
    """`month`, `year`, `3 months`."""
    words = {
        "month": (_("month"), _("months")),
        "year": (_("year"), _("years")),
        "day": (_("day"), _("days")),
    }[one.unit.value]
    return words[0] if one.every == 1 else f"{one.every} {words[1]}"


@register.filter
def metric(name: str) -> str:
    """What is counted, in a word."""
    return str(_WORDS.get(str(name), name))


@register.filter
def beyond(meter: Meter) -> str:
    """What is paid for more than the included, in one line."""
    if not meter.overage:
        return _("more is refused")
    price = meter.pricing
    if isinstance(price, PerUnit):
        return _("then %(price)s per %(unit)s") % {
            "price": _price(price.price),
            "unit": _unit(meter, price.per),
        }
    if isinstance(price, Package):
        return _("then %(price)s for each %(unit)s begun") % {
            "price": _price(price.price),
            "unit": _unit(meter, price.size),
        }
    if isinstance(price, Flat):
        return _("then %(price)s, however much") % {"price": _price(price.price)}
    first, last = price.tiers[0], price.tiers[-1]
    return _("then %(first)s down to %(last)s per %(unit)s") % {
        "first": _price(first.price),
        "last": _price(last.price),
        "unit": _unit(meter, first.per),
    }


def _much(meter: Meter, units: int) -> str:
    """Of bytes in their own words, since `B` is what they are."""
    if "bytes" in meter.metric:
        for word, size in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6)):
            if units >= size and (units * 100) % size == 0:
                return f"{sheet.number(Decimal(units) / size)} {word}"
    return short(units)


def _unit(meter: Meter, per: int) -> str:
    """`1 M messages`, `GB`."""
    much = _much(meter, per)
    if much.endswith("B") and "bytes" in meter.metric:
        return much.removeprefix("1 ")
    return f"{much} {metric(meter.metric)}"


def _price(amount: Decimal) -> str:
    return f"{sheet.number(amount)} USD"
