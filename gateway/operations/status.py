"""The status page's content, kept for some seconds in the process.

Not in the shared cache: the page must answer when Redis is what failed. What it shows is in the
database, so it costs five queries at most each `KEEP_S`, however many people look.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from django.db import DatabaseError
from django.utils import timezone

from gateway.kept import Kept
from gateway.operations import selectors
from gateway.operations.freshness import FEED
from gateway.operations.models import Announcement, Incident
from gateway.operations.selectors import Gap, History

KEEP_S = 10.0
OPERATIONAL, DEGRADED, DOWN, UNKNOWN = "operational", "degraded", "down", "unknown"

_edge_says: Callable[[], str | None] | None = None


def plug(edge_says: Callable[[], str | None]) -> None:
    """Let the process that serves the page say why it has nothing fresh; called in its loop."""
    global _edge_says
    _edge_says = edge_says


def edge_problem() -> str | None:
    """Why this process has nothing fresh to serve, None when it has or serves nothing."""
    return _edge_says() if _edge_says is not None else None


def edge_state() -> str:
    """What this process would say of the whole by what it sees itself."""
    if _edge_says is None:
        return UNKNOWN
    return DOWN if _edge_says() else OPERATIONAL


@dataclass(frozen=True, slots=True)
class Status:
    """What the page shows. `is_late`: nothing was measured lately, so nobody knows how it is now.
    `is_readable` is False where the database did not answer."""

    at: datetime
    measured_at: datetime | None
    feeds: tuple[History, ...] = ()
    upstreams: tuple[History, ...] = ()
    incidents: tuple[Incident, ...] = ()
    announcements: tuple[Announcement, ...] = ()
    gaps: tuple[Gap, ...] = ()
    is_readable: bool = True

    @property
    def is_late(self) -> bool:
        return self.measured_at is None or self.at - self.measured_at > selectors.LATE

    @property
    def open_incidents(self) -> list[Incident]:
        """Those under way, without maintenance still to come."""
        return [i for i in self.incidents if i.resolved_at is None and i.started_at <= self.at]

    @property
    def state(self) -> str:
        """In one word. `unknown` is no promise either way."""
        current = [feed for feed in self.feeds if feed.is_fresh is not None]
        stale = [feed for feed in current if not feed.is_fresh]
        if current and len(stale) == len(current):
            return DOWN
        outage = Incident.Impact.OUTAGE
        if stale or any(i.impact != Incident.Impact.MAINTENANCE for i in self.open_incidents):
            is_out = any(i.impact == outage for i in self.open_incidents)
            return DOWN if is_out else DEGRADED
        return UNKNOWN if self.is_late or not self.is_readable else OPERATIONAL


def read(now: datetime) -> Status:
    """The status from the database. Where that does not answer, one that says so."""
    try:
        found = selectors.histories(now)
        measured = [each.seen_at for each in found if each.seen_at is not None]
        return Status(
            at=now,
            measured_at=max(measured, default=None),
            feeds=tuple(each for each in found if each.subject.startswith(FEED)),
            upstreams=tuple(each for each in found if not each.subject.startswith(FEED)),
            incidents=tuple(selectors.incidents(now)),
            announcements=tuple(selectors.announcements(now)),
            gaps=tuple(selectors.gaps()[0]),
        )
    except DatabaseError:
        return Status(at=now, measured_at=None, is_readable=False)


kept = Kept(lambda: read(timezone.now()), keep_s=KEEP_S)


def current() -> Status:
    """The status as it was within the last `KEEP_S` seconds."""
    status: Status = kept.get()
    return status
