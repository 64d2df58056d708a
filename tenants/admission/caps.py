"""What may be used up: allowances of tenants and quotas of keys, and what counts against each.

Pure: times and counts in, decisions out. Amounts are whole millionths of a unit, so that weights of
six decimals add up exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from tenants.admission.errors import QuotaExhausted
from tenants.admission.principal import THRESHOLDS, Allowed, Principal

MICRO = 1_000_000
#: The one that every choice of thresholds has: from there on more is refused, or charged.
USED_UP = 100

MESSAGES, BYTES, REQUESTS = "messages", "bytes", "requests"
#: Counted by the minute, on one channel of its own.
COIN_MINUTES, COINS = "coin_minutes", "coins"
#: What customers read of a key's own quotas.
DAY, MONTH = "key-day", "key-month"


class Usage(NamedTuple):
    """What one key used on one channel: messages, payload bytes, requests."""

    key_id: int
    channel: str
    messages: int
    payload_bytes: int
    requests: int


class Cap(NamedTuple):
    """`units` of something in `[starts_at, ends_at)`.

    `name` is of this one and no other cap and period. It counts `metrics` of `channels`, or, with
    none, of all but `others`; of all keys, or of one family. `weights` are millionths by channel.
    It is told at `thresholds`, in percent.
    """

    name: str
    tenant_id: int
    code: str
    units: int
    starts_at: datetime
    ends_at: datetime
    is_hard: bool
    metrics: tuple[str, ...]
    channels: frozenset[str] = frozenset()
    others: frozenset[str] = frozenset()
    weights: tuple[tuple[str, int], ...] = ()
    family_id: int = 0
    thresholds: tuple[int, ...] = THRESHOLDS

    def covers(self, channel: str) -> bool:
        """Whether what is used on `channel` counts."""
        return channel in self.channels if self.channels else channel not in self.others

    @property
    def is_of_ledger(self) -> bool:
        """Whether it counts what processes do not count as it is used: the database alone knows."""
        return {MESSAGES, BYTES, REQUESTS}.isdisjoint(self.metrics)

    @property
    def is_whole(self) -> bool:
        """Whether it counts every channel: used up, nothing is left to open."""
        return not self.channels and not self.others

    def factors(self, channel: str) -> tuple[int, int, int]:
        """How many millionths of it a message, a byte and a request on `channel` take."""
        weight = dict(self.weights).get(channel, MICRO) if self.covers(channel) else 0
        message, byte, request = (
            weight if metric in self.metrics else 0 for metric in (MESSAGES, BYTES, REQUESTS)
        )
        return message, byte, request

    def micros(self, usage: Usage) -> int:
        """How much of it a use takes, in millionths."""
        message, byte, request = self.factors(usage.channel)
        return usage.messages * message + usage.payload_bytes * byte + usage.requests * request


class Standing(NamedTuple):
    """How much of a cap is used, in units; `threshold` is the highest percentage passed."""

    cap: Cap
    used: int
    threshold: int

    @property
    def is_exhausted(self) -> bool:
        """Whether more is refused."""
        return self.cap.is_hard and self.used >= self.cap.units

    def refusal(self, now: datetime) -> QuotaExhausted:
        """What a customer is told who wants more."""
        return QuotaExhausted(
            allowance=self.cap.code,
            used=self.used,
            limit=self.cap.units,
            resets_at=self.cap.ends_at,
            retry_after_s=max(1.0, (self.cap.ends_at - now).total_seconds()),
        )


def standing(cap: Cap, micros: int) -> Standing:
    """How a cap stands with so many millionths used. A part of a unit is not a unit yet. An
    allowance of nothing is used up by nothing, but passes thresholds only when it is used."""
    used = micros // MICRO
    passed = [
        percent
        for percent in cap.thresholds
        if micros > 0 and 100 * micros >= percent * cap.units * MICRO
    ]
    return Standing(cap, used, max(passed, default=0))


def has_grown(units: int, told: int) -> bool:
    """Whether a cap is so much larger than when something was told of it that it is told again:
    bought, and not a spend cap that moves a little each minute."""
    return 10 * units > 11 * told


def caps_of(principal: Principal, now: datetime) -> tuple[Cap, ...]:
    """What counts for a key at a moment: its tenant's allowances, and its family's own quotas."""
    return (
        *caps_of_allowances(
            principal.tenant_id, principal.allowances, now, thresholds=principal.thresholds
        ),
        *_of_key(principal, now),
    )


def caps_of_allowances(
    tenant_id: int,
    allowances: Iterable[Allowed],
    now: datetime,
    *,
    thresholds: tuple[int, ...] = THRESHOLDS,
) -> tuple[Cap, ...]:
    """The part of it that all keys of a tenant share."""
    current = [row for row in allowances if row.starts_at <= now < row.ends_at]
    return tuple(_of_allowance(tenant_id, row, current, thresholds) for row in current)


def next_change(principal: Principal, now: datetime) -> datetime:
    """Until when `caps_of` says the same: at midnight UTC at the latest."""
    edges = [edge for row in principal.allowances for edge in (row.starts_at, row.ends_at)]
    return min([edge for edge in edges if edge > now] + [_midnight(now) + timedelta(days=1)])


def weight_micros(text: str) -> int:
    """A decimal weight in millionths; finer is rounded down."""
    return math.floor(Decimal(text) * MICRO)


def _of_allowance(
    tenant_id: int, row: Allowed, current: Iterable[Allowed], thresholds: tuple[int, ...]
) -> Cap:
    named = (other.channels for other in current if other.metric == row.metric)
    others: frozenset[str] = frozenset() if row.channels else frozenset().union(*named)
    return Cap(
        name=f"{row.code}:{row.metric}:{row.starts_at:%Y%m%dT%H%M%S}",
        tenant_id=tenant_id,
        code=row.code,
        units=row.units,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        is_hard=row.is_hard,
        metrics=(row.metric,),
        channels=frozenset(row.channels),
        others=others,
        weights=tuple((channel, weight_micros(text)) for channel, text in row.weights),
        thresholds=thresholds,
    )


def _of_key(principal: Principal, now: datetime) -> Iterator[Cap]:
    day = _midnight(now)
    month = day.replace(day=1)
    after = (month + timedelta(days=31)).replace(day=1)
    family_id = principal.family_id or principal.key_id
    spans = (
        (DAY, principal.daily_quota, day, day + timedelta(days=1)),
        (MONTH, principal.monthly_quota, month, after),
    )
    for code, units, starts_at, ends_at in spans:
        if units is not None:
            yield Cap(
                name=f"{code}:{family_id}:{starts_at:%Y%m%d}",
                tenant_id=principal.tenant_id,
                code=code,
                units=units,
                starts_at=starts_at,
                ends_at=ends_at,
                is_hard=True,
                metrics=(MESSAGES, REQUESTS),
                family_id=family_id,
                thresholds=principal.thresholds,
            )


def _midnight(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
