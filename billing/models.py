"""What was used: the batches that arrived, and the hourly sums they make."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils import timezone

from tenants.models import APIKey, Tenant


class Metric(models.TextChoices):
    """What is counted."""

    MESSAGES = "messages", "messages"
    BYTES = "bytes", "bytes"
    REQUESTS = "requests", "requests"


class UsageBatch(models.Model):
    """A batch that has been counted. Its row is what makes a second copy of it count nothing, so it
    is never deleted."""

    worker = models.CharField(max_length=32)
    flush_seq = models.BigIntegerField()
    hour = models.DateTimeField()
    received_at = models.DateTimeField(default=timezone.now)
    line_count = models.PositiveIntegerField()
    message_total = models.BigIntegerField()

    class Meta:
        verbose_name_plural = "usage batches"
        ordering = ["-received_at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["worker", "flush_seq"], name="usage_batch_counts_once"),
            models.CheckConstraint(condition=Q(flush_seq__gte=1), name="usage_batch_seq_from_one"),
        ]
        indexes = [models.Index(fields=["received_at"], name="usage_batch_received")]

    def __str__(self) -> str:
        return f"{self.worker[:8]} #{self.flush_seq}"


class QuarantinedBatch(models.Model):
    """A batch that could not be read, kept word for word until somebody has looked at it."""

    worker = models.CharField(max_length=64)
    flush_seq = models.BigIntegerField()
    received_at = models.DateTimeField(default=timezone.now)
    reason = models.CharField(max_length=200)
    text = models.TextField()
    digest = models.CharField(max_length=64, unique=True)

    class Meta:
        verbose_name_plural = "quarantined batches"
        ordering = ["-received_at", "-id"]

    def __str__(self) -> str:
        return f"{self.worker[:8]} #{self.flush_seq}: {self.reason}"


class UsageRollupQuerySet(models.QuerySet["UsageRollup"]):
    """Hourly usage, by tenant and time."""

    def for_tenant(self, tenant: Tenant | int) -> UsageRollupQuerySet:
        """That of one tenant."""
        return self.filter(tenant=tenant)


class UsageRollup(models.Model):
    """Units of one metric that one key used on one channel in the UTC hour that begins at `hour`.

    `tenant` is empty for a key id that is in no table: the units are kept, and on nobody's bill.
    """

    hour = models.DateTimeField()
    tenant = models.ForeignKey(
        Tenant, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    # Without a database constraint, because usage of an unknown key must not be lost. Name `key_id`
    # in queries: `key__…`, also in an ordering, joins and so hides those rows.
    key = models.ForeignKey(
        APIKey, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+"
    )
    metric = models.CharField(max_length=16, choices=Metric.choices)
    channel = models.CharField(max_length=32)
    units = models.BigIntegerField()

    objects = UsageRollupQuerySet.as_manager()

    class Meta:
        ordering = ["-hour", "key_id", "metric", "channel"]
        constraints = [
            models.UniqueConstraint(
                fields=["hour", "key", "metric", "channel"], name="usage_rollup_one_sum"
            ),
            models.CheckConstraint(
                condition=Q(units__gte=0), name="usage_rollup_units_not_negative"
            ),
        ]
        indexes = [models.Index(fields=["tenant", "hour"], name="usage_rollup_tenant_hour")]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H:00} {self.metric} {self.channel}: {self.units}"
