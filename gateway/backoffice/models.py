"""What the traffic costs us, which is nobody's business but the operators'."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q


def rate_field(**options: Any) -> models.DecimalField:
    """US dollars a unit, to a thousandth of a cent."""
    return models.DecimalField(
        max_digits=14,
        decimal_places=5,
        default=Decimal(0),
        validators=[MinValueValidator(Decimal(0))],
        **options,
    )


def validate_first(day: date) -> None:
    """Raises ValidationError unless `day` begins a month: costs are reckoned by whole months."""
    if day.day != 1:
        raise ValidationError("Rates hold for whole months: choose the first of a month.")


class CostRate(models.Model):
    """What we pay for what is delivered, from the month `effective_from` until the next row's."""

    effective_from = models.DateField(unique=True, validators=[validate_first])
    egress_per_gb = rate_field(
        verbose_name="egress, USD a GB", help_text="Of 1,000,000,000 payload bytes."
    )
    per_million_messages = rate_field(verbose_name="USD a million messages")
    per_connection_hour = rate_field(
        verbose_name="USD a connection-hour",
        help_text="Counts once connection-hours are metered; until then it adds nothing.",
    )
    fixed_per_month = models.DecimalField(
        "fixed, USD a month",
        max_digits=14,
        decimal_places=2,
        default=Decimal(0),
        validators=[MinValueValidator(Decimal(0))],
        help_text="Machines, people: not divided among tenants.",
    )
    note = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["-effective_from"]
        constraints = [
            models.CheckConstraint(
                condition=Q(
                    egress_per_gb__gte=0,
                    per_million_messages__gte=0,
                    per_connection_hour__gte=0,
                    fixed_per_month__gte=0,
                ),
                name="cost_rate_not_negative",
            )
        ]

    def __str__(self) -> str:
        return f"costs from {self.effective_from:%Y-%m}"
