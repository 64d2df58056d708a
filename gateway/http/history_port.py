"""A port: what answers candles, trades and fundings out of our own record, where there is one."""

from __future__ import annotations

from typing import Any, Protocol

from gateway.upstreams.posts import Answer


class History(Protocol):
    """Our own record of `candleSnapshot`, `recentTrades` and `fundingHistory`."""

    async def answer(self, kind: str, payload: dict[str, Any]) -> Answer | None:
        """The body `/info` would give, or None for what is not recorded whole: an upstream is asked
        then. Raises HttpError for a request that cannot be understood."""


class NoHistory:
    """Nothing is recorded."""

    async def answer(self, kind: str, payload: dict[str, Any]) -> Answer | None:
        """None."""
        del kind, payload
        return None
