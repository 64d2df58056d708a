"""One refused or failed request, and the bounded book that keeps those not written yet. Pure."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from typing import NamedTuple

from tenants.admission.limiter import TokenBucket

#: What a process keeps while the database does not take it: about 10 MB.
MAX_KEPT = 20_000
#: Of one tenant, and of all callers without a key of ours together: one who floods us must not push
#: the records of the others out. Beyond it they are counted alone.
PER_TENANT_PER_S, PER_TENANT_BURST = 50, 5_000
MAX_TENANTS = 10_000
#: Columns have these lengths.
KIND_CHARS, CODE_CHARS, ID_CHARS = 48, 48, 64


class Entry(NamedTuple):
    """`at_s` is seconds since 1970. `kind` is the type or method asked for, "" when that was not
    read; `upstream_ms` None when no upstream was asked."""

    at_s: float
    request_id: str
    tenant_id: int | None
    key_prefix: str
    door: str
    method: str
    kind: str
    status: int
    code: str
    upstream_ms: float | None
    total_ms: float


class Book:
    """Entries that wait to be written, oldest first. Never blocks, never grows beyond its bound;
    `dropped` counts what it did not keep, by reason."""

    def __init__(self, *, max_kept: int = MAX_KEPT) -> None:
        self._max_kept = max_kept
        self._entries: deque[Entry] = deque()
        self._allowances: OrderedDict[int | None, TokenBucket] = OrderedDict()
        self.dropped: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._entries)

    def note(self, entry: Entry, *, now_s: float) -> bool:
        """Keep `entry`; whether there was room. `now_s` is of a monotonic clock."""
        if len(self._entries) >= self._max_kept:
            self.dropped["full"] += 1
            return False
        if self._allowance(entry.tenant_id, now_s).take(1, now_s=now_s):
            self.dropped["flood"] += 1
            return False
        self._entries.append(entry)
        return True

    def take(self, count: int) -> list[Entry]:
        """The oldest entries, at most `count`, no longer kept here."""
        return [self._entries.popleft() for _ in range(min(count, len(self._entries)))]

    def give_back(self, entries: list[Entry]) -> None:
        """What was taken could not be written: first in line again. What there is no room for any
        more is counted."""
        room = self._max_kept - len(self._entries)
        if (lost := len(entries) - room) > 0:
            self.dropped["full"] += lost
            entries = entries[lost:]
        self._entries.extendleft(reversed(entries))

    def _allowance(self, tenant_id: int | None, now_s: float) -> TokenBucket:
        found = self._allowances.get(tenant_id)
        if found is None:
            if len(self._allowances) >= MAX_TENANTS:
                self._allowances.popitem(last=False)
            found = self._allowances[tenant_id] = TokenBucket(
                capacity=PER_TENANT_BURST, refill_per_s=PER_TENANT_PER_S, now_s=now_s
            )
        return found
