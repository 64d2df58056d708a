"""Terms for tests: one plan, whatever it is, by calendar months from a date on; and a wallet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count, takewhile
from typing import Any

from billing.catalogue.timeline import Stretches
from billing.metering.batch import UsageLine
from billing.metering.ingest import ingest
from billing.models import Invoice, Metric
from billing.rating.periods import Anchor, Period, period_at, periods, usage_hours
from billing.rating.prices import Discount, Interval, Meter, PerUnit, PlanPrices
from billing.rating.prices import Metric as Priced
from billing.rating.segments import PlanSpan, Segment, clipped, segments
from tenants.models import APIKey, Tenant
from tests.billing.usage import make_batch

OCTOBER, NOVEMBER, DECEMBER = (datetime(2026, n, 1, tzinfo=UTC) for n in (10, 11, 12))
JANUARY = datetime(2027, 1, 1, tzinfo=UTC)
FEBRUARY = datetime(2027, 2, 1, tzinfo=UTC)


def growth(fee: str = "49", included: int = 100, price: str = "0.01") -> PlanPrices:
    """A fee, some messages in it, and a price for each beyond."""
    meter = Meter(
        code="messages",
        name="Messages",
        metric=Priced.MESSAGES,
        pricing=PerUnit(Decimal(price)),
        included=included,
        overage=True,
    )
    return PlanPrices(
        code="growth",
        name="Growth",
        version=1,
        effective_from=OCTOBER,
        fee=Decimal(fee),
        interval=Interval(),
        meters=(meter,),
    )


@dataclass
class PlainBook:
    """The port's plain implementation. `plans` are the same for all tenants."""

    plans: list[PlanSpan] = field(default_factory=lambda: [PlanSpan(growth(), OCTOBER)])
    discounts: list[Discount] = field(default_factory=list)
    wallets: dict[int, Decimal] = field(default_factory=dict)
    begins: datetime = OCTOBER

    @property
    def _anchors(self) -> list[Anchor]:
        return [Anchor(self.begins, self.plans[0].plan.interval)]

    def load(self, tenants: Iterable[Tenant], start: Any = None, end: Any = None) -> PlainBook:
        return self

    def periods_between(self, tenant: Tenant, start: datetime, end: datetime) -> Sequence[Period]:
        until = takewhile(lambda period: period.end <= end, periods(self._anchors))
        return [period for period in until if period.end > start]

    def period_of(self, tenant: Tenant, at: datetime) -> Period | None:
        return period_at(self._anchors, at) if at >= self.begins else None

    def segments_of(
        self, tenant: Tenant, period: Period, within: Stretches | None = None
    ) -> Sequence[Segment]:
        return segments(period, self._plans(within))

    def usage_hours_of(
        self, tenant: Tenant, period: Period, within: Stretches | None = None
    ) -> tuple[datetime, datetime]:
        return usage_hours(period, self._plans(within))

    def _plans(self, within: Stretches | None) -> Sequence[PlanSpan]:
        return self.plans if within is None else clipped(self.plans, within)

    def discounts_of(self, tenant: Tenant, period: Period) -> Sequence[Discount]:
        return self.discounts

    def wallet_balance(self, tenant: Tenant) -> Decimal:
        return self.wallets.get(tenant.pk, Decimal(0))

    def prepaid_among(self, tenants: Iterable[int]) -> set[int]:
        return {tenant for tenant in tenants if self.wallets.get(tenant)}

    def refill_wallet(self, tenant: Tenant, amount: Decimal, reference: str) -> None:
        self.wallets[tenant.pk] += amount

    def spend_wallet(self, tenant: Tenant, amount: Decimal, reference: str) -> None:
        self.wallets[tenant.pk] -= amount
        assert self.wallets[tenant.pk] >= 0


_workers = count(0xC0FFEE)


def use(key: APIKey, hour: datetime, messages: int, channel: str = "bbo") -> None:
    """Post messages of an hour to the ledger, as a batch of its own."""
    line = UsageLine(key.pk, channel, messages, 0, 0)
    batch = make_batch(line, worker=f"{next(_workers):032x}", hour=hour)
    assert ingest(batch)


def line_amounts(invoice: Invoice) -> dict[str, Decimal]:
    """Amounts by code."""
    return {line.code: line.amount for line in invoice.lines.all()}


def units_billed(tenant: Tenant) -> int:
    """Messages on all finalized invoices of a tenant."""
    return sum(
        source["units"]
        for invoice in Invoice.objects.finalized().filter(tenant=tenant)
        for line in invoice.lines.all()
        for source in line.sources
        if source["metric"] == Metric.MESSAGES
    )
