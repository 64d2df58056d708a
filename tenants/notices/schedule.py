"""When a failed delivery is tried again. Pure."""

from __future__ import annotations

from datetime import timedelta

FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 86_400.0
_FACTOR = 3.0
#: With the pauses between them: 5 s, 15 s, 45 s … 24 h, together three to four and a half days.
MAX_ATTEMPTS = 14
#: An endpoint that fails is asked, with whatever waits for it, at most this seldom.
LONGEST_QUIET_S = 300.0


def pause_s(attempts: int, *, luck: float) -> float:
    """Seconds to wait after `attempts` failed ones (1 or more).

    `luck` in [0, 1) spreads what failed together over the last third of the pause.
    """
    if attempts < 1 or not 0 <= luck < 1:
        raise ValueError(f"attempts {attempts}, luck {luck}: 1 or more, and within 0 and 1")
    # Beyond 20 it is the longest anyway, and a float has an end.
    whole_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * _FACTOR ** (min(attempts, 20) - 1))
    return whole_s * (1 - luck / 3)


def next_pause(attempts: int, *, luck: float, most: int = MAX_ATTEMPTS) -> timedelta | None:
    """How long to wait before the next attempt; None when there is none."""
    return None if attempts >= most else timedelta(seconds=pause_s(attempts, luck=luck))


def quiet(failures: int, *, luck: float) -> timedelta:
    """How long an endpoint with so many failures in a row is left alone."""
    return timedelta(seconds=min(pause_s(failures, luck=luck), LONGEST_QUIET_S))
