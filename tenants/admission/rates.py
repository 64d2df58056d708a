"""Rates across processes: slices of each bucket, leased from Redis, spent here without asking.

The law: what all processes let through in any window of T seconds is at most burst + rate × T. A
slice is taken out of the pot, so pot and slices together never hold more than the burst; a slice
that is not renewed lapses here before it does there. Without Redis each process refills its own
share of the rate, of as many as were last seen, from what it had.

Nobody waits who finds enough in the slice; who does not, waits for one call, because the answer
would be a refusal. What a bucket could not give is not asked for again before there is something.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import structlog

from tenants import metrics
from tenants.admission.limiter import MAX_BUCKETS, Rate
from tenants.wire.cancellation import stop_if_cancelled

log = structlog.get_logger(__name__)

RENEW_EVERY_S = 1.0
#: How long a slice is good for. Redis counts from when it hears, we from before we ask.
LEASE_S = 5.0
#: A slice is what was spent in a second, at least this part of our share of the burst, and at most
#: half of it.
SPARE = 8
ASK_AGAIN_S = 0.05
#: Renewed in one call: about 20 ms of Redis, of whose deadline 20,000 are beyond.
AT_A_TIME = 500
PAUSE_S = 0.5
DEADLINE_S = 0.5
#: After pots were lost: until every process must have asked once.
HOLD_S = RENEW_EVERY_S + PAUSE_S + DEADLINE_S


class OnHold(Exception):
    """The pots were lost: everybody has their own share for `seconds` more."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"for {seconds:.3f} s")
        self.seconds = seconds


class Request(NamedTuple):
    """`spent` since it was last told, and so much more is wanted (negative: goes back)."""

    bucket: str
    rate: Rate
    spent: float
    want: float


class Grant(NamedTuple):
    """What this process holds now, and what is left in the pot (below 0: owed)."""

    held: float
    pot: float


class Store(Protocol):
    """The pots; any exception but OnHold means "no answer"."""

    async def lease(self, requests: Sequence[Request]) -> list[Grant]: ...


class Level(NamedTuple):
    """How a bucket stands: its rate, and about how much it would give now."""

    rate: Rate
    remaining: float

    @property
    def full_in_s(self) -> float:
        """How long until it is full."""
        return max(0.0, self.rate.burst - self.remaining) * 60 / self.rate.per_minute


class _Slice:
    __slots__ = ("again_s", "asking", "expires_s", "is_idle", "level", "pot", "rate",
                 "refilled_s", "spent")  # fmt: skip

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self.level = 0.0
        self.pot = 0.0
        self.spent = 0.0
        self.expires_s = float("-inf")
        self.again_s = float("-inf")
        self.refilled_s: float | None = None  # while it is our own
        self.is_idle = False
        self.asking: asyncio.Future[None] | None = None


class Rates:
    """One per process, used in its event loop. `processes` says how many were last seen."""

    def __init__(
        self,
        store: Store | None,
        *,
        processes: Callable[[], int] = lambda: 1,
        monotonic: Callable[[], float] = time.monotonic,
        max_buckets: int = MAX_BUCKETS,
    ) -> None:
        self._store = store
        self._processes = processes
        self._monotonic = monotonic
        self._max_buckets = max_buckets
        self._slices: OrderedDict[str, _Slice] = OrderedDict()
        self._pause_until_s = float("-inf")
        #: What was left in the pots then is nobody's to spend. Never heard of: all of our share.
        self._alone_since_s = float("-inf")
        self._alone_until_s = float("inf")
        self.is_alone = store is None

    async def take(self, bucket: str, rate: Rate, weight: float) -> float:
        """Spend `weight` and return 0.0, or spend nothing and return the seconds to wait.

        What is heavier than the whole burst takes the whole burst: it could never be served else.
        """
        weight = min(weight, rate.burst)
        found = self._slice(bucket, rate)
        for _ in range(3):
            if self._spend(found, weight):
                return 0.0
            if not await self._ask(bucket, found, weight):
                break
        if self._spend(found, weight):
            return 0.0
        missing = weight - found.level - max(found.pot, -float(rate.burst)) * (not self.is_alone)
        per_s = rate.per_minute / 60 / (max(1, self._processes()) if self.is_alone else 1)
        return max(missing / per_s, ASK_AGAIN_S)

    def give_back(self, bucket: str, weight: float) -> None:
        """Undo a `take`: another bucket refused."""
        if (found := self._slices.get(bucket)) is not None:
            weight = min(weight, found.rate.burst)
            found.level += weight
            found.spent -= weight

    def owe(self, bucket: str, rate: Rate, weight: float) -> None:
        """Spend `weight`, at most the burst, also of what is not there: it is owed, and who takes
        next waits for it. Redis hears of it with the next lease."""
        found = self._slice(bucket, rate)
        weight = min(weight, rate.burst)
        found.level -= weight
        found.spent += weight

    def level(self, bucket: str, rate: Rate) -> Level:
        """How a bucket stands, as far as this process knows."""
        found = self._slices.get(bucket)
        if found is None:
            return Level(rate, float(rate.burst))
        remaining = found.level + (0.0 if self.is_alone else found.pot)
        return Level(rate, min(max(0.0, remaining), float(rate.burst)))

    async def run(self) -> None:
        """Renew what is used and give back what is not, until cancelled."""
        while True:
            stop_if_cancelled()
            await asyncio.sleep(RENEW_EVERY_S)
            try:
                await self.renew()
            except Exception as error:
                stop_if_cancelled()
                log.error("rates_not_renewed", error=type(error).__name__)

    async def renew(self) -> None:
        """Tell what was spent, take as much again, and give back what nobody asked for."""
        if self._store is None or self._monotonic() < self._pause_until_s:
            return
        everything = list(self._slices)
        for start in range(0, max(1, len(everything)), AT_A_TIME):
            due = self._due(everything[start : start + AT_A_TIME])
            await self._lease(due)  # of none as well: whether Redis answers must be known
            if self._monotonic() < self._pause_until_s:
                return
            for bucket, found, want in due:
                if found.is_idle and want <= 0 and found.level <= 0 and not found.spent:
                    if self._slices.get(bucket) is found and found.asking is None:
                        del self._slices[bucket]

    def _due(self, buckets: Sequence[str]) -> list[tuple[str, _Slice, float]]:
        """What to ask for each now: more, nothing, or to take back what was not used."""
        due: list[tuple[str, _Slice, float]] = []
        for bucket in buckets:
            found = self._slices.get(bucket)
            if found is None or found.asking is not None:
                continue
            if found.spent:
                found.is_idle = False
                due.append((bucket, found, max(0.0, self._target(found) - found.level)))
            elif found.is_idle:
                due.append((bucket, found, -found.level))
            else:
                found.is_idle = True
                due.append((bucket, found, 0.0))
        return due

    # --- spending ---

    def _slice(self, bucket: str, rate: Rate) -> _Slice:
        found = self._slices.get(bucket)
        if found is None:
            found = self._slices[bucket] = _Slice(rate)
            if len(self._slices) > self._max_buckets:
                self._slices.popitem(last=False)  # what it held lapses
        else:
            self._slices.move_to_end(bucket)
            if found.rate != rate:
                found.rate, found.again_s = rate, float("-inf")
        return found

    def _spend(self, found: _Slice, weight: float) -> bool:
        now_s = self._monotonic()
        need = weight
        if now_s >= self._alone_until_s:
            self._come_back(is_lost=True)
        if self.is_alone:
            need = min(weight, self._refill(found, now_s))
        elif now_s >= found.expires_s:
            found.level = 0.0
        if found.level < need:
            return False
        # What is heavier than a share is owed: the next must wait for it.
        found.level -= weight
        found.spent += weight
        return True

    def _refill(self, found: _Slice, now_s: float) -> float:
        """Our own share of a bucket, up to now; answers how much of it fits."""
        share = max(1, self._processes())
        most = max(found.rate.burst / share, 1.0)
        if found.refilled_s is None:
            if now_s >= found.expires_s:
                found.level = 0.0
            found.refilled_s = self._alone_since_s
        passed_s = max(0.0, now_s - found.refilled_s)
        refill = most if passed_s == float("inf") else passed_s * found.rate.per_minute / 60 / share
        found.level = max(found.level, min(most, found.level + refill))
        found.refilled_s = now_s
        return most

    # --- leasing ---

    async def _ask(self, bucket: str, found: _Slice, weight: float) -> bool:
        """Lease more; answers whether it makes sense to look again."""
        if found.asking is not None:
            await asyncio.shield(found.asking)
            return True
        now_s = self._monotonic()
        if self._store is None or now_s < found.again_s or now_s < self._pause_until_s:
            return False
        want = weight + self._target(found) - found.level
        before = self.is_alone
        await self._lease([(bucket, found, want)])
        if found.level < weight and not self.is_alone:
            found.again_s = self._monotonic() + ASK_AGAIN_S
        return found.level >= weight or before != self.is_alone

    def _target(self, found: _Slice) -> float:
        share = max(1, self._processes())
        return min(max(found.rate.burst / share / SPARE, found.spent), found.rate.burst / share / 2)

    async def _lease(self, due: list[tuple[str, _Slice, float]]) -> None:
        assert self._store is not None  # noqa: S101
        asked_s = self._monotonic()
        if asked_s >= self._alone_until_s:
            self._come_back(is_lost=True)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        requests = []
        for bucket, found, want in due:
            found.asking = done
            requests.append(Request(bucket, found.rate, found.spent, want))
            if want < 0:
                found.level = 0.0  # on its way back
        try:
            async with asyncio.timeout(DEADLINE_S):
                grants = await self._store.lease(requests)
        except OnHold as hold:
            self._be_alone(hold)
            self._alone_until_s = self._pause_until_s = asked_s + hold.seconds
            return
        except Exception as error:
            stop_if_cancelled()
            metrics.unshared.labels("rates").inc()
            self._be_alone(error)
            self._alone_until_s = float("inf")
            self._pause_until_s = self._monotonic() + PAUSE_S
            return
        finally:
            for _, found, _ in due:
                found.asking = None
            done.set_result(None)
        if self.is_alone:
            self._come_back(is_lost=False)
        for (_, found, _), grant, request in zip(due, grants, requests, strict=True):
            meanwhile = found.spent = found.spent - request.spent
            found.level, found.pot = grant.held - meanwhile, grant.pot
            found.expires_s, found.refilled_s = asked_s + LEASE_S, None

    def _be_alone(self, why: Exception) -> None:
        if not self.is_alone:
            self.is_alone, self._alone_since_s = True, self._monotonic()
            log.warning("rates_unshared", error=type(why).__name__)

    def _come_back(self, *, is_lost: bool) -> None:
        self.is_alone, self._alone_until_s = False, float("inf")
        log.warning("rates_shared")
        for found in self._slices.values():  # what we refilled ourselves is no lease
            found.expires_s, found.refilled_s = float("-inf"), None
            if is_lost:  # and what we spent of it, of no pot
                found.spent = 0.0
