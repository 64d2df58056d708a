"""Writes, and what an operator asks of running processes."""

from __future__ import annotations

import structlog
from django.conf import settings

from streaming import sessions
from streaming.bus import keys
from streaming.nodes import live, selectors
from streaming.nodes.models import UpstreamNode
from streaming.upstream.spec import UpstreamSpec, named, parse_upstreams

log = structlog.get_logger(__name__)

#: An edge that has not looked by then is gone, and its sessions with it.
DISCONNECT_TTL_S = 30


class SessionGone(Exception):
    """No edge has this session open."""


def configured() -> dict[str, UpstreamSpec]:
    """The upstreams to read, by name: `RELAY_UPSTREAMS` when it is set, else the enabled rows that
    are not draining.

    A row that cannot be read is left out and logged: the others must not suffer. Raises
    BadUpstreams for a bad `RELAY_UPSTREAMS`, django.db.Error without a database.
    """
    if selectors.are_upstreams_fixed():
        return named(parse_upstreams(settings.RELAY_UPSTREAMS))
    specs: dict[str, UpstreamSpec] = {}
    for node in UpstreamNode.objects.filter(is_enabled=True, is_draining=False):
        try:
            (specs[f"{node.kind}{node.pk}"],) = parse_upstreams(node.entry)
        except ValueError as bad:  # also of a row that reads as two
            log.error("upstream_row_not_read", upstream=node.pk, reason=str(bad))
    return specs


def disconnect(session_id: str, *, by: str) -> None:
    """Have its edge end the session, within a second; `by` is named in the log. Raises SessionGone
    or live.Unreachable."""
    if selectors.open_session(session_id) is None:
        raise SessionGone(session_id)
    key = keys.DISCONNECTS.format(edge=sessions.edge_of(session_id))
    with live.bus() as client, client.pipeline(transaction=True) as pipe:
        pipe.rpush(key, session_id)
        pipe.expire(key, DISCONNECT_TTL_S)
        pipe.execute()
    log.info("session_disconnect_asked", session=session_id, by=by)
