"""The public budget of one address, shared by all edges through Redis.

A public request takes a tenth of a second, so the millisecond of asking Redis first is no loss.
Without Redis each process has its part.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import redis.asyncio
import structlog
from redis.exceptions import RedisError

from gateway.http.budget import WINDOW_S, Budget, Window
from tenants.wire.cancellation import stop_if_cancelled

log = structlog.get_logger(__name__)

KEY = "relay:public-budget"
#: Two processes that write in the same moment: one begins again with what the other wrote.
TRIES = 8
DEADLINE_S = 0.25
#: After a failure Redis is left alone for so long.
PAUSE_S = 2.0
_SWAP = """
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
"""


class _Ask(NamedTuple):
    """`answer` gets the seconds to wait; None for what is only counted."""

    tenant: str
    weight: float
    answer: asyncio.Future[float] | None
    is_action: bool = False


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

    async def take(self, tenant: str, weight: float, *, is_action: bool = False) -> float:
        """Spend `weight` of a tenant and return 0.0, or the seconds to wait."""
        answer = asyncio.get_running_loop().create_future()
        self._enqueue(_Ask(tenant, weight, answer, is_action))
        return float(await answer)

    def owe(self, tenant: str, weight: float, *, is_action: bool = False) -> None:
        """Count what was used already, whatever is left; negative: what was taken and not used. It
        is written soon."""
        self._enqueue(_Ask(tenant, weight, None, is_action))

    def _enqueue(self, ask: _Ask) -> None:
        self._waiting.append(ask)
        if self._working is None or self._working.done():
            self._working = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        """All that wait are decided in one step, so that those of one process never get in each
        other's way: 100 at once lost 90 to each other's writing."""
        while self._waiting:
            asked, self._waiting = self._waiting, []
            try:
                answers = await self._decide(asked)
            except BaseException:
                for ask in asked:
                    if ask.answer is not None:
                        ask.answer.cancel()
                raise
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
                log.warning("public_budget_unshared", error=type(error).__name__)
        self._alone.limit = self._limit / max(1, self._processes())
        return _settle(self._alone, asked, now_s)

    async def _decide_shared(self, client: Any, asked: list[_Ask]) -> list[float]:
        async with asyncio.timeout(DEADLINE_S):
            for _ in range(TRIES):
                async with client.pipeline(transaction=False) as pipe:
                    pipe.get(self._key)
                    pipe.time()
                    before, (seconds, micros) = await pipe.execute()
                window = msgspec.msgpack.decode(before, type=Window) if before else Window()
                # Redis' clock: those of two machines need not agree.
                budget = Budget(self._limit, self._for_actions, window)
                answers = _settle(budget, asked, seconds + micros / 1e6)
                after = msgspec.msgpack.encode(budget.window)
                swapped = await client.eval(
                    _SWAP, 1, self._key, before or b"", after, int(2 * WINDOW_S)
                )
                if swapped:
                    return answers
        # Every process at once: come back in a moment.
        return [1.0] * len(asked)


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
