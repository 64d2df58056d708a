"""Gross margin: what each tenant and plan brings in a month, less what its traffic costs.

Costs are those of all that was delivered, also free of charge, from the monthly rollups. A month
that is over brings what was finalized for it; the running one, so far, the part of its plan's fee
that has passed (what is beyond the included comes with the invoice) and what was finalized.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal

from django.db.models import Sum

from billing.models import CreditNote, Invoice, Metric, MonthlyRollup
from billing.rating.money import rounded
from gateway.backoffice.charts import months
from gateway.backoffice.fees import monthly_fees
from gateway.backoffice.models import CostRate
from tenants.models import PlanSubscription, Tenant

ZERO = Decimal(0)
GB = Decimal(1_000_000_000)
MILLION = Decimal(1_000_000)
#: As a meter of connections would name it in the rollups.
CONNECTION_HOURS = "connection_hours"


@dataclass(slots=True)
class Row:
    """Of one tenant or plan: revenue and cost of last month and of this one so far, in USD."""

    name: str
    plan: str = ""
    plan_id: int = 0
    tenant_id: int | None = None
    revenue: list[Decimal] = field(default_factory=lambda: [ZERO, ZERO])
    cost: list[Decimal] = field(default_factory=lambda: [ZERO, ZERO])

    @property
    def margin(self) -> list[Decimal]:
        """Revenue less cost."""
        return [brought - cost for brought, cost in zip(self.revenue, self.cost, strict=True)]

    @property
    def percent(self) -> list[Decimal | None]:
        """Of the revenue; None where there is none."""
        pairs = zip(self.margin, self.revenue, strict=True)
        return [100 * margin / revenue if revenue > 0 else None for margin, revenue in pairs]

    def add(self, other: Row) -> None:
        """Take in another row's sums."""
        for mine, theirs in ((self.revenue, other.revenue), (self.cost, other.cost)):
            for place, amount in enumerate(theirs):
                mine[place] += amount


@dataclass(frozen=True, slots=True)
class Margins:
    """All rows of two months; `months` are their first days, `fixed` what is divided among nobody.
    The lowest margin of this month comes first."""

    months: tuple[date, date]
    tenants: list[Row]
    plans: list[Row]
    total: Row
    fixed: tuple[Decimal, Decimal]
    rates: tuple[CostRate | None, CostRate | None]


def margins(now: datetime) -> Margins:
    """The margins of last month and of this one so far. Eight queries, however many tenants."""
    spans = months(now, 2)
    firsts = (spans[0][0].date(), spans[1][0].date())
    rates = (rate_of(firsts[0]), rate_of(firsts[1]))
    rows = _tenants()
    for place, (start, end) in enumerate(spans):
        for tenant_id, amount in _earned(start, end).items():
            if tenant_id in rows:
                rows[tenant_id].revenue[place] += amount
        for tenant_id, amount in _costs(firsts[place], rates[place]).items():
            if tenant_id in rows:
                rows[tenant_id].cost[place] += amount
    start, end = spans[1]
    passed = Decimal((now - start).total_seconds()) / Decimal((end - start).total_seconds())
    for tenant_id, fee in _fees().items():
        if tenant_id in rows:
            rows[tenant_id].revenue[1] += rounded(fee * passed)
    return Margins(
        months=firsts,
        tenants=sorted(rows.values(), key=lambda row: (row.margin[1], row.margin[0], row.name)),
        plans=_by_plan(rows.values()),
        total=_summed("all", rows.values()),
        fixed=(_fixed(rates[0]), _fixed(rates[1])),
        rates=rates,
    )


def rate_of(month: date) -> CostRate | None:
    """What a month's traffic costs; None before the first rate."""
    return CostRate.objects.filter(effective_from__lte=month).first()


def cost_of(units: Mapping[str, int], rate: CostRate | None) -> Decimal:
    """What units by metric cost, in USD, to the cent."""
    if rate is None:
        return ZERO
    return rounded(
        units.get(Metric.BYTES, 0) / GB * rate.egress_per_gb
        + units.get(Metric.MESSAGES, 0) / MILLION * rate.per_million_messages
        + units.get(CONNECTION_HOURS, 0) * rate.per_connection_hour
    )


def _fixed(rate: CostRate | None) -> Decimal:
    return rate.fixed_per_month if rate else ZERO


def _tenants() -> dict[int, Row]:
    rows = {
        pk: Row(name=name, tenant_id=pk) for pk, name in Tenant.objects.values_list("pk", "name")
    }
    current = PlanSubscription.objects.current().order_by()
    for tenant_id, plan_id, plan in current.values_list("tenant", "plan", "plan__name"):
        rows[tenant_id].plan_id, rows[tenant_id].plan = plan_id, plan
    return rows


def _earned(start: datetime, end: datetime) -> dict[int, Decimal]:
    ended = {"period_end__gt": start, "period_end__lte": end}
    invoices = Invoice.objects.finalized().filter(**ended).order_by()
    notes = CreditNote.objects.filter(
        state=CreditNote.State.ISSUED,
        **{f"invoice__{name}": value for name, value in ended.items()},
    ).order_by()
    found: dict[int, Decimal] = defaultdict(Decimal)
    # Added up here: SQLite would add floats.
    for tenant_id, amount in invoices.values_list("tenant", "subtotal"):
        found[tenant_id] += amount
    for tenant_id, amount in notes.values_list("invoice__tenant", "subtotal"):
        found[tenant_id] -= amount
    return found


def _costs(month: date, rate: CostRate | None) -> dict[int, Decimal]:
    if rate is None:
        return {}
    rows = (
        MonthlyRollup.objects.filter(month=month, tenant__isnull=False)
        .order_by()
        .values_list("tenant", "metric")
        .annotate(total=Sum("units"))
    )
    units: dict[int, dict[str, int]] = defaultdict(dict)
    for tenant_id, metric, total in rows:
        units[tenant_id][metric] = int(total)
    return {tenant_id: cost_of(of, rate) for tenant_id, of in units.items()}


def _fees() -> dict[int, Decimal]:
    fees = monthly_fees().of_version
    paying = (
        PlanSubscription.objects.current()
        .filter(tenant__kind=Tenant.Kind.EXTERNAL, tenant__suspended_at=None)
        .order_by()
        .values_list("tenant", "plan", "version")
    )
    return {tenant: fees.get((plan, version), ZERO) for tenant, plan, version in paying}


def _by_plan(rows: Iterable[Row]) -> list[Row]:
    found: dict[int, Row] = {}
    for row in rows:
        found.setdefault(row.plan_id, Row(name=row.plan or "no plan")).add(row)
    return sorted(found.values(), key=lambda row: (row.margin[1], row.name))


def _summed(name: str, rows: Iterable[Row]) -> Row:
    total = Row(name=name)
    for row in rows:
        total.add(row)
    return total
