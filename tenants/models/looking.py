"""What is written down of who looked at, and who changed, what belongs to a tenant."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from tenants.models.admission import Tenant


class CustomerView(models.Model):
    """An operator looked at a tenant's pages, as its people see them, for some minutes and a
    reason. It ends by itself at `ends_at`, or earlier at `ended_at`."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="customer_views")
    operator = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="customer_views"
    )
    reason = models.CharField(max_length=200)
    began_at = models.DateTimeField(default=timezone.now)
    ends_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-began_at", "-pk"]
        permissions = [("view_as_customer", "Can look at a customer's pages")]
        constraints = [
            models.CheckConstraint(condition=~Q(reason=""), name="customer_view_has_a_reason"),
            models.CheckConstraint(
                condition=Q(ends_at__gt=F("began_at")), name="customer_view_has_an_end"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.operator} looks at {self.tenant}"

    def is_open(self, now: datetime) -> bool:
        """Whether it still shows anything."""
        return self.ended_at is None and self.began_at <= now < self.ends_at


class TenantLogEntry(models.Model):
    """An entry of the audit that is about something of a tenant: what the entry alone does not
    say once that is gone."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="log_entries")
    entry = models.OneToOneField(
        "auditlog.LogEntry", on_delete=models.CASCADE, related_name="of_tenant"
    )

    class Meta:
        ordering = ["-entry"]
        indexes = [models.Index(fields=["tenant", "entry"], name="tenant_log_entry_order")]

    def __str__(self) -> str:
        return f"{self.tenant_id}: {self.entry_id}"
