"""How many requests of one key may be on their way at once. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.http.errors import HttpError
from tenants.admission.principal import Principal

#: Of the keys of one rotation together, in one process. An upstream answers in a tenth of a second:
#: this is 2,000 requests a second, all of them new.
MAX_AT_ONCE = 200


class Concurrency:
    """Counts them; one more is refused rather than queued."""

    def __init__(self, *, most: int = MAX_AT_ONCE) -> None:
        self._most = most
        self._held: dict[int, int] = {}

    @contextmanager
    def of(self, principal: Principal) -> Iterator[None]:
        """While one request is answered. Raises HttpError 429."""
        family_id = principal.family_id or principal.key_id
        held = self._held.get(family_id, 0)
        if held >= self._most:
            text = f"{held} requests of this key wait for their answers: {self._most} at once."
            raise HttpError(429, "too_many_at_once", text, headers=[(b"retry-after", b"1")])
        self._held[family_id] = held + 1
        try:
            yield
        finally:
            left = self._held[family_id] - 1
            if left:
                self._held[family_id] = left
            else:
                del self._held[family_id]
