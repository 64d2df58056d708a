"""A key, plan or tenant changed: tell every process, once it is committed.

Two ways at once. The shared directory entry is rewritten, so that nobody believes the old one; and
a doorbell rings through the channel layer, so that open sockets close at once. Both may be lost:
every process also asks the database about its open keys every two seconds (`control.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from functools import partial

import structlog
from asgiref.sync import async_to_sync
from channels import DEFAULT_CHANNEL_LAYER
from channels.layers import get_channel_layer
from django.conf import settings
from django.db import transaction

from tenants import metrics
from tenants.admission.store import Entry, put_entries
from tenants.wire.cancellation import stop_if_cancelled

log = structlog.get_logger(__name__)

GROUP = "relay.admission"
MESSAGE_TYPE = "admission.changed"
#: A tenant with more keys than this is announced in several messages.
DIGESTS_PER_MESSAGE = 500


def announce_on_commit(digests: Collection[str]) -> None:
    """Announce `digests` when the current transaction commits; not at all if it rolls back."""
    if digests:
        transaction.on_commit(partial(announce, tuple(digests)))


def announce(digests: Collection[str]) -> None:
    """Rewrite the shared entries of `digests` from the database and ring the doorbell. Never raises
    for either."""
    wanted = list(digests)
    for start in range(0, len(wanted), DIGESTS_PER_MESSAGE):
        chunk = wanted[start : start + DIGESTS_PER_MESSAGE]
        _attempt("redis", partial(_rewrite_entries, chunk))
        _attempt("doorbell", partial(_ring, chunk))


async def watch(callback: Callable[[list[str]], Awaitable[None]]) -> None:
    """Call back with the digests of every announcement, until cancelled; survives the layer going
    away."""
    pause_s = 0.5
    while True:
        try:
            layer = get_channel_layer(DEFAULT_CHANNEL_LAYER)
            if layer is None:
                return
            channel = await layer.new_channel("relay.admission")
            await layer.group_add(GROUP, channel)
            stop_if_cancelled()
            try:
                pause_s = 0.5
                while True:
                    message = await layer.receive(channel)
                    if message.get("type") == MESSAGE_TYPE:
                        await callback(list(message["digests"]))
                    # redis-py, below both, may have swallowed what was meant for us.
                    stop_if_cancelled()
            finally:
                # Its failure must not replace a cancellation, which would then be taken for one.
                with suppress(Exception):
                    async with asyncio.timeout(1.0):
                        await layer.group_discard(GROUP, channel)
        except Exception as error:
            stop_if_cancelled()
            log.warning("admission_doorbell_lost", error=type(error).__name__)
            await asyncio.sleep(pause_s)
            pause_s = min(5.0, pause_s * 2)


def _rewrite_entries(digests: Collection[str]) -> None:
    url = getattr(settings, "REDIS_CACHE_URL", "")
    if not url:
        return
    from tenants.selectors import principals_by_digest

    # The time is taken before the read: what commits in between must win over us.
    read_at_ms = int(time.time() * 1000)
    principals = principals_by_digest(digests)
    put_entries(url, {digest: Entry(principals.get(digest), read_at_ms) for digest in digests})


def _ring(digests: Collection[str]) -> None:
    layer = get_channel_layer(DEFAULT_CHANNEL_LAYER)
    if layer is not None:
        async_to_sync(layer.group_send)(GROUP, {"type": MESSAGE_TYPE, "digests": list(digests)})


def _attempt(channel: str, act: Callable[[], None]) -> None:
    try:
        act()
    except Exception as error:
        metrics.announcements.labels(channel, "failed").inc()
        log.warning("admission_announcement_failed", channel=channel, error=type(error).__name__)
    else:
        metrics.announcements.labels(channel, "sent").inc()
