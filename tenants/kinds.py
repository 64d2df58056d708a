"""What it means that a tenant becomes of another kind: a port, because only billing knows what is
owed until then and from then on."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

#: Tenant's id, its kind from now on, and when that is, by default at this moment.
Become = Callable[[int, str, datetime | None], None]


def for_nobody(tenant_id: int, kind: str, now: datetime | None) -> None:
    """Where nobody has plugged in."""


_become: Become = for_nobody


def plug(become: Become) -> None:
    """From now on this process tells `become`; called once, from an app's `ready`."""
    global _become
    _become = become


def tell(tenant_id: int, kind: str, now: datetime | None = None) -> None:
    """A tenant becomes of another kind, in the caller's transaction, which saves it after. Locks of
    its usage come before that of its row, because whoever posts usage takes them so."""
    _become(tenant_id, kind, now)
