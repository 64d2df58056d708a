"""The status in words and pictures. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from gateway.operations.freshness import FEED, UPSTREAM
from gateway.operations.selectors import Day, Gap, History
from gateway.operations.status import Status

FEEDS = {
    "books": gettext_lazy("Books: l2Book, bbo, l2Diff, l4Book"),
    "trades": gettext_lazy("Trades and candles"),
    "orders": gettext_lazy("Order updates"),
    "accounts": gettext_lazy("Fundings and ledger"),
}
KINDS = {
    "node": gettext_lazy("Node"),
    "gateway": gettext_lazy("Node behind a gateway"),
    "public": gettext_lazy("The exchange's public feed"),
}
STATES = {
    "operational": gettext_lazy("All feeds are fresh"),
    "degraded": gettext_lazy("Some of it is impaired"),
    "down": gettext_lazy("Nothing fresh is served"),
    "unknown": gettext_lazy("Not known at the moment"),
}
#: From which share of a day its bar is green, and yellow.
GOOD, FAIR = 0.9995, 0.98
_BAR, _STEP, _HEIGHT = 5, 7, 28


def name_of(subject: str) -> str:
    """A subject in a customer's words; never an address."""
    if subject.startswith(FEED):
        name = subject.removeprefix(FEED)
        return str(FEEDS.get(name, name))
    name = subject.removeprefix(UPSTREAM)
    kind = name.rstrip("0123456789")
    number = name[len(kind) :]
    title = str(KINDS.get(kind, kind))
    return f"{title} {int(number) + 1}" if number else title


def percent(share: float | None) -> str:
    """Never rounded up to 100."""
    if share is None:
        return "–"
    return "100 %" if share == 1 else f"{min(share * 100, 99.999):.3f} %"


def milliseconds(age_ms: int | None) -> str:
    """In the unit a person would use."""
    if age_ms is None:
        return "–"
    return f"{age_ms} ms" if age_ms < 1_000 else f"{age_ms / 1_000:.1f} s"


def bars(days: Iterable[Day], *, label: str) -> SafeString:
    """Ninety days as a picture; classes and not styles, which the page's policy forbids."""
    shapes = []
    nothing = _("not measured")
    for n, day in enumerate(days):
        text = f"{day.start:%Y-%m-%d}: {percent(day.share) if day.looks else nothing}"
        shapes.append(
            f'<rect class="{_level(day)}" x="{n * _STEP}" width="{_BAR}" height="{_HEIGHT}" rx="1">'
            f"<title>{escape(text)}</title></rect>"
        )
    width = max(1, len(shapes)) * _STEP
    return mark_safe(  # noqa: S308  # ours, and escaped
        f'<svg class="pub-days" viewBox="0 0 {width} {_HEIGHT}" preserveAspectRatio="none" '
        f'role="img" aria-label="{escape(label)}">{"".join(shapes)}</svg>'
    )


def _level(day: Day) -> str:
    share = day.share
    if share is None:
        return "none"
    return "good" if share >= GOOD else "fair" if share >= FAIR else "poor"


def row(history: History, *, is_late: bool) -> dict[str, Any]:
    """A subject as the page shows it."""
    known = None if is_late else history.is_fresh
    return {
        "name": (name := name_of(history.subject)),
        "is_fresh": known,
        "age": milliseconds(None if is_late else history.age_ms),
        "mean_age": milliseconds(history.mean_age_ms),
        "worst_age": milliseconds(history.worst_age_ms),
        "last_24h": percent(history.last_24h),
        "uptime": percent(history.uptime),
        "bars": bars(history.days, label=f"{name}: {percent(history.uptime)}"),
    }


def as_json(status: Status, edge_problem: str | None) -> dict[str, Any]:
    """`/status.json`. Times are ISO 8601 in UTC, ages in ms, shares from 0 to 1."""
    return {
        "at": status.at.isoformat(),
        "state": status.state,
        "measured_at": status.measured_at.isoformat() if status.measured_at else None,
        "is_late": status.is_late,
        "edge": edge_problem or "ok",
        "feeds": [_history(each, FEED, status) for each in status.feeds],
        "upstreams": [_history(each, UPSTREAM, status) for each in status.upstreams],
        "incidents": [
            {
                "id": incident.pk,
                "title": incident.title,
                "impact": incident.impact,
                "affects": incident.affects,
                "started_at": incident.started_at.isoformat(),
                "resolved_at": incident.resolved_at.isoformat() if incident.resolved_at else None,
                "updates": [
                    {"at": each.at.isoformat(), "state": each.state, "text": each.text}
                    for each in incident.updates.all()
                ],
            }
            for incident in status.incidents
        ],
        "announcements": [
            {"title": each.title, "text": each.text, "level": each.level, "link": each.link}
            for each in status.announcements
        ],
        "gaps": [gap_json(gap) for gap in status.gaps],
    }


def gap_json(gap: Gap) -> dict[str, Any]:
    """A row of the gap ledger."""
    return {
        "feed": gap.feed,
        "coin": gap.coin,
        "from_height": gap.from_height,
        "to_height": gap.to_height,
        "seconds": gap.seconds,
        "reason": gap.reason,
        "at": gap.at.isoformat(),
        "is_filled": gap.is_filled,
    }


def _history(history: History, prefix: str, status: Status) -> dict[str, Any]:
    return {
        "name": history.subject.removeprefix(prefix),
        "is_fresh": None if status.is_late else history.is_fresh,
        "age_ms": None if status.is_late else history.age_ms,
        "mean_age_ms_24h": history.mean_age_ms,
        "worst_age_ms_24h": history.worst_age_ms,
        "uptime_24h": history.last_24h,
        "uptime_90d": history.uptime,
        "days": [
            {"date": f"{day.start:%Y-%m-%d}", "looks": day.looks, "fresh": day.fresh}
            for day in history.days
            if day.looks
        ],
    }
