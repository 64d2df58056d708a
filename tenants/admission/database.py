"""What admission asks of the database, each in a thread that may have slept through its
connection's death."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from django.db import close_old_connections

from tenants.admission.caps import Standing
from tenants.admission.principal import Principal


def note_use(key_ids: Collection[int]) -> None:
    """Write down that keys were used just now."""
    from tenants.services import note_use as write

    close_old_connections()
    try:
        write(key_ids, at=datetime.now(UTC))
    finally:
        close_old_connections()


def warn(standings: Sequence[Standing]) -> None:
    """Write down thresholds that were passed."""
    from tenants.quota_warnings import warn as write

    close_old_connections()
    try:
        for standing in standings:
            cap = standing.cap
            write(
                cap.tenant_id,
                cap.code,
                standing.threshold,
                used=standing.used,
                limit=cap.units,
                resets_at=cap.ends_at,
                period=cap.name,
            )
    finally:
        close_old_connections()


def load_principals(digests: Collection[str]) -> dict[str, Principal]:
    """The keys among these that open anything."""
    from tenants.selectors import principals_by_digest

    close_old_connections()
    try:
        return principals_by_digest(digests)
    finally:
        close_old_connections()
