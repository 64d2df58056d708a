"""When a tenant was ours, a demo or a customer."""

from __future__ import annotations

from typing import TypeVar

from django.db import models
from django.db.models import F, Q

from billing.append_only import AppendOnlyModel, AppendOnlyQuerySet
from tenants.models import Tenant

_Row = TypeVar("_Row", bound=models.Model)


class KeptRows(AppendOnlyQuerySet[_Row]):
    """Rows that are written once."""


class KindChange(AppendOnlyModel):
    """A tenant became of another kind at `at`, when its usage account stood at `position`.

    A tenant without rows has been of its kind since it was made. `number` counts from 1 for each.
    """

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="kind_changes")
    number = models.PositiveIntegerField()
    at = models.DateTimeField()
    position = models.BigIntegerField()
    before = models.CharField(max_length=10, choices=Tenant.Kind.choices)
    after = models.CharField(max_length=10, choices=Tenant.Kind.choices)

    objects = KeptRows["KindChange"].as_manager()

    class Meta:
        ordering = ["tenant", "number"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "number"], name="kind_change_one_number"),
            models.CheckConstraint(
                condition=Q(number__gte=1, position__gte=0) & ~Q(before=F("after")),
                name="kind_change_is_one",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.tenant_id} {self.before} → {self.after} {self.at:%Y-%m-%d %H:%M}"
