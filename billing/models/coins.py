"""What was used, by coin: messages and bytes of a day, and the minutes in which a coin was
followed."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from billing.models.usage import ZERO_RATED, RollupQuerySet, account_of_tenant
from tenants.models import APIKey, Tenant


class CoinRollup(models.Model):
    """What one key got on one channel of one coin in a UTC day.

    Over all coins it is the `DailyRollup` of the same key, account, day, channel and reason,
    exactly. `coin` is empty for what is of no one coin. Coins beyond the 50 with most messages of a
    key and day are `other`. It cannot be made again from the ledger, which does not know coins.
    """

    tenant = models.ForeignKey(
        Tenant, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    # Without a database constraint, as in the other rollups.
    key = models.ForeignKey(
        APIKey, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+"
    )
    day = models.DateField()
    channel = models.CharField(max_length=32)
    coin = models.CharField(max_length=16, blank=True, default="")
    zero_rated = models.CharField(max_length=16, blank=True, default="", help_text=ZERO_RATED)
    messages = models.BigIntegerField()
    bytes = models.BigIntegerField()
    account = account_of_tenant()

    objects = RollupQuerySet["CoinRollup"].as_manager()

    class Meta:
        ordering = ["-day", "key_id", "channel", "coin"]
        constraints = [
            models.UniqueConstraint(
                fields=["day", "key", "account", "channel", "coin", "zero_rated"],
                name="usage_coin_one_sum",
            ),
            models.CheckConstraint(
                condition=Q(messages__gte=0, bytes__gte=0), name="usage_coin_not_negative"
            ),
        ]
        indexes = [models.Index(fields=["tenant", "day"], name="usage_coin_tenant_day")]

    def __str__(self) -> str:
        return f"{self.day} {self.channel} {self.coin}: {self.messages}"


class CoinHour(models.Model):
    """In which minutes of a UTC hour a key followed a coin: bit n of `minutes` is minute n.

    However many connections, channels and processes followed it, a minute is one coin-minute; the
    ledger has as many of the key and hour as there are bits.
    """

    key = models.ForeignKey(
        APIKey, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    coin = models.CharField(max_length=16)
    hour = models.DateTimeField()
    minutes = models.BigIntegerField()

    class Meta:
        ordering = ["-hour", "key_id", "coin"]
        constraints = [
            models.UniqueConstraint(fields=["hour", "key", "coin"], name="usage_coin_hour_one"),
            models.CheckConstraint(
                condition=Q(minutes__gte=0, minutes__lt=1 << 60), name="usage_coin_hour_of_sixty"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H:00} {self.coin}: {self.count}"

    @property
    def count(self) -> int:
        """How many minutes these are."""
        return self.minutes.bit_count()
