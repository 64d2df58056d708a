"""Which upstreams there are now, at an edge: those of `RELAY_UPSTREAMS`, else the operator's rows.

A database that is away changes nothing: what was read last goes on, also over a restart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from streaming.nodes.follow import NothingKnown, Rows, Specs
from streaming.upstream.spec import UpstreamSpec
from tenants.wire.cancellation import stop_if_cancelled

log = structlog.get_logger(__name__)

RETRY_S = 1.0


class Upstreams:
    """Upstreams by name, as workers name them in their heartbeats. Calling it gives what is known
    now; `run` keeps that true."""

    def __init__(self, *, fixed: Mapping[str, UpstreamSpec] | None, rows: Rows | None) -> None:
        """Either is given: `fixed` never changes."""
        self._rows = rows
        self._specs: Mapping[str, UpstreamSpec] = fixed or {}

    def __call__(self) -> Mapping[str, UpstreamSpec]:
        """By name."""
        return self._specs

    async def run(self) -> None:
        """Follow the rows until cancelled."""
        if self._rows is None:
            await asyncio.Event().wait()
            return
        while True:
            try:
                self._use(await asyncio.to_thread(self._rows.first))
                break
            except NothingKnown as nothing:
                stop_if_cancelled()
                log.warning("upstreams_unknown", why=str(nothing))
                await asyncio.sleep(RETRY_S)
        await self._rows.follow(self._use)

    def _use(self, specs: Specs) -> None:
        self._specs = specs
