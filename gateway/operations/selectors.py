"""Reads of the status page, the dashboard and their feeds: five queries, however much there is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db.models import Prefetch, Q, QuerySet

from gateway.operations.models import Announcement, Freshness, Incident, IncidentUpdate
from streaming.nodes.models import GapRecord

Span = Freshness.Span
DAYS = 90
#: Measurements older than this say nothing of now: the jobs, or their Redis, stand still.
LATE = timedelta(minutes=3)
INCIDENT_DAYS = 30
#: Gaps read for the page; of each there may be a row for every edge and topic.
GAPS_READ = 500
GAPS_SHOWN = 50
#: Of a block: gaps are known by their places.
BLOCK_S = 0.07


#: In the gap ledger: a time, and a row among those of that time.
Place = tuple[datetime, int]


@dataclass(frozen=True, slots=True)
class Gap:
    """A hole as customers are told of it, whoever met it. `seconds` is None where places are not
    blocks. `coin` is "" for what has none; users are never named."""

    feed: str
    coin: str
    from_height: int
    to_height: int
    seconds: float | None
    reason: str
    at: datetime
    is_filled: bool


@dataclass(frozen=True, slots=True)
class Day:
    """One day of one subject; `looks` 0 where nothing was measured."""

    start: datetime
    looks: int = 0
    fresh: int = 0

    @property
    def share(self) -> float | None:
        """How much of what was measured was fresh, 0 to 1."""
        return self.fresh / self.looks if self.looks else None


@dataclass(frozen=True, slots=True)
class History:
    """A subject as it was last seen, and as it was. Ages in ms, None where nobody knows."""

    subject: str
    seen_at: datetime | None
    is_fresh: bool | None
    age_ms: int | None
    mean_age_ms: int | None
    worst_age_ms: int | None
    last_24h: float | None
    days: tuple[Day, ...]

    @property
    def uptime(self) -> float | None:
        """Of all the days, 0 to 1."""
        looks = sum(day.looks for day in self.days)
        return sum(day.fresh for day in self.days) / looks if looks else None


def announcements(now: datetime) -> QuerySet[Announcement]:
    """What customers are to see now, newest first."""
    begun = Announcement.objects.filter(starts_at__lte=now)
    return begun.filter(Q(ends_at=None) | Q(ends_at__gt=now))


def under_way(now: datetime) -> QuerySet[Incident]:
    """Incidents that have begun and are not resolved."""
    return Incident.objects.filter(resolved_at=None, started_at__lte=now)


def incidents(now: datetime) -> list[Incident]:
    """Open ones, and those of the last days, newest first, with their updates. Two queries."""
    wanted = Q(resolved_at=None) | Q(resolved_at__gte=now - timedelta(days=INCIDENT_DAYS))
    said = Prefetch("updates", IncidentUpdate.objects.order_by("-at", "-pk"))
    return list(Incident.objects.filter(wanted).prefetch_related(said)[:50])


def newest_updates(count: int = 50) -> list[IncidentUpdate]:
    """For feed readers."""
    return list(IncidentUpdate.objects.select_related("incident")[:count])


def gaps(*, before: Place | None = None, count: int = GAPS_SHOWN) -> tuple[list[Gap], Place | None]:
    """What customers missed, newest first, each hole once whoever met it; and where the older ones
    begin, None where there are none. One query."""
    rows = GapRecord.objects.order_by("-detected_at", "-pk")
    if before is not None:
        at, pk = before
        rows = rows.filter(Q(detected_at__lt=at) | Q(detected_at=at, pk__lt=pk))
    found: dict[tuple[str, str, int, int, str], Gap] = {}
    last: Place | None = None
    for n, row in enumerate(rows[: GAPS_READ + 1]):
        gap = _gap(row)
        hole = (gap.feed, gap.coin, gap.from_height, gap.to_height, gap.reason)
        if n == GAPS_READ or (len(found) >= count and hole not in found):
            return list(found.values()), last
        found.setdefault(hole, gap)
        last = (row.detected_at, row.pk)
    return list(found.values()), None


def _gap(row: GapRecord) -> Gap:
    # A topic of a user names the user: only its kind is told.
    blocks = row.to_height - row.from_height
    return Gap(
        feed=row.kind,
        coin=row.coin,
        from_height=row.from_height,
        to_height=row.to_height,
        seconds=round(max(blocks, 1) * BLOCK_S, 2) if row.source == "node" else None,
        reason=row.reason,
        at=row.detected_at,
        is_filled=row.filled_at is not None,
    )


def histories(now: datetime) -> list[History]:
    """Every subject of the last 90 days. Two queries."""
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    first = today - timedelta(days=DAYS - 1)
    days: dict[str, dict[datetime, Freshness]] = {}
    for row in Freshness.objects.filter(span=Span.DAY, start__gte=first):
        days.setdefault(row.subject, {})[row.start.astimezone(UTC)] = row
    hours: dict[str, list[Freshness]] = {}
    minutes: dict[str, Freshness] = {}
    recent = Q(span=Span.HOUR, start__gt=now - timedelta(hours=24)) | Q(
        span=Span.MINUTE, start__gt=now - timedelta(minutes=10)
    )
    for row in Freshness.objects.filter(recent).order_by("start"):
        if row.span == Span.HOUR:
            hours.setdefault(row.subject, []).append(row)
        else:
            minutes[row.subject] = row
    return [
        _history(subject, minutes.get(subject), hours.get(subject, []), rows, first)
        for subject, rows in sorted(days.items())
    ]


def _history(
    subject: str,
    last: Freshness | None,
    hours: Iterable[Freshness],
    days: dict[datetime, Freshness],
    first: datetime,
) -> History:
    of_day = list(hours)
    looks, aged = sum(row.looks for row in of_day), sum(row.aged for row in of_day)
    starts = (first + timedelta(days=n) for n in range(DAYS))
    return History(
        subject=subject,
        seen_at=last.start if last else None,
        is_fresh=bool(last.fresh) if last else None,
        age_ms=last.age_ms_sum if last and last.aged else None,
        mean_age_ms=sum(row.age_ms_sum for row in of_day) // aged if aged else None,
        worst_age_ms=max((row.age_ms_max for row in of_day), default=0) if aged else None,
        last_24h=sum(row.fresh for row in of_day) / looks if looks else None,
        days=tuple(
            Day(start, days[start].looks, days[start].fresh) if start in days else Day(start)
            for start in starts
        ),
    )
