"""What rating answers: the lines of an invoice as data, to be worded by whoever shows them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from billing.rating.money import ZERO
from billing.rating.periods import Period
from billing.rating.segments import Segment
from billing.rating.tiers import TierPart


class Usage(NamedTuple):
    """`units` of one metric on one channel; `hour` is the beginning of the UTC hour they belong to,
    or of any hour of the same segment. `reason` is empty, or why they may be free."""

    hour: datetime
    metric: str
    channel: str
    reason: str
    units: int


class UsageSource(NamedTuple):
    """Usage that a line was made of: `units`, each counted `weight` times."""

    metric: str
    channel: str
    reason: str
    units: int
    weight: Decimal


class LineKind(StrEnum):
    """What a line is for, in the order they stand on an invoice."""

    PLAN_FEE = "plan_fee"
    ADD_ON_FEE = "add_on_fee"
    USAGE = "usage"
    ZERO_RATED = "zero_rated"
    DISCOUNT = "discount"
    ADJUSTMENT = "adjustment"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeePart:
    """`quantity` × `price` for `seconds` of the `full_s` seconds of a full period, in `[start,
    end)`; nothing in a trial. `amount` is to 80 digits, to be shown."""

    start: datetime
    end: datetime
    seconds: int
    full_s: int
    price: Decimal
    quantity: int
    is_trial: bool
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class CapPart:
    """What a cap of `price` takes off (`amount`, below 0): the units cost `most`, less than the cap
    where other capped prices of the period have left less."""

    price: Decimal
    most: Decimal
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscountPart:
    """`percent` of `base`, or `price` off it, for `seconds` of `full_s` in force."""

    base: Decimal
    percent: Decimal | None
    price: Decimal | None
    seconds: int
    full_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line: `quantity` of `unit` (a metric, or what an interval is counted in) of what `code`
    and `name` say, for the `reason` of what is zero-rated.

    `exact` is the amount before rounding, `amount` in whole cents without tax. `net` is what
    discounts leave of it, and `tax` is `tax_percent` of that; a discount is in the nets of the
    lines it is taken from, and 0 itself. `sources` are the usage it was made of.
    """

    kind: LineKind
    code: str
    name: str
    quantity: Decimal
    unit: str
    exact: Decimal
    amount: Decimal
    reason: str = ""
    parts: tuple[FeePart | TierPart | CapPart | DiscountPart, ...] = ()
    sources: tuple[UsageSource, ...] = ()
    original: tuple[datetime, datetime] | None = None
    is_taxable: bool = True
    net: Decimal = ZERO
    tax_percent: Decimal = ZERO
    tax: Decimal = ZERO


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjustment:
    """A charge (`amount` above 0) or a credit in whole cents, without tax: one-off work, an SLA
    credit, late usage of the `original` period."""

    code: str
    name: str
    amount: Decimal
    original: tuple[datetime, datetime] | None = None
    is_taxable: bool = True


@dataclass(frozen=True, slots=True)
class Tax:
    """`percent` on every taxable line; none where a `reverse_charge` text is printed instead."""

    name: str = ""
    percent: Decimal = ZERO
    reverse_charge: str = ""


NO_TAX = Tax()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rated:
    """A priced period.

    `subtotal` (of amounts, and so of nets) + `tax_total` = `total`, all sums of rounded lines;
    `prepaid` of it comes from the
    wallet, and `due` is the rest (below 0 when credits exceed charges).
    """

    period: Period
    segments: tuple[Segment, ...]
    lines: tuple[Line, ...]
    #: Usage that no meter of the plan counts, or that fell in a time without a plan.
    unmetered: tuple[UsageSource, ...]
    tax: Tax
    subtotal: Decimal
    tax_total: Decimal
    total: Decimal
    prepaid: Decimal
    due: Decimal
