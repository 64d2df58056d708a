"""A tenant's open sockets and streams, as the edges tell them every few seconds, and their end on
request."""

from __future__ import annotations

import time
from dataclasses import dataclass

from django.utils.translation import gettext as _

from gateway.account.errors import NotFound, Unavailable
from streaming.nodes import live, selectors, services
from streaming.sessions import SessionRow
from tenants.models import Tenant


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One open connection: `door` is ws, grpc or evm. `subscriptions` are the names of the first
    100, `subscription_count` how many there are; `queued_*` waits for you now; `sent`,
    `conflated` (replaced by something newer) and `dropped` count frames since it was opened.
    `last_cursor` is "" where the dialect has none."""

    id: str
    door: str
    dialect: str
    key_id: int
    key_prefix: str
    address: str
    age_s: float
    opened_ms: int
    subscriptions: tuple[str, ...]
    subscription_count: int
    queued_frames: int
    queued_bytes: int
    sent: int
    conflated: int
    dropped: int
    last_cursor: str


def connections(
    tenant: Tenant, *, key_id: int | None = None, now_s: float | None = None
) -> list[Connection]:
    """All of a tenant, or of one of its keys, the oldest first. Told every 5 s; what is opened or
    closed within a second. Raises Unavailable."""
    at_s = time.time() if now_s is None else now_s
    try:
        rows = selectors.open_sessions(tenant.pk)
    except live.Unreachable:
        raise Unavailable(_("Open connections cannot be read now: try again.")) from None
    return [_shown(row, at_s) for row in rows if key_id is None or row.key_id == key_id]


def connection(tenant: Tenant, connection_id: str) -> Connection:
    """One. Raises NotFound and Unavailable."""
    return _shown(_row(tenant, connection_id), time.time())


def disconnect(tenant: Tenant, connection_id: str, *, by: str) -> None:
    """Have its edge close it, within a second; a client that reconnects comes back: revoke its key
    to keep it out. `by` is for the log. Raises NotFound and Unavailable."""
    row = _row(tenant, connection_id)
    try:
        services.disconnect(row.id, by=by)
    except services.SessionGone:
        raise _gone(connection_id) from None
    except live.Unreachable:
        raise Unavailable(_("The edges cannot be reached now: try again.")) from None


def _row(tenant: Tenant, connection_id: str) -> SessionRow:
    try:
        row = selectors.open_session(connection_id)
    except live.Unreachable:
        raise Unavailable(_("Open connections cannot be read now: try again.")) from None
    if row is None or row.tenant_id != tenant.pk:
        raise _gone(connection_id)
    return row


def _gone(connection_id: str) -> NotFound:
    return NotFound(_("There is no open connection %(id)r.") % {"id": connection_id[:60]})


def _shown(row: SessionRow, now_s: float) -> Connection:
    return Connection(
        id=row.id,
        door=row.door,
        dialect=row.dialect,
        key_id=row.key_id,
        key_prefix=row.key_prefix,
        address=row.address,
        age_s=max(0.0, round(now_s - row.opened_ms / 1_000, 1)),
        opened_ms=row.opened_ms,
        subscriptions=row.topics,
        subscription_count=row.topic_count,
        queued_frames=row.held_frames,
        queued_bytes=row.held_bytes,
        sent=row.sent,
        conflated=row.conflated,
        dropped=row.shed,
        last_cursor=row.cursor,
    )
