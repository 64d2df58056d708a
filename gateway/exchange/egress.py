"""Our addresses at the exchange, which counts by address and not by customer.

A tenant with addresses of its own is sent from these alone, so that nobody else can spend them. All
others share the rest; each begins at another one, and goes on to the next when that is spent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import structlog

from gateway.exchange.passage import Outcome, Passage, Passed
from gateway.http.errors import HttpError
from tenants.admission.principal import Principal

log = structlog.get_logger(__name__)

READ_EVERY_S = 10.0
#: How long the first order waits for the rows.
FIRST_READ_S = 1.0
#: An address from which nothing could be sent is asked last for so long.
BAD_FOR_S = 30.0
#: The exchange's limit of an address, when no row says otherwise.
PER_MINUTE = 1_200
#: The kernel's choice.
ANY = ""


@dataclass(frozen=True, slots=True)
class Egress:
    """An address of ours; `tenant_id` is whose alone it is, None for everybody's."""

    address: str = ANY
    tenant_id: int | None = None
    per_minute: int = PER_MINUTE


class Budget(Protocol):
    """What an address may ask in a minute, shared fairly between tenants and over all processes."""

    async def take(self, tenant: str, weight: float) -> float:
        """Spend and answer 0.0, or the seconds to wait, and nothing is spent."""
        ...

    def owe(self, tenant: str, weight: float) -> None:
        """Negative: give back what was taken and not used."""
        ...


class Pool:
    """Sends from one of the addresses. `read` gives the rows, from the database."""

    def __init__(
        self,
        *,
        read: Callable[[], Awaitable[list[Egress]]],
        budget_of: Callable[[Egress], Budget],
    ) -> None:
        self._read = read
        self._budget_of = budget_of
        self._egresses: list[Egress] = []
        self._budgets: dict[Egress, Budget] = {}
        self._passages: dict[str, Passage] = {}
        self._reading: asyncio.Task[None] | None = None
        self._is_read = asyncio.Event()
        self._bad_until_s: dict[Egress, float] = {}

    async def send(
        self,
        urls: Sequence[str],
        body: bytes,
        *,
        principal: Principal,
        weight: int,
        check: Callable[[], None] = lambda: None,
    ) -> Passed:
        """As `Passage.send`. `check` is called last before anything is sent, and what it raises is
        raised. Raises HttpError 429 where no address has anything left."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read_forever())
        if not self._is_read.is_set():
            # A database that hangs at the start: from any address, as without rows.
            with suppress(TimeoutError):
                async with asyncio.timeout(FIRST_READ_S):
                    await self._is_read.wait()
        wait_s = float("inf")
        passed: Passed | None = None
        for egress in self._for(principal.tenant_id):
            budget = self._budgets.setdefault(egress, self._budget_of(egress))
            # By the name under which `/info` spends of it too.
            tenant = principal.tenant_slug
            if wait := await budget.take(tenant, weight):
                wait_s = min(wait_s, wait)
                continue
            try:
                check()
                passed = await self._passage(egress.address).send(urls, body)
            except BaseException:
                budget.owe(tenant, -weight)
                raise
            if passed.outcome is not Outcome.NOT_SENT:
                return passed
            budget.owe(tenant, -weight)
            if egress.address != ANY:
                # Not an address of this host, or one without a way out.
                self._bad_until_s[egress] = time.monotonic() + BAD_FOR_S
                log.warning("egress_does_not_send", address=egress.address, why=passed.why)
        if passed is not None:
            return passed
        seconds = max(1, round(wait_s + 0.5))
        raise HttpError(
            429,
            "upstream_budget_spent",
            f"The exchange counts our addresses' requests, and their minute is spent: try again in "
            f"{seconds} s. Nothing was sent. (An address of your own is an add-on.)",
            headers=[(b"retry-after", b"%d" % seconds)],
        )

    def _for(self, tenant_id: int) -> list[Egress]:
        own = [one for one in self._egresses if one.tenant_id == tenant_id]
        if own:
            return sorted(own, key=self._is_bad)
        shared = [one for one in self._egresses if one.tenant_id is None] or [Egress()]
        first = tenant_id % len(shared)
        return sorted(shared[first:] + shared[:first], key=self._is_bad)

    def _is_bad(self, egress: Egress) -> bool:
        return time.monotonic() < self._bad_until_s.get(egress, float("-inf"))

    def _passage(self, address: str) -> Passage:
        passage = self._passages.get(address)
        if passage is None:
            passage = self._passages[address] = Passage(local_address=address or None)
        return passage

    async def _read_forever(self) -> None:
        while True:
            try:
                self._egresses = await self._read()
            except Exception as error:
                # Trading goes on from the addresses that were known, and if none were, from any.
                log.warning("egress_not_read", error=type(error).__name__)
            self._is_read.set()
            await asyncio.sleep(READ_EVERY_S)

    async def aclose(self) -> None:
        """Close the connections."""
        if self._reading is not None:
            self._reading.cancel()
        for passage in self._passages.values():
            await passage.close()


async def read_rows() -> list[Egress]:
    """The enabled rows."""
    from gateway.exchange.models import EgressAddress

    rows = EgressAddress.objects.filter(is_enabled=True).order_by("pk")
    return [Egress(row.address, row.tenant_id, row.weight_per_minute) async for row in rows]
