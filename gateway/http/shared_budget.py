"""The public budget of one address, shared by all edges through Redis.

A public request takes a tenth of a second, so the millisecond of asking Redis first is no loss. A
signed action shall not wait for it: who acts again and again is lent a few beforehand (`lent.py`).
Without Redis each process has its part.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import redis.asyncio
import structlog
from redis.exceptions import RedisError

from gateway.http.budget import LEND_S, WINDOW_S, Budget, Window
from gateway.http.lent import Lent, Loan
from tenants.wire.cancellation import stop_if_cancelled

log = structlog.get_logger(__name__)

KEY = "relay:public-budget"
#: Two processes that write in the same moment: one begins again with what the other wrote.
TRIES = 8
DEADLINE_S = 0.25
#: After a failure Redis is left alone for so long.
PAUSE_S = 2.0
#: Writes what follows from what was read, if it is still so; else says what is so now. With the
#: time there, for the next one.
_SWAP = """
local time, before = redis.call('TIME'), redis.call('GET', KEYS[1]) or ''
if before ~= ARGV[1] then return {0, before, time[1], time[2]} end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return {1, ARGV[2], time[1], time[2]}
"""


class _Ask(NamedTuple):
    """`answer` gets the seconds to wait; None for what is only counted. `borrow` is wanted for what
    comes next."""

    tenant: str
    weight: float
    answer: asyncio.Future[float] | None
    is_action: bool = False
    borrow: float = 0.0


class SharedBudget:
    """`take` as `Budget.take`, over all processes. Never raises, never waits for long."""

    def __init__(
        self,
        client: redis.asyncio.Redis | None,
        *,
        limit: float,
        processes: Callable[[], int],
        key: str = KEY,
        for_actions: float = 0.0,
    ) -> None:
        """`key` names the address and the service whose budget it is; `for_actions` is the part of
        it that is never read away, the same in all that share it."""
        self._client = client
        self._key = key
        self._limit = limit
        self._processes = processes
        self._for_actions = for_actions
        self._alone = Budget(limit, for_actions)
        self._paused_until_s = 0.0
        self._waiting: list[_Ask] = []
        self._working: asyncio.Task[None] | None = None
        #: The window as Redis had it last, and its clock beside ours.
        self._known: bytes | None = None
        self._ahead_s = 0.0
        self._lent = Lent()
        self._returned: list[Loan] = []
        self._borrowing: set[str] = set()

    async def take(self, tenant: str, weight: float, *, is_action: bool = False) -> float:
        """Spend `weight` of a tenant and return 0.0, or the seconds to wait."""
        loop, borrow = asyncio.get_running_loop(), 0.0
        if is_action:
            now_s = time.monotonic()
            is_lent = self._lent.spend(tenant, weight, now_s=now_s)
            if tenant not in self._borrowing:
                borrow = self._lent.wanted(tenant, now_s=now_s)
            if borrow:
                self._borrowing.add(tenant)
            if is_lent:
                if borrow:
                    self._enqueue(_Ask(tenant, 0.0, None, is_action, borrow))
                return 0.0
        answer = loop.create_future()
        self._enqueue(_Ask(tenant, weight, answer, is_action, borrow))
        return float(await answer)

    def owe(self, tenant: str, weight: float, *, is_action: bool = False) -> None:
        """Count what was used already, whatever is left; negative: what was taken and not used. It
        is written soon."""
        self._enqueue(_Ask(tenant, weight, None, is_action))

    def _enqueue(self, ask: _Ask) -> None:
        self._waiting.append(ask)
        self._begin()

    def _begin(self) -> None:
        if self._working is None or self._working.done():
            self._working = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        """All that wait are decided in one step, so that those of one process never get in each
        other's way: 100 at once lost 90 to each other's writing."""
        while self._waiting or self._returned:
            asked, self._waiting = self._waiting, []
            try:
                answers = await self._decide(asked)
            except BaseException:
                for ask in asked:
                    if ask.answer is not None:
                        ask.answer.cancel()
                raise
            finally:
                self._borrowing.difference_update(ask.tenant for ask in asked if ask.borrow)
            for ask, wait_s in zip(asked, answers, strict=True):
                if ask.answer is not None and not ask.answer.done():
                    ask.answer.set_result(wait_s)

    async def _decide(self, asked: list[_Ask]) -> list[float]:
        now_s = time.monotonic()
        if self._client is not None and now_s >= self._paused_until_s:
            try:
                # Not of the caller's deadline, which is of the upstream.
                return await self._decide_shared(self._client, asked)
            except (RedisError, OSError, TimeoutError, msgspec.DecodeError) as error:
                stop_if_cancelled()
                self._paused_until_s = now_s + PAUSE_S
                self._known = None
                log.warning("public_budget_unshared", error=type(error).__name__)
        self._returned.clear()  # they count as spent
        self._alone.limit = self._limit / max(1, self._processes())
        return _settle(self._alone, asked, now_s)

    async def _decide_shared(self, client: Any, asked: list[_Ask]) -> list[float]:
        async with asyncio.timeout(DEADLINE_S):
            if self._known is None:
                await self._read(client)
            for _ in range(TRIES):
                # Before it is counted there, so that it is never spent later than it may be.
                now_s = time.monotonic()
                answers, loans, budget = self._settled(asked, now_s)
                is_short = any(
                    wait_s and ask.is_action for ask, wait_s in zip(asked, answers, strict=True)
                )
                if is_short and (idle := self._lent.over(now_s=now_s, all_of_them=True)):
                    # No action is refused what lies here for another's.
                    self._returned += idle
                    answers, loans, budget = self._settled(asked, now_s)
                returned = len(self._returned)
                after = msgspec.msgpack.encode(budget.window)
                swapped, known, *clock = await client.eval(
                    _SWAP, 1, self._key, self._known, after, int(2 * WINDOW_S)
                )
                self._learnt(known, clock)
                if swapped:
                    del self._returned[:returned]
                    self._borrowed(loans, now_s)
                    return answers
        # Every process at once: come back in a moment.
        return [1.0] * len(asked)

    async def _read(self, client: Any) -> None:
        async with client.pipeline(transaction=False) as pipe:
            pipe.get(self._key)
            pipe.time()
            known, clock = await pipe.execute()
        self._learnt(known or b"", clock)

    def _learnt(self, known: bytes, clock: Sequence[Any]) -> None:
        self._known = known
        # Redis' clock counts: those of two machines need not agree.
        self._ahead_s = int(clock[0]) + int(clock[1]) / 1e6 - time.monotonic()

    def _settled(self, asked: list[_Ask], now_s: float) -> tuple[list[float], list[Loan], Budget]:
        """The answers, what is lent with them, and the budget as it is then."""
        known = self._known
        window = msgspec.msgpack.decode(known, type=Window) if known else Window()
        budget, loans = Budget(self._limit, self._for_actions, window), []
        for loan in self._returned:
            budget.give_back(loan.tenant, loan.left, slot=loan.slot)
        shared_s = now_s + self._ahead_s
        answers = _settle(budget, asked, shared_s)
        for ask, wait_s in zip(asked, answers, strict=True):
            if ask.borrow and not wait_s:
                slot = budget.lend(ask.tenant, ask.borrow, now_s=shared_s)
                if slot is not None:
                    loans.append(Loan(ask.tenant, ask.borrow, now_s + LEND_S, slot))
        return answers, loans, budget

    def _borrowed(self, loans: list[Loan], now_s: float) -> None:
        for loan in loans:
            self._lent.add(loan)
        if loans:
            asyncio.get_running_loop().call_later(LEND_S, self._give_back)

    def _give_back(self) -> None:
        self._returned += self._lent.over(now_s=time.monotonic())
        if self._returned:
            self._begin()


class ForActions:
    """A budget as actions spend it."""

    def __init__(self, budget: SharedBudget) -> None:
        self._budget = budget

    async def take(self, tenant: str, weight: float) -> float:
        """As `SharedBudget.take`."""
        return await self._budget.take(tenant, weight, is_action=True)

    def owe(self, tenant: str, weight: float) -> None:
        """As `SharedBudget.owe`."""
        self._budget.owe(tenant, weight, is_action=True)


def _settle(budget: Budget, asked: list[_Ask], now_s: float) -> list[float]:
    answers = []
    for ask in asked:
        if ask.answer is None:
            budget.owe(ask.tenant, ask.weight, now_s=now_s, is_action=ask.is_action)
            answers.append(0.0)
        else:
            wait_s = budget.take(ask.tenant, ask.weight, now_s=now_s, is_action=ask.is_action)
            answers.append(wait_s)
    return answers
