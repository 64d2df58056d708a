"""An answer with where it comes from and how old it is, and the header fields that say so."""

from __future__ import annotations

import time
from dataclasses import dataclass

from gateway.http.errors import Headers
from gateway.http.routes import Source
from gateway.upstreams.posts import Answer

#: Asked for anew, kept from before, asked for by somebody else at the same time, kept and older
#: than it should be, and never kept.
MISS, HIT, SHARED, STALE, NONE = "miss", "hit", "shared", "stale", "none"


@dataclass(frozen=True, slots=True)
class Served:
    """`made_s` is when its data was true, as far as we know, by the monotonic clock; `height` the
    block that its source had reached then, None where that is not known; `took_s` how long the
    upstream was waited for, None when none was."""

    answer: Answer
    source: Source
    height: int | None
    made_s: float
    cache: str = NONE
    took_s: float | None = None

    @property
    def size_bytes(self) -> int:
        """Implements `cache.Kept`."""
        return self.answer.size_bytes

    def as_(self, cache: str) -> Served:
        """The same, given again."""
        return Served(self.answer, self.source, self.height, self.made_s, cache)

    def headers(self) -> Headers:
        """Source, cache, age and height."""
        age_ms = max(0, round((time.monotonic() - self.made_s) * 1_000))
        fields = [
            (b"x-relay-source", self.source.encode()),
            (b"x-relay-cache", self.cache.encode()),
            (b"x-relay-age-ms", b"%d" % age_ms),
        ]
        if self.height is not None:
            fields.append((b"x-relay-height", b"%d" % self.height))
        return fields
