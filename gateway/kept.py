"""A value that many look at and one makes, kept for some seconds in the process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any


class Kept:
    """A value made at most once each `keep_s`, by whoever comes first; others get the one
    before."""

    def __init__(self, make: Callable[[], Any], *, keep_s: float) -> None:
        self._make, self._keep_s = make, keep_s
        self._lock = threading.Lock()
        self._value: Any = None
        self._until_s = 0.0

    def get(self) -> Any:
        """The value, not older than `keep_s` but for who comes while it is made."""
        if time.monotonic() >= self._until_s and self._lock.acquire(blocking=self._value is None):
            try:
                if time.monotonic() >= self._until_s:
                    self._value = self._make()
                    self._until_s = time.monotonic() + self._keep_s
            finally:
                self._lock.release()
        return self._value

    def forget(self) -> None:
        """Make it anew at the next look."""
        self._until_s, self._value = 0.0, None
