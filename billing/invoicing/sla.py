"""What times without service are worth: pure arithmetic.

Of each plan in a period, and of each of its prices, it is the fee of the time that all windows
together cover, some times over, and never more than the fee of the period. So a second that two
windows hold counts once, and many small ones come to no more than one large one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from billing.rating.money import quotient, rounded
from billing.rating.periods import Period
from billing.rating.segments import Segment

Window = tuple[datetime, datetime]

ZERO = Decimal("0.00")
_NOTHING = timedelta(0)


def union(windows: Iterable[Window]) -> list[Window]:
    """The time that half-open `windows` cover, in order and without overlaps."""
    found: list[Window] = []
    for start, end in sorted(windows):
        if start >= end:
            continue
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def within(windows: Iterable[Window], start: datetime, end: datetime) -> list[Window]:
    """What of them lies in `[start, end)`."""
    cut = ((max(start, first), min(end, last)) for first, last in windows)
    return [window for window in cut if window[0] < window[1]]


def worth(
    windows: Iterable[Window], period: Period, segments: Sequence[Segment], *, factor: int
) -> Decimal:
    """US dollars in whole cents for `windows` of a period; of a trial nothing. What is outside of
    the period is not counted."""
    short = union(windows)
    fees: dict[tuple[str, str, Decimal], list[int]] = defaultdict(lambda: [0, 0])
    for segment in segments:
        if segment.is_trial:
            continue
        # As fees are put on lines, so that no line is credited beyond its amount.
        seconds = fees[segment.plan.code, segment.plan.name, segment.plan.fee]
        seconds[0] += segment.seconds
        lost = (end - start for start, end in within(short, segment.start, segment.end))
        seconds[1] += int(sum(lost, start=_NOTHING).total_seconds())
    found = ZERO
    for (*_, fee), (paid_s, short_s) in fees.items():
        owed = min(paid_s, short_s * factor)
        found += rounded(quotient(fee * owed, period.full_s))
    return found
