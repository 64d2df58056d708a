"""How much an upstream says, for the heartbeat."""

from __future__ import annotations

import time


class ByteRate:
    """Bytes a second since the figure was last asked for."""

    def __init__(self) -> None:
        self._bytes = 0
        self._since_s = time.monotonic()

    def add(self, size_bytes: int) -> None:
        """So many have come."""
        self._bytes += size_bytes

    def per_s(self) -> int:
        """The figure, and begin anew."""
        now_s = time.monotonic()
        took_s, self._since_s = now_s - self._since_s, now_s
        size_bytes, self._bytes = self._bytes, 0
        return round(size_bytes / took_s) if took_s > 0 else 0
