"""Keys that trade, as the database has them within a second: a kill switch must not wait for an
announcement that may be lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from tenants.admission.control import AdmissionControl
from tenants.admission.errors import InvalidKey
from tenants.admission.principal import Principal

log = structlog.get_logger(__name__)

#: The kill switch is promised within a second, also where its announcement was lost.
LOOK_AGAIN_S = 0.4
#: A key that has sent nothing for so long is not looked at any more, until it does again.
TRADER_FOR_S = 600.0


class Traders:
    """Of one process."""

    def __init__(
        self, admission: AdmissionControl, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._admission = admission
        self._monotonic = monotonic
        #: When a key traded last, by its digest.
        self._last_s: dict[str, float] = {}
        self._looking: asyncio.Task[None] | None = None

    async def as_of_now(self, principal: Principal) -> Principal:
        """The principal, as the database had it at most a second ago, if that can be told. Raises
        InvalidKey when it is none any more."""
        digest = principal.digest
        if digest not in self._last_s:
            await self._admission.revalidate([digest])
        self._last_s[digest] = self._monotonic()
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_again())
        directory = self._admission.directory
        if directory.opens_nothing(digest):
            raise InvalidKey
        return directory.cached(digest) or principal

    async def _look_again(self) -> None:
        """Ask about the keys that trade, for as long as there are any."""
        while self._last_s:
            await asyncio.sleep(LOOK_AGAIN_S)
            since_s = self._monotonic() - TRADER_FOR_S
            self._last_s = {key: at for key, at in self._last_s.items() if at > since_s}
            try:
                await self._admission.revalidate(list(self._last_s))
            except Exception as error:
                log.error("traders_not_revalidated", error=type(error).__name__)

    def close(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()
