"""The rows of upstreams as a worker follows them. The data plane needs no database: whatever goes
wrong in reading the rows, what was read last goes on.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import django.db
import msgspec
import structlog

from streaming.upstream.spec import UpstreamSpec

log = structlog.get_logger(__name__)

#: How often the rows are looked at.
ROWS_EVERY_S = 5.0

Specs = dict[str, UpstreamSpec]


class NothingKnown(Exception):
    """The rows cannot be read, and no worker has read them here before; one line saying why."""


class Rows:
    """What the operator's rows name. `read` blocks and may raise anything; `kept` is the file that
    the next worker begins with when there is no database.
    """

    def __init__(self, read: Callable[[], Specs], *, kept: Path) -> None:
        self._read, self._path = read, kept
        self._kept: Specs | None = None
        self._trouble = ""

    def first(self) -> Specs:
        """The upstreams to begin with. Raises NothingKnown."""
        try:
            specs = self._read()
        except Exception as error:
            why = type(error).__name__
            log.warning("upstream_rows_not_read", error=why)
            try:
                return msgspec.json.decode(self._path.read_bytes(), type=Specs)
            except (OSError, ValueError) as missing:
                raise NothingKnown(f"the upstreams cannot be read ({why})") from missing
        self._keep(specs)
        return specs

    async def follow(self, use: Callable[[Specs], None], *, every_s: float = ROWS_EVERY_S) -> None:
        """Give `use` what the rows name, every so often, until cancelled."""
        while True:
            await asyncio.sleep(every_s)
            try:
                specs = await asyncio.to_thread(self._read)
                use(specs)
            except Exception as error:
                # Not only Django's: a follower that ended would leave a drain without effect while
                # the page says "draining".
                if (trouble := type(error).__name__) != self._trouble:
                    is_ours = not isinstance(error, django.db.Error)
                    log.warning("upstream_rows_not_read", error=trouble, exc_info=is_ours)
                    self._trouble = trouble
                continue
            self._trouble = ""
            await asyncio.to_thread(self._keep, specs)

    def _keep(self, specs: Specs) -> None:
        if specs == self._kept:
            return
        half = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            half.touch(0o600)  # before there is an address in it, which may hold a key
            half.write_bytes(msgspec.json.encode(specs))
            half.replace(self._path)
        except OSError as error:  # a full disk must not end a worker
            log.warning("upstreams_not_kept", error=str(error))
        else:
            self._kept = dict(specs)
