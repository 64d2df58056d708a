"""Times and amounts as people read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from django import template

register = template.Library()
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


@register.filter
def age(seconds: float | None) -> str:
    """12.3 → "12 s", 754 → "12 min 34 s", 90000 → "1 d 1 h"."""
    if seconds is None:
        return "–"
    whole = int(seconds)
    for unit, size, smaller, part in (("d", 86_400, "h", 3_600), ("h", 3_600, "min", 60)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // part} {smaller}"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"


@register.filter
def topic(name: str) -> str:
    """A topic as an edge names it, without parameters that are not set: "l2Book BTC 20 0 0 0" →
    "l2Book BTC 20"."""
    return re.sub(r"( 0)+$", "", name)


@register.filter
def ms(value: float | None) -> str:
    """0.42 → "0.42", 12.34 → "12.3", 1234.5 → "1,235"; in ms."""
    if value is None:
        return "–"
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{digits}f}"


@register.filter
def amount_of_bytes(count: int) -> str:
    """2048 → "2.0 KiB"."""
    value, unit = float(count), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f} {_UNITS[unit]}" if unit else f"{count} B"


@register.filter
def moment(of: datetime | float | None) -> str:
    """A time, or ms since 1970, to the millisecond in UTC."""
    if of is None:
        return "–"
    at = of if isinstance(of, datetime) else datetime.fromtimestamp(of / 1e3, UTC)
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}"
