"""Token bucket arithmetic. Time comes in as an argument."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import NamedTuple

#: About 0.2 KB each. Only keys we issued get one; the bound is that of the directory's cache.
MAX_BUCKETS = 50_000


class Rate(NamedTuple):
    """Weight per minute, and how much of it may come at once."""

    per_minute: int
    burst: int


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

    def reshape(self, *, capacity: float, refill_per_s: float, now_s: float) -> None:
        """Go on with another capacity and refill; what it holds stays, up to the new capacity."""
        self._refill(now_s)
        self.capacity, self.refill_per_s = capacity, refill_per_s
        self.level = min(self.level, capacity)

    def _refill(self, now_s: float) -> None:
        # A clock that went backwards refills nothing and must not be paid twice when it catches up.
        if now_s <= self._updated_s:
            return
        self.level = min(self.capacity, self.level + (now_s - self._updated_s) * self.refill_per_s)
        self._updated_s = now_s


class Buckets:
    """A bucket for each of many ids. Beyond `max_buckets` the least recently used goes; it would
    come back full."""

    def __init__(self, max_buckets: int = MAX_BUCKETS) -> None:
        self._max_buckets = max_buckets
        self._buckets: OrderedDict[Hashable, TokenBucket] = OrderedDict()

    def is_empty(self, bucket_id: Hashable, *, now_s: float) -> bool:
        """Whether it would not give a whole unit. Spends nothing."""
        bucket = self._buckets.get(bucket_id)
        if bucket is None:
            return False
        bucket.take(0, now_s=now_s)
        return bucket.level < 1

    def take(self, bucket_id: Hashable, rate: Rate, weight: float, *, now_s: float) -> float:
        """Spend `weight` of `bucket_id` at `rate` and return 0.0, or spend nothing and return the
        seconds to wait.

        What is heavier than the whole burst takes the whole burst: it could never be served else.
        """
        refill_per_s = rate.per_minute / 60
        bucket = self._buckets.get(bucket_id)
        if bucket is None:
            bucket = self._buckets[bucket_id] = TokenBucket(
                capacity=rate.burst, refill_per_s=refill_per_s, now_s=now_s
            )
            if len(self._buckets) > self._max_buckets:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(bucket_id)
            if (bucket.capacity, bucket.refill_per_s) != (rate.burst, refill_per_s):
                bucket.reshape(capacity=rate.burst, refill_per_s=refill_per_s, now_s=now_s)
        return bucket.take(min(weight, rate.burst), now_s=now_s)

    def __len__(self) -> int:
        return len(self._buckets)
