"""Which bodies came to /exchange, and how often: a test's oracle for "at most once"."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

MAX_BODIES = 100_000  # 17 MB


class Arrivals:
    """Counts bodies by the SHA-256 of their bytes; of more than `MAX_BODIES` the oldest are
    forgotten.
    """

    def __init__(self) -> None:
        self.total = 0
        self.forgotten = 0
        self.incomplete = 0
        self._counts: OrderedDict[str, int] = OrderedDict()

    def add(self, body: bytes) -> None:
        """Count one body."""
        digest = hashlib.sha256(body).hexdigest()
        self.total += 1
        self._counts[digest] = self._counts.get(digest, 0) + 1
        if len(self._counts) > MAX_BODIES:
            self._counts.popitem(last=False)
            self.forgotten += 1

    def count(self, digest: str) -> int:
        """How often a body of that digest came."""
        return self._counts.get(digest, 0)

    def as_dict(self) -> dict[str, object]:
        """All of it, as GET /sim/exchange shows it."""
        return {
            "received": self.total,
            "incomplete": self.incomplete,
            "forgotten": self.forgotten,
            "bodies": dict(self._counts),
        }
