"""How many requests of one tenant may be on their way at once. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.http.errors import HttpError
from tenants.admission.principal import Principal

#: Of all keys of a tenant together, in one process: a key more must be no way to others' places.
#: An upstream answers in a tenth of a second, so this is 2,000 requests a second, all of them new.
MAX_AT_ONCE = 200


class Concurrency:
    """Counts them; one more is refused rather than queued."""

    def __init__(self, *, most: int = MAX_AT_ONCE) -> None:
        self._most = most
        self._held: dict[int, int] = {}

    @contextmanager
    def of(self, principal: Principal) -> Iterator[None]:
        """While one request is answered. Raises HttpError 429."""
        tenant_id = principal.tenant_id
        held = self._held.get(tenant_id, 0)
        if held >= self._most:
            text = f"{held} requests of yours wait for their answers: {self._most} at once."
            raise HttpError(429, "too_many_at_once", text, headers=[(b"retry-after", b"1")])
        self._held[tenant_id] = held + 1
        try:
            yield
        finally:
            left = self._held[tenant_id] - 1
            if left:
                self._held[tenant_id] = left
            else:
                del self._held[tenant_id]
