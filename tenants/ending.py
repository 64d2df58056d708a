"""What it means that a tenant closes its account: a port, because only billing knows what is owed
until then."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

#: Tenant's id, and when it closes.
End = Callable[[int, datetime], object]


def nothing_owed(tenant_id: int, now: datetime) -> None:
    """Where nobody has plugged in."""


_end: End = nothing_owed


def plug(end: End) -> None:
    """From now on this process tells `end`; called once, from an app's `ready`."""
    global _end
    _end = end


def tell(tenant_id: int, now: datetime) -> None:
    """A tenant closes, in the caller's transaction, which marks it after: locks of its money come
    before that of its row."""
    _end(tenant_id, now)
