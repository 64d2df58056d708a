"""The little that has to be asked about traced orders: whose agent a signer is, and what became of
an order that was in its block before anybody followed its user."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Protocol

import orjson
import structlog

from gateway.exchange.trace import Trace

log = structlog.get_logger(__name__)

ASK_S = 5.0
#: Whose agent a signer is does not change often.
ROLE_MS = 3_600_000
MAX_ROLES = 10_000

#: Asks `/info` as a tenant, by its slug.
Ask = Callable[[dict[str, Any], str], Awaitable[bytes]]


class Waiting(Protocol):
    """An order that is waited for."""

    trace: Trace
    slug: str


class Questions:
    """Of one process. What is not answered is asked again with another order."""

    def __init__(self, ask: Ask, *, now_ms: Callable[[], float]) -> None:
        self._ask = ask
        self._now_ms = now_ms
        self._masters: dict[str, tuple[str, float]] = {}
        self._asking: set[asyncio.Task[None]] = set()

    def master_of(self, signer: str) -> str:
        """Whose agent a signer is, or the signer, as far as that is known."""
        return self._masters.get(signer, (signer, 0.0))[0]

    def learn_role(self, signer: str, slug: str, moved: Callable[[str, str], None]) -> None:
        """Ask whose agent a signer is, if that is not known; `moved` is told of one who is."""
        known, now_ms = self._masters.get(signer), self._now_ms()
        if known is None or now_ms - known[1] > ROLE_MS:
            if len(self._masters) >= MAX_ROLES:
                self._masters.pop(next(iter(self._masters)))
            self._masters[signer] = (self.master_of(signer), now_ms)
            self._begin(self._ask_role(signer, slug, moved))

    def look_up(self, one: Any, found: Callable[[Any, Mapping[str, Any]], None]) -> None:
        """Ask what became of an order (a `Waiting`); `found` is told its status."""
        self._begin(self._ask_status(one, found))

    async def _ask_role(self, signer: str, slug: str, moved: Callable[[str, str], None]) -> None:
        try:
            async with asyncio.timeout(ASK_S):
                told = orjson.loads(await self._ask({"type": "userRole", "user": signer}, slug))
            master = str(told["data"]["user"]).lower() if told["role"] == "agent" else signer
        except Exception as error:
            log.debug("role_not_read", error=type(error).__name__)
            self._masters.pop(signer, None)
            return
        self._masters[signer] = (master, self._now_ms())
        if master != signer:
            moved(signer, master)

    async def _ask_status(
        self, one: Waiting, found: Callable[[Any, Mapping[str, Any]], None]
    ) -> None:
        trace = one.trace
        payload = {"type": "orderStatus", "user": trace.user, "oid": trace.oid or trace.cloid}
        try:
            async with asyncio.timeout(ASK_S):
                told = orjson.loads(await self._ask(payload, one.slug))
            found(one, told["order"])
        except Exception as error:
            log.debug("order_status_not_read", error=type(error).__name__)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    def close(self) -> None:
        """Ask no more."""
        for task in self._asking:
            task.cancel()
