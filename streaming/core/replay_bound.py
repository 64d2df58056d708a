"""How much each tenant may be given again. A replay is free of charge, so without a bound who
subscribes by a cursor again and again would have everything for nothing."""

from __future__ import annotations

#: Bytes of a tenant in one process: twice what the log keeps of events, so that who was away for as
#: long as it reaches has all of it; and more of it a minute.
BURST_BYTES = 512 * 1024 * 1024
BYTES_A_MINUTE = 64 * 1024 * 1024
#: Beyond so many, those that have all of it again are forgotten.
MAX_KEPT = 10_000


class ReplayBound:
    """Counts what was given, against what comes back by the minute."""

    def __init__(self) -> None:
        self._spent: dict[int, tuple[float, float]] = {}  # bytes, and when that was

    def spend(self, tenant_id: int, size_bytes: int, *, now_s: float) -> None:
        """So much was given."""
        if len(self._spent) >= MAX_KEPT and tenant_id not in self._spent:
            owed = {one: self._owed(one, now_s) for one in self._spent}
            self._spent = {one: (bytes_, now_s) for one, bytes_ in owed.items() if bytes_ > 0}
        self._spent[tenant_id] = (self._owed(tenant_id, now_s) + size_bytes, now_s)

    def wait_s(self, tenant_id: int, *, now_s: float) -> float:
        """How long until one more replay may begin; 0: now."""
        over = self._owed(tenant_id, now_s) - BURST_BYTES
        return max(0.0, over * 60 / BYTES_A_MINUTE)

    def _owed(self, tenant_id: int, now_s: float) -> float:
        spent, at_s = self._spent.get(tenant_id, (0.0, now_s))
        return max(0.0, spent - max(0.0, now_s - at_s) * BYTES_A_MINUTE / 60)
