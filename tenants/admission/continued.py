"""Allowances for a time that nobody has written any for: the last ones, once more.

They are written a period ahead, by billing's jobs. Those that stand still for longer than that must
neither open the doors without limit nor shut out who pays: the amounts of the last period hold for
each that follows, as long as that one was. Pure: times in, times out.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from tenants.admission.principal import Allowed

#: So long before the last ones end are the next ones known: a database that is away at that moment
#: makes no hole.
AHEAD = timedelta(hours=1)


def continued(last: Iterable[Allowed], now: datetime) -> Iterator[Allowed]:
    """The allowances of now, and of what begins within the hour, that follow those of the `last`
    period, one of each meter."""
    for row in last:
        for starts_at, ends_at in _following(row.starts_at, row.ends_at):
            if starts_at > now + AHEAD:
                break
            if ends_at > now:
                yield row._replace(starts_at=starts_at, ends_at=ends_at)


def _following(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The periods after `[start, end)`, without end: of as many months where it is of whole ones,
    on the day of the month that both show, else of the same length."""
    months = 12 * (end.year - start.year) + end.month - start.month
    day = max(start.day, end.day)  # 31 January to 28 February is of the 31st
    if months < 1 or _later(start, months, day) != end:
        length = end - start
        while True:
            start, end = end, end + length
            yield start, end
    while True:
        start, end = end, _later(end, months, day)
        yield start, end


def _later(at: datetime, months: int, day: int) -> datetime:
    """So many months later, on a day of the month or, where it has none, its last."""
    year, month = divmod(12 * at.year + at.month - 1 + months, 12)
    return at.replace(year=year, month=month + 1, day=min(day, monthrange(year, month + 1)[1]))
