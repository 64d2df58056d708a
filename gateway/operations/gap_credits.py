"""Gap ledger → proposed credits and notices, for the tenants that followed what was lost.

An hour is looked at when it and its late usage are over. In it a tenant is short in the minutes in
which a coin of a gap was followed by one of its keys that was also delivered the gap's channel: the
exact minutes that coin-minutes are counted from. Whatever is found is one credit a tenant and hour,
to be approved by a person, so looking again, twice at once, or after having been stopped changes
nothing. Gaps of topics without a coin (users' topics, raw streams) are not credited by themselves.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import structlog
from prometheus_client import Counter

from billing.invoicing.adjusting import propose_sla_credit
from billing.models import CoinHour, UsageRollup
from streaming.nodes.models import GapRecord
from tenants.models import Tenant
from tenants.notices.services import notify
from tenants.selectors import tenant_ids_of_keys

log = structlog.get_logger(__name__)
FAILED = Counter("relay_gap_credits_failed", "Tenants' hours with gaps whose credit met an error.")

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
#: Usage of an hour has arrived by then, but for edges that were cut off for longer.
SETTLED_AFTER = timedelta(hours=2)
#: Hours looked at again at each turn: a job that was away for a day finds what it missed.
LOOKS_BACK = timedelta(hours=26)
#: Of a block. A gap is known by its places; this is how long it lasted.
BLOCK = timedelta(milliseconds=70)


class Gap(NamedTuple):
    """The minutes of an hour in which a channel of a coin was not whole, as bits."""

    channel: str
    coin: str
    minutes: int


def credit_gaps(now: datetime) -> int:
    """Propose what is due for the settled hours up to `now`; answers how many tenants and hours
    were short."""
    last = (now - SETTLED_AFTER).replace(minute=0, second=0, microsecond=0)
    short = 0
    hour = last - LOOKS_BACK
    while hour <= last:
        short += _credit_hour(hour)
        hour += HOUR
    return short


def _credit_hour(hour: datetime) -> int:
    gaps = list(gaps_of(hour))
    if not gaps:
        return 0
    found = short_minutes(hour, gaps)
    for tenant in Tenant.objects.filter(pk__in=found):
        try:
            _credit(tenant, hour, gaps, found[tenant.pk])
        except Exception:
            # One tenant's books stop no other's; its hour is looked at again at the next turn.
            FAILED.inc()
            log.exception("gap_credit_failed", tenant=tenant.pk, hour=hour.isoformat())
    return len(found)


def _credit(tenant: Tenant, hour: datetime, gaps: Sequence[Gap], short: int) -> None:
    coins = ", ".join(sorted({gap.coin for gap in gaps})[:5])
    reason = f"{short.bit_count()} minutes with gaps ({coins})"
    origin = f"gaps:{hour:%Y-%m-%dT%H}"
    windows = windows_of(hour, short)
    propose_sla_credit(tenant, windows, reason=reason, origin=origin, what=reason)
    notify(
        tenant=tenant,
        kind="gap.recorded",
        payload={
            "stream": ", ".join(sorted({gap.channel for gap in gaps})),
            "from": hour.isoformat(),
            "to": (hour + HOUR).isoformat(),
            "reason": reason,
        },
        dedupe=origin,
    )


def gaps_of(hour: datetime) -> Iterable[Gap]:
    """What the gap ledger has of the hour that begins at `hour`."""
    rows = GapRecord.objects.filter(
        detected_at__gte=hour, detected_at__lt=hour + 2 * HOUR, filled_at=None
    ).exclude(coin="")
    masks: dict[tuple[str, str], int] = defaultdict(int)
    for row in rows.iterator():
        began = row.detected_at - max(0, row.to_height - row.from_height) * BLOCK
        masks[row.kind, row.coin] |= minutes_between(hour, began, row.detected_at)
    return [Gap(kind, coin, mask) for (kind, coin), mask in sorted(masks.items()) if mask]


def minutes_between(hour: datetime, start: datetime, end: datetime) -> int:
    """The minutes of an hour that `[start, end]` touches, as bits."""
    first = max(0, (start - hour) // MINUTE)
    last = min(59, (end - hour) // MINUTE)
    return 0 if last < first else (1 << (last + 1)) - (1 << first)


def windows_of(hour: datetime, minutes: int) -> list[tuple[datetime, datetime]]:
    """The minutes of an hour that a mask has, as half-open windows."""
    return [(hour + n * MINUTE, hour + (n + 1) * MINUTE) for n in range(60) if minutes >> n & 1]


def short_minutes(hour: datetime, gaps: Iterable[Gap]) -> dict[int, int]:
    """By tenant id the minutes in which it was short of something it followed."""
    of_coin: dict[str, list[Gap]] = defaultdict(list)
    for gap in gaps:
        of_coin[gap.coin].append(gap)
    delivered = set(
        UsageRollup.objects.filter(hour=hour, channel__in={gap.channel for gap in gaps})
        .values_list("key_id", "channel")
        .distinct()
    )
    of_key: dict[int, int] = defaultdict(int)
    followed = CoinHour.objects.filter(hour=hour, coin__in=of_coin)
    for key_id, coin, minutes in followed.values_list("key_id", "coin", "minutes").iterator():
        for gap in of_coin[coin]:
            if (key_id, gap.channel) in delivered:
                of_key[key_id] |= minutes & gap.minutes
    short = {key_id: minutes for key_id, minutes in of_key.items() if minutes}
    of_tenant: dict[int, int] = defaultdict(int)
    for key_id, tenant_id in tenant_ids_of_keys(short).items():
        of_tenant[tenant_id] |= short[key_id]
    return dict(of_tenant)
