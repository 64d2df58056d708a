"""`manage.py show_plans`: every published version, what it costs, and who is on it."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand
from django.db.models import Count
from django.utils import timezone

from billing.models import AddOnVersion, PlanVersion
from billing.rating.money import render
from billing.rating.prices import Interval, PlanPrices
from tenants.models import PlanSubscription


class Command(BaseCommand):
    """One line for each version; `*` marks what a new subscriber gets."""

    help = "Show the published versions of plans and add-ons, and how many tenants are on each."

    def handle(self, *args: Any, **options: Any) -> None:
        now = timezone.now()
        on = {
            (plan, version): count
            for plan, version, count in PlanSubscription.objects.current()
            .order_by()
            .values_list("plan", "version")
            .annotate(count=Count("pk"))
        }
        rows = PlanVersion.objects.select_related("plan").order_by("plan__code", "version")
        newest = {row.plan_id: row.pk for row in rows if row.effective_from <= now}
        for row in rows:
            mark = "*" if newest.get(row.plan_id) == row.pk else " "
            prices = row.prices
            self.stdout.write(
                f"{mark} {row.plan.code:20} {row.version:>3}  {row.effective_from:%Y-%m-%d %H:%M}  "
                f"{render(prices.fee):>10} / {_interval(prices.interval):10} "
                f"{on.get((row.plan_id, row.version), 0):>6} tenants  {_meters(prices)}"
            )
        for version in AddOnVersion.objects.select_related("add_on").order_by("add_on__code"):
            self.stdout.write(
                f"+ {version.add_on.code:20} {version.version:>3}  "
                f"{version.effective_from:%Y-%m-%d %H:%M}  {render(version.prices.fee):>10}"
            )


def _interval(interval: Interval) -> str:
    return interval.unit if interval.every == 1 else f"{interval.every} {interval.unit}s"


def _meters(prices: PlanPrices) -> str:
    return ", ".join(f"{meter.included:,} {meter.code}" for meter in prices.meters)
