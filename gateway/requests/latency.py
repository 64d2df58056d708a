"""How long the HTTP doors took, for each tenant: counted in buckets that grow by a tenth. Pure.

Also of requests that went well, which leave no record. A tenant's hour at a door is some sixty
small numbers, however many requests there were.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

#: The first bucket's top, how buckets grow, and the last one: some 100 s.
_FIRST_MS, _GROWTH, _LAST = 0.1, 1.1, 145
#: Tenants counted between two writes; whoever comes then is not counted until the next.
MAX_TENANTS = 20_000
KEPT_HOURS = 7 * 24


class Latency(NamedTuple):
    """What requests took at a door, in ms, up to a tenth too much; None of nothing."""

    requests: int
    p50_ms: float | None
    p99_ms: float | None


class Latencies:
    """What one process has counted and not written yet."""

    def __init__(self) -> None:
        self._by_tenant: dict[int, Counter[str]] = {}

    def __len__(self) -> int:
        return len(self._by_tenant)

    def note(self, tenant_id: int, door: str, took_ms: float) -> None:
        """One request."""
        counts = self._by_tenant.get(tenant_id)
        if counts is None:
            if len(self._by_tenant) >= MAX_TENANTS:
                return
            counts = self._by_tenant[tenant_id] = Counter()
        counts[f"{door}:{bucket_of(took_ms)}"] += 1

    def take(self) -> dict[int, Counter[str]]:
        """All of it, no longer kept here."""
        taken, self._by_tenant = self._by_tenant, {}
        return taken

    def give_back(self, taken: Mapping[int, Counter[str]]) -> None:
        """What could not be written is counted with what comes, as far as there is room."""
        for tenant_id, counts in taken.items():
            if tenant_id in self._by_tenant or len(self._by_tenant) < MAX_TENANTS:
                self._by_tenant.setdefault(tenant_id, Counter()).update(counts)


def bucket_of(ms: float) -> int:
    """Which bucket a time falls into."""
    if ms <= _FIRST_MS:
        return 0
    return min(_LAST, math.ceil(math.log(ms / _FIRST_MS) / math.log(_GROWTH)))


def top_of(bucket: int) -> float:
    """The longest time of a bucket, in ms."""
    return float(_FIRST_MS * _GROWTH**bucket)


def by_door(counts: Mapping[str, int]) -> dict[str, Latency]:
    """From labels `door:bucket`, the doors in alphabetical order."""
    doors: dict[str, dict[int, int]] = {}
    for label, count in counts.items():
        door, _, bucket = label.rpartition(":")
        doors.setdefault(door, {})[int(bucket)] = count
    return {
        door: Latency(sum(each.values()), _quantile(each, 0.5), _quantile(each, 0.99))
        for door, each in sorted(doors.items())
    }


def _quantile(counts: Mapping[int, int], share: float) -> float | None:
    left = math.ceil(sum(counts.values()) * share)
    for bucket in sorted(counts):
        left -= counts[bucket]
        if left <= 0:
            return top_of(bucket)
    return None
