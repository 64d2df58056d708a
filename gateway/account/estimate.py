"""What a list of subscriptions would cost: from what this relay measured in the last 24 hours, by
the tenant's terms and by every plan that is offered.

Rates are the workers' counts, and money is `billing.rating`'s alone. What is not known is said.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import orjson
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from billing.catalogue import terms
from billing.channels import COINS
from billing.invoicing.kinds import is_customer
from billing.rating import estimate as rating
from billing.rating.estimate import Offer, Projection
from billing.rating.periods import in_utc
from billing.rating.prices import Entitlements, Metric
from billing.rating.segments import entitled
from gateway.account import plans
from gateway.account.errors import BadValue, Unavailable
from streaming.bus import keys
from streaming.core.catalogue import Catalogue
from streaming.core.counted import coin_of
from streaming.core.dialects import relay
from streaming.core.topic import Kind, Topic
from streaming.nodes import live
from streaming.nodes.measured import HOURS, MAX_TOPICS, Measured, measured, measured_kinds
from tenants.models import Tenant

MAX_SUBSCRIPTIONS = 100
MAX_CONNECTIONS = 10_000
#: A month, as rating spreads a year's fee.
HOURS_A_MONTH = Fraction(365 * 24, 12)
MEASURED, SIMILAR, AVERAGE, UNMEASURED = "measured", "similar", "average", "unmeasured"
_WORST = (MEASURED, SIMILAR, AVERAGE, UNMEASURED)
_OUT_OF_RANGE = "A value is out of range: "
#: Of the dialect's refusals those that a form's choice can meet.
_REFUSALS = (
    gettext_noop("coin is the name of a coin."),
    gettext_noop("The coins of these markets are not known yet: try again."),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One subscription as the relay dialect has it (`{"type": "trades", "coins": ["BTC"]}`), how
    long a day it is followed, and on how many connections."""

    subscription: Mapping[str, Any]
    hours_per_day: Decimal = Decimal(24)
    connections: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What one subscription brings. `basis` says of the least known of its topics where the rate is
    from: itself (`measured`), the same coin's book in its plain form (`similar`), the `average` of
    its channel, or nothing (`unmeasured`: it counts as none). `measured_hours` are of the same."""

    channel: str
    topics: int
    connections: int
    hours_per_day: Decimal
    messages_per_s: float
    messages_per_month: int
    bytes_per_month: int
    basis: str
    measured_hours: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What it costs under one plan in a whole period, spread over its months. `refused` are meters
    whose allowance is too small, `missing` channels it has not, `too_small` limits it has."""

    code: str
    name: str
    per_month: Decimal
    fee: Decimal
    lines: tuple[tuple[str, str, Decimal, str, Decimal], ...]
    refused: tuple[str, ...]
    missing: tuple[str, ...]
    too_small: tuple[str, ...]

    @property
    def serves_all(self) -> bool:
        """Whether nothing of it would be turned away."""
        return not (self.refused or self.missing or self.too_small)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The whole of it. `is_whole_day` when 24 hours were measured of every topic; `plan` by the
    tenant's own terms, None without any; `offers` those that serve all first, the cheapest leading;
    `cheapest` the code of that, None where none serves all."""

    lines: tuple[Line, ...]
    messages_per_s: float
    messages_per_month: int
    bytes_per_month: int
    coin_minutes_per_month: int
    measured_hours: float
    is_whole_day: bool
    plan: Cost | None
    offers: tuple[Cost, ...]
    cheapest: str | None
    assumptions: tuple[str, ...]


@dataclass(slots=True)
class _Needs:
    """What all of it together takes."""

    coins: dict[str, Fraction] = field(default_factory=dict)
    users: set[str] = field(default_factory=set)
    subscriptions: int = 0
    connections: int = 0


def estimate(
    tenant: Tenant,
    asked: Sequence[Asked],
    *,
    now: datetime | None = None,
    catalogue: Catalogue | None = None,
) -> Estimate:
    """Raises BadValue for what cannot be subscribed to, and Unavailable when the counts cannot be
    read."""
    at = in_utc(now or timezone.now())
    try:
        known = known_names() if catalogue is None else catalogue
        topics = [_topics(n, one, known) for n, one in enumerate(asked)]
        _check(asked, topics)
        rates = _Rates.read({topic for one in topics for topic in one}, now_s=at.timestamp())
    except live.Unreachable:
        raise Unavailable(_("What was measured cannot be read now: try again.")) from None
    lines, used, needs = [], Counter[tuple[str, str]](), _Needs()
    exact: dict[tuple[str, str], Fraction] = defaultdict(Fraction)
    for one, own in zip(asked, topics, strict=True):
        lines.append(_line(one, own, rates, exact))
        _need(needs, one, own)
    minutes = sum(needs.coins.values(), start=Fraction(0)) * 60
    exact[Metric.COIN_MINUTES, COINS] = minutes
    for place, units in exact.items():
        used[place] = math.ceil(units)
    projected = [Projection(*place, units) for place, units in sorted(used.items()) if units]
    offers = _offers(projected, needs, at)
    return Estimate(
        lines=tuple(lines),
        messages_per_s=round(sum(line.messages_per_s for line in lines), 3),
        messages_per_month=sum(n for (metric, _), n in used.items() if metric == Metric.MESSAGES),
        bytes_per_month=sum(n for (metric, _), n in used.items() if metric == Metric.BYTES),
        coin_minutes_per_month=used[Metric.COIN_MINUTES, COINS],
        measured_hours=min((line.measured_hours for line in lines), default=0.0),
        is_whole_day=all(line.basis == MEASURED and line.measured_hours >= HOURS for line in lines),
        plan=_own(tenant, projected, needs, at),
        offers=offers,
        cheapest=next((cost.code for cost in offers if cost.serves_all), None),
        assumptions=tuple(_assumptions(lines, rates, is_invoiced=is_customer(tenant.kind))),
    )


class _Rates:
    """What is known of each topic, and from where."""

    def __init__(self, of: Mapping[Topic, tuple[str, Measured]]) -> None:
        self._of = of
        self.counted = Counter(basis for basis, _ in of.values())

    @classmethod
    def read(cls, topics: Collection[Topic], *, now_s: float) -> _Rates:
        # Whom others follow is nobody's business: of users the average is told, whoever it is.
        plain = {topic: _plain(topic) for topic in topics if not topic.user}
        counts = measured([*plain, *plain.values()], now_s=now_s)
        known = {topic for topic, count in counts.items() if count.minutes}
        unknown = {t.kind for t in topics if known.isdisjoint((t, plain.get(t)))}
        kinds = measured_kinds(unknown, now_s=now_s)
        found = {}
        for topic in topics:
            if topic in known:
                found[topic] = MEASURED, counts[topic]
            elif (other := plain.get(topic)) in known:
                found[topic] = SIMILAR, counts[other]
            else:
                of_kind = kinds[topic.kind]
                found[topic] = (AVERAGE if of_kind.minutes else UNMEASURED), of_kind
        return cls(found)

    def __getitem__(self, topic: Topic) -> tuple[str, Measured]:
        return self._of[topic]


def _plain(topic: Topic) -> Topic:
    """A book in another form changes as often, near enough."""
    if topic.kind in (Kind.L2_BOOK, Kind.L2_DIFF, Kind.TRADES):
        return Topic(topic.kind, topic.coin)
    return topic


def known_names() -> Catalogue:
    """Coins and dexes that can be subscribed to; empty while nobody knows. Raises
    live.Unreachable."""
    with live.bus() as client:
        data: Any = client.get(keys.CATALOGUE)
    if not data:
        return Catalogue()
    names = orjson.loads(data)
    return Catalogue(frozenset(names["coins"]), frozenset(names["dexes"]))


def _topics(number: int, one: Asked, catalogue: Catalogue) -> tuple[Topic, ...]:
    where = f"subscriptions[{number}]"
    if not 0 < one.hours_per_day <= 24:
        raise BadValue(
            _("%(where)s.hours_per_day: %(hours)s is not within 0 and 24.")
            % {"where": where, "hours": one.hours_per_day}
        )
    if not 1 <= one.connections <= MAX_CONNECTIONS:
        raise BadValue(
            _("%(where)s.connections: 1 to %(most)s.")
            % {"where": where, "most": f"{MAX_CONNECTIONS:,}"}
        )
    try:
        topics = relay.parse_subscription(dict(one.subscription), catalogue)[0]
    except relay.Refusal as refusal:
        raise BadValue(f"{where}: {_said(refusal)}") from None
    return topics


def _said(refusal: relay.Refusal) -> str:
    """What the dialect says in English alone, for who filled in a form."""
    if refusal.code == "unknown_coin":
        return _("There is no coin %(coin)s.") % {
            "coin": orjson.dumps(refusal.fields["coin"]).decode()[:60]
        }
    text, _colon, value = str(refusal).partition(_OUT_OF_RANGE)
    if not text and value:
        return _("A value is out of range: %(value)s") % {"value": value}
    return _(str(refusal))


def _check(asked: Sequence[Asked], topics: Sequence[Collection[Topic]]) -> None:
    if not 1 <= len(asked) <= MAX_SUBSCRIPTIONS:
        raise BadValue(
            _("subscriptions: 1 to %(most)s of them, not %(count)s.")
            % {"most": MAX_SUBSCRIPTIONS, "count": len(asked)}
        )
    # Each may be asked of as itself and as its plain form.
    if (count := sum(map(len, topics))) > MAX_TOPICS // 2:
        raise BadValue(
            _("subscriptions: %(count)s topics; at most %(most)s at once.")
            % {"count": f"{count:,}", "most": f"{MAX_TOPICS // 2:,}"}
        )


def _line(
    one: Asked,
    topics: Sequence[Topic],
    rates: _Rates,
    exact: dict[tuple[str, str], Fraction],
) -> Line:
    found = [rates[topic] for topic in topics]
    per_hour = sum((rate.messages_per_hour for _, rate in found), start=Fraction(0))
    size = sum((rate.bytes_per_hour for _, rate in found), start=Fraction(0))
    hours = _hours(one) * one.connections
    channel = topics[0].kind.value
    exact[Metric.MESSAGES, channel] += per_hour * hours
    exact[Metric.BYTES, channel] += size * hours
    return Line(
        channel=channel,
        topics=len(topics),
        connections=one.connections,
        hours_per_day=one.hours_per_day,
        messages_per_s=round(float(per_hour * one.connections / 3600), 3),
        messages_per_month=math.ceil(per_hour * hours),
        bytes_per_month=math.ceil(size * hours),
        basis=max((basis for basis, _ in found), key=_WORST.index),
        measured_hours=round(min(rate.covered for _, rate in found) / 60, 2),
    )


def _hours(one: Asked) -> Fraction:
    """A month."""
    return Fraction(one.hours_per_day) / 24 * HOURS_A_MONTH


def _need(needs: _Needs, one: Asked, topics: Sequence[Topic]) -> None:
    needs.subscriptions += len(topics) * one.connections
    needs.connections = max(needs.connections, one.connections)
    for topic in topics:
        if coin := coin_of(topic):
            # A minute in which a coin is followed is one, however often it is.
            needs.coins[coin] = max(needs.coins.get(coin, Fraction(0)), _hours(one))
        if topic.user:
            needs.users.add(topic.user)


def _own(
    tenant: Tenant, projected: Sequence[Projection], needs: _Needs, at: datetime
) -> Cost | None:
    timeline = terms.timeline_of(tenant)
    segment = timeline.segment_at(at)
    if segment is None:
        return None
    offer = Offer(segment.plan, segment.add_ons)
    period = timeline.period_of(at)
    found = rating.estimate(
        offer, projected, discounts=timeline.discounts_in(period), at=period.start
    )
    return _cost(found, needs, entitled(segment))


def _offers(projected: Sequence[Projection], needs: _Needs, at: datetime) -> tuple[Cost, ...]:
    found = rating.compare([Offer(plan) for plan in plans.offered(now=at)], projected)
    costs = [_cost(one, needs, one.offer.plan.entitlements) for one in found]
    return tuple(sorted(costs, key=lambda cost: (not cost.serves_all, cost.per_month)))


def _cost(found: rating.Estimate, needs: _Needs, may: Entitlements) -> Cost:
    return Cost(
        code=found.offer.plan.code,
        name=found.offer.plan.name,
        per_month=found.per_month,
        fee=found.offer.plan.fee,
        lines=tuple(
            (str(line.kind), line.name, line.quantity, line.unit, line.amount)
            for line in found.rated.lines
        ),
        refused=found.refused,
        # Coin-minutes are counted on a channel that nobody subscribes to, and no plan names.
        missing=tuple(channel for channel in found.missing if channel != COINS),
        too_small=tuple(_too_small(needs, may)),
    )


def _too_small(needs: _Needs, may: Entitlements) -> Iterable[str]:
    for name, needed, has in (
        (_("connections"), needs.connections, may.connections),
        (_("subscriptions"), needs.subscriptions, may.subscriptions),
        (_("coins"), len(needs.coins), may.coins),
        (_("users"), len(needs.users), may.users),
    ):
        if has is not None and needed > has:
            yield _("%(name)s: %(needed)s of %(has)s") % {
                "name": name,
                "needed": f"{needed:,}",
                "has": f"{has:,}",
            }


def _assumptions(lines: Sequence[Line], rates: _Rates, *, is_invoiced: bool) -> Iterable[str]:
    if not is_invoiced:
        yield _("Prices are a customer's: this account is metered and never invoiced.")
    yield _("Rates are what this relay published in the last 24 hours; other days differ.")
    hours = min((line.measured_hours for line in lines), default=0.0)
    if hours < HOURS:
        yield _("Less than 24 hours were measured: %(hours)s of the least known topic.") % {
            "hours": f"{hours:g}"
        }
    for basis, text in (
        (
            SIMILAR,
            _(
                "%(count)s of the topics are taken to change as often as the plain form of the "
                "same coin."
            ),
        ),
        (
            AVERAGE,
            _(
                "%(count)s of the topics are users', or were followed by nobody; the average of "
                "their channel is taken."
            ),
        ),
        (
            UNMEASURED,
            _(
                "%(count)s of the topics and their whole channel were followed by nobody; they "
                "count as nothing."
            ),
        ),
    ):
        if count := rates.counted[basis]:
            yield text % {"count": f"{count:,}"}
    yield _("A month has 365/12 days.")
    yield _("First frames of subscriptions, and what a slow reader does not get, are left out.")
    yield _("Offers are without add-ons, discounts, own terms, tax and prepaid money.")
    yield _("Your own plan is with your add-ons, discounts and choice of overage, before tax.")
