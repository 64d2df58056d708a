"""Prices as JSON: strict to read, and the same text again whenever the same prices are written.

Money is a text (`"0.000005"`), an instant a text in UTC (`"2026-11-01T00:00:00Z"`), null where a
limit is absent. Every mistake is reported at once, one line each: what, where, the limit, what to
do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import TypeVar

from billing.rating.fields import MAX_UNITS, Fields, MalformedDocument, Mistake, parse_json
from billing.rating.money import AMOUNT_PLACES, CURRENCY, ZERO, render
from billing.rating.prices import (
    AddOnPrices,
    Discount,
    Entitlements,
    Flat,
    Graduated,
    Interval,
    Meter,
    Metric,
    Override,
    Package,
    PerUnit,
    PlanPrices,
    Pricing,
    Tier,
    Trial,
    Unit,
    Volume,
)

#: The version of the form itself; another one is refused.
FORMAT = 1
MAX_FEE = Decimal(1_000_000_000)
MAX_WEIGHT = Decimal(100_000)
WEIGHT_PLACES = 4
PERCENT_PLACES = 4
#: A price is for a power of ten of units, so that dividing by it is exact.
PER = tuple(10**n for n in range(13))
#: Ten years, whatever the unit.
MAX_EVERY = {Unit.MONTH: 120, Unit.YEAR: 10, Unit.DAY: 3_660}

_CODE = re.compile(r"[a-z0-9]+(?:[-_][a-z0-9]+)*", re.ASCII)
_CODE_SHAPE = "a code of small letters, digits, - and _"
# As `billing.metering.batch.Channel`.
_CHANNEL = re.compile(r"[!-~]{1,32}", re.ASCII)
_CHANNEL_SHAPE = "1 to 32 visible ASCII characters"
_APPLIES_TO = re.compile(r"invoice|(?:plan_fee|add_on_fee|usage)(?::[a-z0-9_-]{1,40})?", re.ASCII)
_APPLIES_TO_SHAPE = "invoice, plan_fee, add_on_fee or usage, the last three perhaps with :code"

_T = TypeVar("_T")


class Model(StrEnum):
    """The pricing models by their names in a document."""

    FLAT = "flat"
    PER_UNIT = "per_unit"
    GRADUATED = "graduated"
    VOLUME = "volume"
    PACKAGE = "package"


_MODELS: dict[type[Pricing], Model] = {
    Flat: Model.FLAT,
    PerUnit: Model.PER_UNIT,
    Graduated: Model.GRADUATED,
    Volume: Model.VOLUME,
    Package: Model.PACKAGE,
}


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What is on offer: versions of plans and of add-ons."""

    plans: tuple[PlanPrices, ...] = ()
    add_ons: tuple[AddOnPrices, ...] = ()

    def plan(self, code: str, at: datetime) -> PlanPrices:
        """The version of plan `code` in force at `at`. Raises LookupError when there is none."""
        return _in_force([plan for plan in self.plans if plan.code == code], code, at)

    def add_on(self, code: str, at: datetime) -> AddOnPrices:
        """The version of add-on `code` in force at `at`. Raises LookupError when there is none."""
        return _in_force([add_on for add_on in self.add_ons if add_on.code == code], code, at)


_V = TypeVar("_V", PlanPrices, AddOnPrices)


def _in_force(versions: list[_V], code: str, at: datetime) -> _V:
    begun = [version for version in versions if version.effective_from <= at]
    if not begun:
        raise LookupError(f"no version of {code} is in force at {at:%Y-%m-%d %H:%M}")
    return max(begun, key=lambda version: (version.effective_from, version.version))


def read_plan(text: str | bytes) -> PlanPrices:
    """A version of a plan. Raises MalformedDocument."""
    return _document(text, _plan)


def read_add_on(text: str | bytes) -> AddOnPrices:
    """A version of an add-on. Raises MalformedDocument."""
    return _document(text, _add_on)


def read_override(text: str | bytes) -> Override:
    """A tenant's own terms. Raises MalformedDocument."""
    return _document(text, _override)


def read_discount(text: str | bytes) -> Discount:
    """A discount. Raises MalformedDocument."""
    return _document(text, _discount)


def read_catalogue(text: str | bytes) -> Catalogue:
    """Plans and add-ons together. Raises MalformedDocument."""
    return _document(text, _catalogue)


def write(document: PlanPrices | AddOnPrices | Override | Discount | Catalogue) -> str:
    """The document as JSON of which the matching `read_…` makes an equal one."""
    plain = {"format": FORMAT, **_plain_fields(document)}
    return json.dumps(plain, indent=2, ensure_ascii=False) + "\n"


def _document(text: str | bytes, read: Callable[[Fields], _T]) -> _T:
    mistakes: list[Mistake] = []
    top = Fields(parse_json(text), "", mistakes)
    found = None
    if top.is_object:
        top.whole("format", low=FORMAT, high=FORMAT)
        found = read(top)
        top.finish()
    if mistakes or found is None:
        raise MalformedDocument(mistakes)
    return found


def _catalogue(top: Fields) -> Catalogue:
    found = Catalogue(plans=top.items("plans", _plan), add_ons=top.items("add_ons", _add_on))
    documents: dict[str, tuple[PlanPrices | AddOnPrices, ...]] = {
        "plans": found.plans,
        "add_ons": found.add_ons,
    }
    for name, versions in documents.items():
        keys = [(version.code, version.version) for version in versions]
        for n, key in enumerate(keys):
            if key in keys[:n]:
                top.note(f"{name}[{n}]", f"version {key[1]} of {key[0]} comes twice; raise one.")
    return found


def _plan(top: Fields) -> PlanPrices:
    return PlanPrices(
        code=_code(top),
        name=top.text("name"),
        version=top.whole("version", low=1, high=1_000_000),
        effective_from=top.instant("effective_from", full_hour=True),
        currency=_currency(top),
        fee=_amount(top, "fee", default=ZERO),
        interval=top.item("interval", _interval),
        trial=top.item("trial", _trial) if top.has("trial") else None,
        entitlements=top.item("entitlements", _entitlements),
        meters=_meters(top),
    )


def _add_on(top: Fields) -> AddOnPrices:
    return AddOnPrices(
        code=_code(top),
        name=top.text("name"),
        version=top.whole("version", low=1, high=1_000_000),
        effective_from=top.instant("effective_from", full_hour=True),
        currency=_currency(top),
        fee=_amount(top, "fee", default=ZERO),
        included=top.table(
            "included",
            _CODE,
            _CODE_SHAPE,
            lambda rows, code: rows.whole(code, low=0, high=MAX_UNITS),
        ),
        entitlements=_optional_entitlements(top) or Entitlements(),
    )


def _override(top: Fields) -> Override:
    starts_at, ends_at = _effective(top, full_hour=True)
    return Override(
        plan=_code(top, "plan"),
        starts_at=starts_at,
        ends_at=ends_at,
        fee=_amount(top, "fee") if top.has("fee") else None,
        entitlements=_optional_entitlements(top),
        meters=_meters(top),
    )


def _discount(top: Fields) -> Discount:
    starts_at, ends_at = _effective(top, full_hour=False)
    has_percent, has_amount = top.has("percent"), top.has("amount")
    if has_percent == has_amount:
        fault = "both a percent and an amount" if has_percent else "neither percent nor amount"
        top.note("", f"has {fault}; write one of them.")
    percent = amount = None
    if has_percent:
        percent = top.decimal("percent", places=PERCENT_PLACES, high=Decimal(100))
    if has_amount:
        amount = _amount(top, "amount")
    return Discount(
        code=_code(top),
        name=top.text("name"),
        starts_at=starts_at,
        ends_at=ends_at,
        percent=percent,
        amount=amount,
        applies_to=top.word("applies_to", _APPLIES_TO, _APPLIES_TO_SHAPE, default="invoice"),
    )


def _code(top: Fields, name: str = "code") -> str:
    code = top.word(name, _CODE, _CODE_SHAPE)
    if len(code) > 40:
        top.note(name, f"has {len(code)} characters, at most 40; shorten it.")
    return code


def _currency(top: Fields) -> str:
    currency = top.word("currency", re.compile(CURRENCY), f"{CURRENCY}, the only one billed")
    return currency


def _amount(top: Fields, name: str, *, default: object = ...) -> Decimal:
    return top.decimal(name, places=AMOUNT_PLACES, high=MAX_FEE, default=default)


def _effective(top: Fields, *, full_hour: bool) -> tuple[datetime, datetime | None]:
    starts_at = top.instant("starts_at", full_hour=full_hour)
    ends_at = top.instant("ends_at", full_hour=full_hour) if top.has("ends_at") else None
    if ends_at is not None and ends_at <= starts_at:
        top.note("ends_at", "is not after starts_at; write a later time, or null for no end.")
    return starts_at, ends_at


def _interval(top: Fields) -> Interval:
    unit = top.choice("unit", Unit)
    return Interval(unit, top.whole("every", low=1, high=MAX_EVERY[unit], default=1))


def _trial(top: Fields) -> Trial:
    return Trial(top.whole("days", low=1, high=366), converts=top.flag("converts", default=True))


def _optional_entitlements(top: Fields) -> Entitlements | None:
    return top.item("entitlements", _entitlements) if top.has("entitlements") else None


def _entitlements(top: Fields) -> Entitlements:
    before = top.mistake_count
    limits = {
        name: top.limit(name, high=high, default=0)
        for name, high in (
            ("connections", 1_000_000),
            ("subscriptions", 10_000_000),
            ("coins", 1_000_000),
            ("users", 1_000_000),
            ("requests_per_s", 1_000_000),
            ("burst", 10_000_000),
            ("retention_hours", 1_000_000),
        )
    }
    rate, burst = limits["requests_per_s"], limits["burst"]
    is_below = burst is not None and (rate is None or burst < rate)
    if is_below and top.mistake_count == before:
        top.note("burst", "is below requests_per_s; raise it to that at least.")
    return Entitlements(
        products=top.words("products", _CODE, _CODE_SHAPE),
        channels=_all_or_words(top, "channels", _CHANNEL, _CHANNEL_SHAPE),
        regions=_all_or_words(top, "regions", _CODE, _CODE_SHAPE),
        **limits,
    )


def _all_or_words(
    top: Fields, name: str, pattern: re.Pattern[str], shape: str
) -> tuple[str, ...] | None:
    """A list, or null for all there are; absent is none of them."""
    is_list = top.has(name) or name not in top
    return top.words(name, pattern, shape) if is_list else None


def _meters(top: Fields) -> tuple[Meter, ...]:
    before = top.mistake_count
    meters = top.items("meters", _meter)
    if top.mistake_count > before:
        return meters
    codes: set[str] = set()
    counted: dict[tuple[str, str], str] = {}
    for n, meter in enumerate(meters):
        if meter.code in codes:
            top.note(f"meters[{n}].code", f'"{meter.code}" comes twice; rename one.')
        codes.add(meter.code)
        for channel in meter.channels or ("",):
            other = counted.setdefault((meter.metric, channel), meter.code)
            if other != meter.code:
                what = f'channel "{channel}"' if channel else "all other channels"
                text = f"{meter.metric} of {what} is counted by meter {other} too; name it once."
                top.note(f"meters[{n}].channels", text)
    return meters


def _meter(top: Fields) -> Meter:
    return Meter(
        code=_code(top),
        name=top.text("name"),
        metric=top.choice("metric", Metric),
        pricing=top.item("pricing", _pricing),
        channels=top.words("channels", _CHANNEL, _CHANNEL_SHAPE),
        weights=top.table(
            "weights",
            _CHANNEL,
            _CHANNEL_SHAPE,
            lambda rows, channel: rows.decimal(channel, places=WEIGHT_PLACES, high=MAX_WEIGHT),
        ),
        included=top.whole("included", low=0, high=MAX_UNITS, default=0),
        overage=top.flag("overage", default=False),
        cap=_amount(top, "cap") if top.has("cap") else None,
        zero_rated=top.words("zero_rated", _CODE, _CODE_SHAPE),
    )


def _pricing(top: Fields) -> Pricing:
    before = top.mistake_count
    model = top.choice("model", Model)
    if top.mistake_count > before:
        top.ignore_rest()
        return Flat(ZERO)
    match model:
        case Model.FLAT:
            return Flat(_price(top))
        case Model.PER_UNIT:
            return PerUnit(_price(top), _per(top))
        case Model.PACKAGE:
            return Package(_price(top), top.whole("size", low=1, high=MAX_UNITS))
        case Model.GRADUATED:
            return Graduated(_tiers(top))
        case Model.VOLUME:
            return Volume(_tiers(top))


def _tiers(top: Fields) -> tuple[Tier, ...]:
    before = top.mistake_count
    tiers = top.items("tiers", _tier)
    if top.mistake_count > before:
        return tiers
    if not tiers:
        top.note("tiers", "is empty; write at least one tier, the last with up_to null.")
        return tiers
    above = 0
    for n, tier in enumerate(tiers):
        is_last = n == len(tiers) - 1
        if (tier.up_to is None) != is_last:
            fault = "must be null, so that no usage is without a price" if is_last else "is null"
            advice = "add null" if is_last else "only the last tier is open"
            top.note(f"tiers[{n}].up_to", f"{fault}; {advice}.")
        elif tier.up_to is not None and tier.up_to <= above:
            top.note(f"tiers[{n}].up_to", f"{tier.up_to} is not above {above}; raise it.")
        above = tier.up_to or above
    return tiers


def _tier(top: Fields) -> Tier:
    return Tier(
        top.whole("up_to", low=1, high=MAX_UNITS) if top.has("up_to") else None,
        _price(top),
        _per(top),
    )


def _price(top: Fields) -> Decimal:
    return top.decimal("price", high=MAX_FEE)


def _per(top: Fields) -> int:
    per = top.whole("per", low=1, high=PER[-1], default=1)
    if per not in PER:
        top.note("per", f"{per} is not a power of ten; write 1, 10, 100 … {PER[-1]}.")
        return 1
    return per


def _plain_fields(value: object) -> dict[str, object]:
    if not is_dataclass(value):
        raise TypeError(f"{type(value).__name__} has no place in a document")
    return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}


def _plain(value: object) -> object:
    match value:
        case None | bool() | int():
            return value
        case Decimal():
            return render(value)
        case datetime():
            return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        case str():
            return str(value)
        case tuple():
            return [_plain(item) for item in value]
        case Mapping():
            return {name: _plain(item) for name, item in value.items()}
        case Flat() | PerUnit() | Graduated() | Volume() | Package():
            return {"model": str(_MODELS[type(value)]), **_plain_fields(value)}
        case _:
            return _plain_fields(value)
