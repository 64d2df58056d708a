"""What an operator sells, as values: plans, their meters, add-ons, and a tenant's own terms.

`billing.rating.document` reads them from JSON and is where they are checked; whoever builds them in
code keeps the same limits. Money is `Decimal` in US dollars, amounts of usage are integers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from billing.free import ALWAYS_FREE
from billing.rating.money import CURRENCY, ZERO


class Metric(StrEnum):
    """What is counted. A price says for how many units it is, so a gigabyte is 10^9 bytes."""

    MESSAGES = "messages"
    BYTES = "bytes"
    REQUESTS = "requests"
    COIN_MINUTES = "coin_minutes"
    ARCHIVE_BYTES = "archive_bytes"


class Unit(StrEnum):
    """What an interval is counted in."""

    MONTH = "month"
    YEAR = "year"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class Interval:
    """How long a billing period is: `every` months, years or days."""

    unit: Unit = Unit.MONTH
    every: int = 1


@dataclass(frozen=True, slots=True)
class Trial:
    """The first `days` cost nothing. Then the plan is charged, or, unless it `converts`, ends."""

    days: int
    converts: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Entitlements:
    """What a tenant may use. `None` is without limit; for `channels` and `regions`, all of them."""

    products: tuple[str, ...] = ()
    channels: tuple[str, ...] | None = ()
    regions: tuple[str, ...] | None = ()
    connections: int | None = 0
    subscriptions: int | None = 0
    coins: int | None = 0
    users: int | None = 0
    requests_per_s: int | None = 0
    burst: int | None = 0
    retention_hours: int | None = 0


@dataclass(frozen=True, slots=True)
class Flat:
    """One price for a period in which anything is charged, however much."""

    price: Decimal


@dataclass(frozen=True, slots=True)
class PerUnit:
    """`price` for every `per` units, in proportion."""

    price: Decimal
    per: int = 1


@dataclass(frozen=True, slots=True)
class Tier:
    """Units up to and with `up_to` (None: all that follow), at `price` for `per` units."""

    up_to: int | None
    price: Decimal
    per: int = 1


@dataclass(frozen=True, slots=True)
class Graduated:
    """Each unit at the price of the tier it falls in."""

    tiers: tuple[Tier, ...]


@dataclass(frozen=True, slots=True)
class Volume:
    """Every unit at the price of the tier that the period's total falls in: more may cost less."""

    tiers: tuple[Tier, ...]


@dataclass(frozen=True, slots=True)
class Package:
    """`price` for each begun package of `size` units."""

    price: Decimal
    size: int


Pricing = Flat | PerUnit | Graduated | Volume | Package


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """What is charged for one metric.

    It counts `units × weight of the channel` on its `channels`; without any named, on all that no
    other meter of the same metric names. `included` of it are paid with the fee; pricing begins,
    and tiers count, beyond them. Without `overage` nothing beyond is charged, because it was
    refused. `cap` is the most that a period costs. Usage for a reason in `zero_rated`, or one that
    is `ALWAYS_FREE`, is shown and free.
    """

    code: str
    name: str
    metric: Metric
    pricing: Pricing
    channels: tuple[str, ...] = ()
    weights: Mapping[str, Decimal] = field(default_factory=dict)
    included: int = 0
    overage: bool = False
    cap: Decimal | None = None
    zero_rated: tuple[str, ...] = ()

    def weight(self, channel: str) -> Decimal:
        """How much one unit on `channel` counts."""
        return self.weights.get(channel, _ONE)

    def is_free(self, reason: str) -> bool:
        """Whether usage that has this reason (empty: none) is shown and not charged."""
        return reason in ALWAYS_FREE or reason in self.zero_rated


_ONE = Decimal(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanPrices:
    """One version of a plan. `fee` is for one interval, in advance or not; `effective_from` is when
    the version may first be subscribed to, a full UTC hour."""

    code: str
    name: str
    version: int
    effective_from: datetime
    currency: str = CURRENCY
    fee: Decimal = ZERO
    interval: Interval = Interval()
    trial: Trial | None = None
    entitlements: Entitlements = Entitlements()
    meters: tuple[Meter, ...] = ()

    def meter_of(self, metric: str, channel: str) -> Meter | None:
        """The one meter that counts this usage, if any does: the first that names the channel, else
        the first that names none."""
        rest = None
        for meter in self.meters:
            if meter.metric == metric:
                if channel in meter.channels:
                    return meter
                if not meter.channels and rest is None:
                    rest = meter
        return rest

    def meter(self, code: str) -> Meter | None:
        """The meter with this code."""
        return next((meter for meter in self.meters if meter.code == code), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddOnPrices:
    """One version of what can be added to a plan: `fee` for each interval of that plan, and what
    comes on top of its included amounts (by meter code) and entitlements."""

    code: str
    name: str
    version: int
    effective_from: datetime
    currency: str = CURRENCY
    fee: Decimal = ZERO
    included: Mapping[str, int] = field(default_factory=dict)
    entitlements: Entitlements = Entitlements()


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """One tenant's own terms while it is on `plan`, from `starts_at` until before `ends_at`.

    None where the plan's own stand. `meters` replaces those of the same code, or adds.
    """

    plan: str
    starts_at: datetime
    ends_at: datetime | None = None
    fee: Decimal | None = None
    entitlements: Entitlements | None = None
    meters: tuple[Meter, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Discount:
    """`percent`, or an `amount` for each full period, off the lines it applies to.

    `applies_to` is `invoice` (all fees and usage), a kind of line (`plan_fee`, `add_on_fee`,
    `usage`), or a kind and a code (`usage:messages`). Of a period in which it is in force for some
    of the time, it takes that share, by the second.
    """

    code: str
    name: str
    starts_at: datetime
    ends_at: datetime | None = None
    percent: Decimal | None = None
    amount: Decimal | None = None
    applies_to: str = "invoice"
