"""How fresh what the relay serves is: its upstreams as the workers see them, and what was lost.

Everybody's, and so without addresses, and without gaps in feeds of users, which name them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from billing.channels import SUBSCRIPTIONS
from gateway.account.errors import BadValue
from gateway.account.paging import DEFAULT_LIMIT, Page, page
from streaming.nodes import live, selectors
from streaming.nodes.models import GapRecord
from streaming.nodes.selectors import LiveSource
from streaming.runtime import staleness_of

#: Feeds whose topics name a user.
USER_CHANNELS = frozenset(
    SUBSCRIPTIONS[SUBSCRIPTIONS.index("orderUpdates") : SUBSCRIPTIONS.index("l2Diff")]
)
MAX_GAP_DAYS = 31


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """One upstream, as the worker that is furthest sees it. `lag` in blocks behind the best,
    `silent_s` since its last message, `block_age_s` of its newest block; None is not known."""

    name: str
    kind: str
    state: str
    height: int | None
    lag: int | None
    silent_s: float | None
    block_age_s: float | None


@dataclass(frozen=True, slots=True)
class Status:
    """`stale` is why what is served is not fresh, "" when it is; `height` the best known;
    `is_known` is False when the workers could not be asked."""

    is_known: bool
    stale: str
    height: int | None
    upstreams: tuple[Upstream, ...]
    gaps_of_a_day: int

    @property
    def is_fresh(self) -> bool:
        """Whether it is known, and nothing is wrong."""
        return self.is_known and not self.stale


def status(*, now: datetime | None = None) -> Status:
    """The relay now. One statement, and Redis; never raises for what is away."""
    at = now or timezone.now()
    gaps = _public_gaps().filter(detected_at__gte=at - timedelta(days=1)).count()
    try:
        workers = live.worker_states()
        sources = selectors.live_sources()
    except live.Unreachable:
        return Status(False, "the workers cannot be asked", None, (), gaps)
    found = _upstreams(sources)
    height = max((one.height for one in found if one.height is not None), default=None)
    return Status(True, staleness_of(workers) or "", height, found, gaps)


def gap_page(
    *,
    since: datetime | None = None,
    channel: str = "",
    coin: str = "",
    cursor: str = "",
    limit: int = DEFAULT_LIMIT,
) -> Page[GapRecord]:
    """Gaps in market data of the last `MAX_GAP_DAYS` days or since a moment of them, the newest
    first. Raises BadValue and BadCursor."""
    now = timezone.now()
    begin = now - timedelta(days=MAX_GAP_DAYS)
    if since is not None and since < begin:
        raise BadValue(_("since: at most %(days)s days back.") % {"days": MAX_GAP_DAYS})
    rows = _public_gaps().filter(detected_at__gte=since or begin)
    if channel:
        rows = rows.filter(kind=channel)
    if coin:
        rows = rows.filter(coin=coin)
    order = ("-detected_at", "-pk")
    return page(rows, order, of="gaps", tenant_id=0, cursor=cursor, limit=limit)


def _public_gaps() -> QuerySet[GapRecord]:
    return GapRecord.objects.exclude(kind__in=USER_CHANNELS)


def _upstreams(sources: Iterable[LiveSource]) -> tuple[Upstream, ...]:
    """Two workers see the same upstream: the one that is further says how it is."""
    best: dict[str, LiveSource] = {}
    for source in sources:
        known = best.get(source.name)
        if known is None or (source.height or 0) > (known.height or 0):
            best[source.name] = source
    return tuple(
        Upstream(
            name=name,
            kind=source.kind,
            state=source.state,
            height=source.height,
            lag=source.lag,
            silent_s=source.silent_s,
            block_age_s=source.block_age_s,
        )
        for name, source in sorted(best.items())
    )
