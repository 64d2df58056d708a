"""Takes the book to the database in the background: in bulk, on a thread, whatever the database
does."""

from __future__ import annotations

import asyncio
import contextlib
import time

import structlog
from django.db import connection
from prometheus_client import Counter
from redis.exceptions import RedisError

from gateway.requests import dropped, services
from gateway.requests.entry import Book, Entry
from tenants.wire.cancellation import stop_if_cancelled

log = structlog.get_logger(__name__)

WRITE_EVERY_S = 1.0
AT_ONCE = 500
#: A database that hangs is given up this soon at the end of the process.
LAST_S = 1.0
#: How long a batch may take before the next try counts as failed; its thread goes on.
RETRY_S = 5.0

WRITTEN = Counter("relay_request_records", "Records of failed requests by outcome.", ["outcome"])


class Writer:
    """One per process. `note` is free; `run` must be running for records to arrive."""

    def __init__(self, book: Book | None = None) -> None:
        self.book = Book() if book is None else book
        self._told: dict[str, int] = {}
        self._is_failing = False

    def note(self, entry: Entry) -> None:
        """Keep it for the next batch, or count it as dropped."""
        self.book.note(entry, now_s=time.monotonic())

    async def run(self) -> None:
        """Write every second until cancelled, and once more then."""
        try:
            while True:
                await asyncio.sleep(RETRY_S if self._is_failing else WRITE_EVERY_S)
                await self.flush()
        finally:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(LAST_S):
                    await self.flush()

    async def flush(self) -> None:
        """Write all there is, as long as the database takes it."""
        while entries := self.book.take(AT_ONCE):
            try:
                await asyncio.to_thread(_write, entries)
            except BaseException as error:
                # Also when we are stopped meanwhile: written twice is better than never.
                self.book.give_back(entries)
                if not isinstance(error, Exception):
                    raise
                stop_if_cancelled()
                if not self._is_failing:
                    log.warning("request_records_not_written", error=type(error).__name__)
                self._is_failing = True
                break
            self._is_failing = False
            WRITTEN.labels("written").inc(len(entries))
        await self._tell_dropped()

    async def _tell_dropped(self) -> None:
        news = {
            reason: more
            for reason, count in self.book.dropped.items()
            if (more := count - self._told.get(reason, 0))
        }
        if not news:
            return
        for reason, more in news.items():
            WRITTEN.labels(f"dropped_{reason}").inc(more)
            self._told[reason] = self._told.get(reason, 0) + more
        try:
            await asyncio.to_thread(dropped.add, news)
        except (RedisError, OSError) as error:
            stop_if_cancelled()
            log.warning("dropped_records_not_told", error=type(error).__name__)


def _write(entries: list[Entry]) -> None:
    try:
        services.write(entries)
    finally:
        connection.close()
