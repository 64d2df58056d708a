"""A key, plan or tenant changed: tell every process, once it is committed.

Two ways at once. The shared directory entry is rewritten, so that nobody believes the old one; and
a doorbell rings through the channel layer, so that open sockets close at once. Both may be lost:
what failed is tried again in the background for as long as this process lives, every process asks
the database about its open keys every two seconds (`control.py`), and nobody believes an answer of
the database for more than 30 s (`directory.py`).
"""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from functools import partial

import structlog
from asgiref.sync import async_to_sync
from channels import DEFAULT_CHANNEL_LAYER
from channels.layers import get_channel_layer
from django.conf import settings
from django.db import connections, transaction

from tenants import metrics
from tenants.admission.store import Entry, put_entries, time_ms
from tenants.wire.cancellation import stop_if_cancelled

log = structlog.get_logger(__name__)

GROUP = "relay.admission"
MESSAGE_TYPE = "admission.changed"
#: A tenant with more keys than this is announced in several messages.
DIGESTS_PER_MESSAGE = 500
#: A failed announcement is tried again after this long, then twice as long, and so on.
RETRY_AFTER_S = 0.5
RETRY_LATER_BY = 2.0
RETRY_AT_MOST_AFTER_S = 30.0
#: How long an ending process waits for what is being tried: both Redis clients give up by then.
STOP_S = 3.0


def announce_on_commit(digests: Collection[str]) -> None:
    """Announce `digests` when the current transaction commits; not at all if it rolls back."""
    if digests:
        transaction.on_commit(partial(announce, tuple(digests)))


def announce(digests: Collection[str]) -> None:
    """Rewrite the shared entries of `digests` from the database and ring the doorbell. Never raises
    for either; what fails is tried again in the background."""
    _later.add(_announced_in_vain(digests))


def _announced_in_vain(digests: Collection[str]) -> set[str]:
    failed: set[str] = set()
    wanted = list(digests)
    for start in range(0, len(wanted), DIGESTS_PER_MESSAGE):
        chunk = wanted[start : start + DIGESTS_PER_MESSAGE]
        is_written = _attempt("redis", partial(_rewrite_entries, chunk))
        is_rung = _attempt("doorbell", partial(_ring, chunk))
        if not (is_written and is_rung):
            failed.update(chunk)
    return failed


class _Later:
    """Announcements that failed: one thread a process, while there are any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: set[str] = set()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        #: Another announcement was made: the pause begins anew, from its shortest.
        self._news = threading.Event()

    def add(self, failed: Collection[str]) -> None:
        """Try `failed` soon, and with them what waits: a new one must not sit out the 30 s of one
        that met a Redis down for long, and one that was heard says that Redis is back."""
        with self._lock:
            self._waiting.update(failed)
            self._news.set()
            is_alive = self._thread is not None and self._thread.is_alive()
            if self._waiting and not is_alive and not self.is_over:
                # A daemon: nobody who stops waits for a Redis that may never come back.
                self._thread = threading.Thread(
                    target=self._run, name="admission-announcements", daemon=True
                )
                self._thread.start()

    @property
    def is_over(self) -> bool:
        """Whether the process ends; its executors are gone some time before it says so."""
        return self._stopping.is_set() or not threading.main_thread().is_alive()

    def stop(self) -> None:
        """Try nothing more: the process ends. Waits a little for what is being tried now, which
        would log into files and loops that are gone."""
        self._stopping.set()
        self._news.set()
        thread = self._thread
        if thread is not None:
            thread.join(STOP_S)

    def _run(self) -> None:
        pause_s = RETRY_AFTER_S
        while True:
            if self._news.wait(pause_s):
                self._news.clear()
                pause_s = RETRY_AFTER_S
                self._stopping.wait(pause_s)
            if self._stopping.is_set():
                return
            with self._lock:
                digests, self._waiting = self._waiting, set()
            failed = digests
            try:
                failed = _announced_in_vain(digests)
            finally:
                with self._lock:
                    self._waiting |= failed
            connections.close_all()
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
            pause_s = min(RETRY_AT_MOST_AFTER_S, pause_s * RETRY_LATER_BY)


_later = _Later()
# Before modules and logging are taken down: a daemon thread would go on meanwhile.
atexit.register(_later.stop)


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

    # The time is taken before the read: what commits in between must win over us. It is Redis's,
    # because two hosts' clocks would order reads wrongly; and a Redis that is down costs no read.
    read_at_ms = time_ms(url)
    principals = principals_by_digest(digests)
    put_entries(url, {digest: Entry(principals.get(digest), read_at_ms) for digest in digests})


def _ring(digests: Collection[str]) -> None:
    layer = get_channel_layer(DEFAULT_CHANNEL_LAYER)
    if layer is not None:
        async_to_sync(layer.group_send)(GROUP, {"type": MESSAGE_TYPE, "digests": list(digests)})


def _attempt(channel: str, act: Callable[[], None]) -> bool:
    try:
        act()
    except Exception as error:
        metrics.announcements.labels(channel, "failed").inc()
        if not _later.is_over:  # an ending process may have no log any more
            log.warning(
                "admission_announcement_failed", channel=channel, error=type(error).__name__
            )
        return False
    metrics.announcements.labels(channel, "sent").inc()
    return True
