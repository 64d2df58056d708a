"""What one key is delivered, by whatever door, added to the meter."""

from __future__ import annotations

from streaming import runtime
from streaming.core.batch import Tally
from streaming.core.counted import Counted


class KeyAccount:
    """Counts what one key is delivered: a slot for each channel, coin and reason, looked up
    once."""

    # `_meter` for who adds to its `words` himself (`streaming.fanout`).
    __slots__ = ("_add_each", "_meter", "_slots")

    def __init__(self, meter: runtime.MeterPort, key_id: int, *, free_for: str = "") -> None:
        """`free_for` is why all of it is free, whatever else would be a reason."""
        self._meter = meter
        self._add_each = meter.add_each
        self._slots = _Slots(meter, key_id, free_for)

    def delivered(self, tally: Tally) -> None:
        """Add (what it counts as, messages, payload bytes)."""
        self._add_each(self._slots, tally)


class _Slots(dict[Counted, int]):
    """Slots of one key; one that is asked for the first time is allocated."""

    def __init__(self, meter: runtime.MeterPort, key_id: int, free_for: str) -> None:
        super().__init__()
        self._free_for = free_for
        self._meter = meter
        self._key_id = key_id

    def __missing__(self, of: Counted) -> int:
        reason = self._free_for or of.reason
        slot = self[of] = self._meter.slot(self._key_id, of.channel, of.coin, reason)
        return slot
