"""Token bucket arithmetic. Time comes in as an argument."""

from __future__ import annotations


class TokenBucket:
    """Holds up to `capacity` units of weight and refills at `refill_per_s`; it starts full.

    For every window of T seconds, what it lets through is at most `capacity + refill_per_s * T`.
    """

    __slots__ = ("_updated_s", "capacity", "level", "refill_per_s")

    def __init__(self, *, capacity: float, refill_per_s: float, now_s: float) -> None:
        if capacity <= 0 or refill_per_s <= 0:
            raise ValueError(
                f"a bucket needs a positive capacity and refill, not {capacity} and {refill_per_s}"
            )
        self.capacity = capacity
        self.refill_per_s = refill_per_s
        self.level = capacity
        self._updated_s = now_s

    def take(self, weight: float, *, now_s: float) -> float:
        """Spend `weight` and return 0.0, or spend nothing and return the seconds to wait.

        `now_s` is monotonic. The wait is infinite for a weight above the capacity: it will never
        fit.
        """
        self._refill(now_s)
        if weight > self.capacity:
            return float("inf")
        if weight > self.level:
            return (weight - self.level) / self.refill_per_s
        self.level -= weight
        return 0.0

    def _refill(self, now_s: float) -> None:
        # A clock that went backwards refills nothing and must not be paid twice when it catches up.
        if now_s <= self._updated_s:
            return
        self.level = min(self.capacity, self.level + (now_s - self._updated_s) * self.refill_per_s)
        self._updated_s = now_s
