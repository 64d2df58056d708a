"""What was used: the batches that arrived, the ledger they were posted to, and its sums by hour,
day and month."""

from __future__ import annotations

from typing import TypeVar

from django.db import models
from django.db.models import F, Q, Value
from django.db.models.functions import Coalesce
from django.utils import timezone

from billing.append_only import AppendOnlyModel, AppendOnlyQuerySet
from tenants.models import APIKey, Tenant

_Row = TypeVar("_Row", bound=models.Model)

#: The number of the account for usage that belongs to no tenant.
SUSPENSE = 0
#: What the first seal of an account names as the one before.
NO_SEAL = "0" * 64
ZERO_RATED = "Why it is free of charge; empty for what is charged."
#: The coins that are not kept by name.
OTHER_COINS = "other"


class Metric(models.TextChoices):
    """What is counted."""

    MESSAGES = "messages", "messages"
    BYTES = "bytes", "bytes"
    REQUESTS = "requests", "requests"
    COIN_MINUTES = "coin_minutes", "coin-minutes"
    ARCHIVE_BYTES = "archive_bytes", "bytes of archive"


class UsageBatchQuerySet(AppendOnlyQuerySet["UsageBatch"]):
    """Batches, for good."""


class UsageBatch(AppendOnlyModel):
    """A batch that has been counted. Its row is what makes a second copy of it count nothing, so it
    is never deleted.

    The totals are control totals: those of its ledger entries must be the same.
    """

    worker = models.CharField(max_length=32)
    flush_seq = models.BigIntegerField()
    hour = models.DateTimeField()
    region = models.CharField(
        max_length=32, blank=True, default="", help_text="Where it was delivered; empty: not told."
    )
    received_at = models.DateTimeField(default=timezone.now)
    line_count = models.PositiveIntegerField()
    message_total = models.BigIntegerField()
    byte_total = models.BigIntegerField(default=0)
    request_total = models.BigIntegerField(default=0)
    entry_count = models.PositiveIntegerField(
        null=True, help_text="Ledger entries; empty for a batch from before there was a ledger."
    )

    objects = UsageBatchQuerySet.as_manager()

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


class Account(models.Model):
    """The usage account of one tenant: entries are posted to it, and sealed, in one order.

    Its number is the tenant's id; the suspense account, for usage of keys that are in no table, is
    number 0. Whoever posts or seals locks this row, so positions have no holes.
    """

    number = models.BigIntegerField(primary_key=True)
    # Not one-to-one: a second unique index makes InnoDB's upserts of neighbouring rows deadlock,
    # and the check below says as much.
    tenant = models.ForeignKey(
        Tenant, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    last_position = models.BigIntegerField(default=0, help_text="How many entries were posted.")
    sealed_position = models.BigIntegerField(default=0, help_text="How many of them are sealed.")

    class Meta:
        ordering = ["number"]
        constraints = [
            models.CheckConstraint(
                # Without the first half a NULL would make it neither true nor false, which passes.
                condition=Q(tenant__isnull=False, number=F("tenant_id"))
                | Q(tenant__isnull=True, number=SUSPENSE),
                name="usage_account_is_its_tenants",
            ),
        ]

    def __str__(self) -> str:
        return f"account {self.number}" if self.number else "suspense account"


class LedgerQuerySet(AppendOnlyQuerySet[_Row]):
    """Rows of accounts, by tenant."""

    def for_tenant(self, tenant: Tenant | int) -> LedgerQuerySet[_Row]:
        """Those of one tenant."""
        return self.filter(account=tenant if isinstance(tenant, int) else tenant.pk)


class LedgerEntry(AppendOnlyModel):
    """Units of one metric that one key used on one channel in one UTC hour, as one batch told.

    `position` counts from 1 in each account, in the order of posting. `hour` is the hour of the
    usage, also for what arrives late.
    """

    account = models.ForeignKey(
        Account, on_delete=models.PROTECT, related_name="entries", db_index=False
    )
    position = models.BigIntegerField()
    batch = models.ForeignKey(UsageBatch, on_delete=models.PROTECT, related_name="entries")
    hour = models.DateTimeField()
    # Without a database constraint, as in the rollups.
    key = models.ForeignKey(
        APIKey, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    metric = models.CharField(max_length=16, choices=Metric.choices)
    channel = models.CharField(max_length=32)
    zero_rated = models.CharField(max_length=16, blank=True, default="", help_text=ZERO_RATED)
    units = models.BigIntegerField()

    objects = LedgerQuerySet["LedgerEntry"].as_manager()

    class Meta:
        verbose_name_plural = "ledger entries"
        ordering = ["account", "position"]
        constraints = [
            models.UniqueConstraint(fields=["account", "position"], name="usage_entry_one_place"),
            models.CheckConstraint(
                condition=Q(units__gte=1, position__gte=1), name="usage_entry_positive"
            ),
        ]
        indexes = [models.Index(fields=["hour", "account"], name="usage_entry_hour_account")]

    def __str__(self) -> str:
        return f"{self.account_id}/{self.position}: {self.units} {self.metric} {self.channel}"


class LedgerSeal(AppendOnlyModel):
    """The link of an account's hash chain that covers the entries `first_position` to
    `last_position`.

    `hour` is the last UTC hour that had ended when it was made, by the sealer's clock; the entries
    are of the hours `first_hour` to `last_hour`. Hashes are SHA-256 in hex of the bytes that
    `metering/chain.py` describes.
    """

    account = models.ForeignKey(
        Account, on_delete=models.PROTECT, related_name="seals", db_index=False
    )
    number = models.BigIntegerField()
    hour = models.DateTimeField()
    first_position = models.BigIntegerField()
    last_position = models.BigIntegerField()
    first_hour = models.DateTimeField()
    last_hour = models.DateTimeField()
    entries_sha256 = models.CharField(max_length=64)
    previous_sha256 = models.CharField(max_length=64)
    sha256 = models.CharField(max_length=64)

    objects = LedgerQuerySet["LedgerSeal"].as_manager()

    class Meta:
        ordering = ["account", "number"]
        constraints = [
            models.UniqueConstraint(fields=["account", "number"], name="usage_seal_one_number"),
            models.UniqueConstraint(fields=["account", "hour"], name="usage_seal_one_an_hour"),
            models.CheckConstraint(
                condition=Q(
                    number__gte=1, first_position__gte=1, last_position__gte=F("first_position")
                ),
                name="usage_seal_covers_entries",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.account_id} seal {self.number} {self.sha256[:12]}"


class RollupQuerySet(models.QuerySet[_Row]):
    """Sums of the ledger, by tenant."""

    def for_tenant(self, tenant: Tenant | int) -> RollupQuerySet[_Row]:
        """Those of one tenant."""
        return self.filter(tenant=tenant)


def account_of_tenant() -> models.GeneratedField:
    """The number of the account that a row's `tenant` has, never NULL: so it can be part of a
    unique key, which a tenant that may be empty cannot. The database fills it in, for whoever
    inserts."""
    number = models.BigIntegerField()
    expression = Coalesce("tenant", Value(SUSPENSE), output_field=number)
    return models.GeneratedField(expression=expression, output_field=number, db_persist=True)


class Rollup(models.Model):
    """Units of one metric that one key used on one channel in one UTC period, as posted to one
    account.

    A sum of ledger entries that can be made again from them at any time. `tenant` is empty for a
    key id that is in no table: the units are kept, and on nobody's bill. A key that becomes known
    later has a sum of each account.
    """

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
    zero_rated = models.CharField(max_length=16, blank=True, default="", help_text=ZERO_RATED)
    units = models.BigIntegerField()
    account = account_of_tenant()

    class Meta:
        abstract = True


class UsageRollup(Rollup):
    """The sums of the hour that begins at `hour`."""

    hour = models.DateTimeField()

    objects = RollupQuerySet["UsageRollup"].as_manager()

    class Meta:
        ordering = ["-hour", "key_id", "metric", "channel"]
        constraints = [
            models.UniqueConstraint(
                fields=["hour", "key", "account", "metric", "channel", "zero_rated"],
                name="usage_rollup_one_sum",
            ),
            models.CheckConstraint(
                condition=Q(units__gte=0), name="usage_rollup_units_not_negative"
            ),
        ]
        indexes = [models.Index(fields=["tenant", "hour"], name="usage_rollup_tenant_hour")]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H:00} {self.metric} {self.channel}: {self.units}"


class DailyRollup(Rollup):
    """The sums of a UTC day."""

    day = models.DateField()

    objects = RollupQuerySet["DailyRollup"].as_manager()

    class Meta:
        ordering = ["-day", "key_id", "metric", "channel"]
        constraints = [
            models.UniqueConstraint(
                fields=["day", "key", "account", "metric", "channel", "zero_rated"],
                name="usage_daily_one_sum",
            ),
            models.CheckConstraint(condition=Q(units__gte=0), name="usage_daily_not_negative"),
        ]
        indexes = [models.Index(fields=["tenant", "day"], name="usage_daily_tenant_day")]

    def __str__(self) -> str:
        return f"{self.day} {self.metric} {self.channel}: {self.units}"


class MonthlyRollup(Rollup):
    """The sums of a UTC month, named by its first day."""

    month = models.DateField()

    objects = RollupQuerySet["MonthlyRollup"].as_manager()

    class Meta:
        ordering = ["-month", "key_id", "metric", "channel"]
        constraints = [
            models.UniqueConstraint(
                fields=["month", "key", "account", "metric", "channel", "zero_rated"],
                name="usage_monthly_one_sum",
            ),
            models.CheckConstraint(condition=Q(units__gte=0), name="usage_monthly_not_negative"),
        ]
        indexes = [models.Index(fields=["tenant", "month"], name="usage_monthly_tenant_month")]

    def __str__(self) -> str:
        return f"{self.month:%Y-%m} {self.metric} {self.channel}: {self.units}"
