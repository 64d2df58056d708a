"""The order trace of one process: noted at the door in memory, written in the background.

Nothing here waits, and what fails loses traces, never orders.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable

import structlog
from prometheus_client import Counter as Metric
from redis.exceptions import RedisError

from gateway.exchange import trace as traces
from gateway.exchange.asked import ORDERS, Asked
from gateway.exchange.passage import Outcome, Passed
from gateway.exchange.trace import Trace
from gateway.exchange.trace_follow import Follower
from gateway.exchange.trace_store import Batch, TraceStore
from tenants.admission.principal import Principal
from tenants.wire.cancellation import stop_if_cancelled

log = structlog.get_logger(__name__)

WRITE_EVERY_S = 0.25
SWEEP_EVERY_S = 1.0
#: Without anything to write, so often: what says that this process still follows its orders.
BEAT_EVERY_S = 5.0
#: Traces that wait for Redis, of a tenant and of all: about 10 MB.
MAX_WAITING, MAX_ALL_WAITING = 5_000, 20_000
#: Written in one go, of a tenant.
AT_ONCE = 1_000
RETRY_S = 2.0
LAST_S = 1.0
_OUTCOMES = {
    Outcome.ANSWERED: traces.ANSWERED,
    Outcome.NOT_SENT: traces.NOT_SENT,
    Outcome.UNKNOWN: traces.UNKNOWN,
}

TRACED = Metric("relay_exchange_traces_total", "Rows of actions, by what became of them.", ["how"])


class Tracer:
    """One per process; `run` must be running for traces to be written, and followed."""

    def __init__(
        self,
        store: TraceStore | None,
        *,
        process: str,
        coin_of: Callable[[int], str | None],
        now_ms: Callable[[], float] = lambda: time.time() * 1e3,
    ) -> None:
        """`coin_of` names an asset as far as that is known."""
        self._store = store
        self._process = process
        self._coin_of = coin_of
        self._now_ms = now_ms
        self._number = 0
        self._waiting: dict[int, Batch] = {}
        self._count = 0
        self._is_failing = False
        #: Set once the process has a hub.
        self.follower: Follower | None = None

    def changed(self, tenant_id: int, trace: Trace) -> None:
        """A trace knows more than before."""
        batch = self._batch(tenant_id)
        if trace.id not in batch.rows:
            if self._count >= MAX_ALL_WAITING or len(batch.rows) >= MAX_WAITING:
                TRACED.labels("dropped").inc()
                return
            self._count += 1
            batch.rows[trace.id] = trace
        if trace.block_ms is not None and trace.sent_ms is not None:
            # Once: a trace gets its block once, and its first fill once.
            for step in (traces.BLOCK, traces.FILL):
                if step not in trace.told and (took := trace.took_ms(step)) is not None:
                    trace.told = (*trace.told, step)
                    batch.times[f"{step}:{traces.bucket_of(took)}"] += 1

    def note(
        self,
        asked: Asked,
        principal: Principal,
        *,
        request_id: str,
        received_ms: float,
        received_ns: int,
        signer: str,
        passed: Passed | None,
        refused: str = "",
        warnings: tuple[str, ...] = (),
    ) -> None:
        """An action is over at this door: it was answered, its outcome is not known, or it was not
        sent (`passed` None: for the reason `refused`). `received_ns` is of the monotonic clock, as
        those of `passed` are."""
        try:
            self._note(
                asked, principal, request_id, received_ms, received_ns, signer, passed, refused,
                warnings,
            )  # fmt: skip
        except Exception as error:
            log.error("action_not_traced", error=type(error).__name__)

    def _note(
        self,
        asked: Asked,
        principal: Principal,
        request_id: str,
        received_ms: float,
        received_ns: int,
        signer: str,
        passed: Passed | None,
        refused: str,
        warnings: tuple[str, ...],
    ) -> None:
        def wall_ms(at_ns: int) -> float | None:
            return received_ms + (at_ns - received_ns) / 1e6 if at_ns else None

        answer = passed.answer.body if passed is not None and passed.answer is not None else None
        outcome = traces.REFUSED if passed is None else _OUTCOMES[passed.outcome]
        is_sent = passed is not None and passed.outcome is not Outcome.NOT_SENT
        sent_ms = wall_ms(passed.sent_ns) if passed is not None and is_sent else None
        acked_ms = wall_ms(passed.answered_ns) if passed is not None and answer else None
        if self.follower is not None and signer:
            signer_user = self.follower.user_of(signer)
        else:
            signer_user = signer
        kind, user = traces.kind_of(asked), traces.user_of(asked, signer_user)
        batch = self._batch(principal.tenant_id)
        for row in traces.rows_of(asked, answer):
            if self._count >= MAX_ALL_WAITING or len(batch.rows) >= MAX_WAITING:
                TRACED.labels("dropped").inc()
                continue
            self._number += 1
            trace = Trace(
                traces.id_of(received_ms, self._number, self._process),
                request_id,
                principal.key_id,
                principal.key_prefix,
                kind,
                row.place,
                received_ms,
                row.asset,
                (self._coin_of(row.asset) or "") if row.asset is not None else "",
                row.oid,
                row.cloid,
                user,
                outcome,
                row.status,
                row.text or refused[: traces.TEXT_CHARS],
                sent_ms,
                acked_ms,
                follower=self._process,
                warnings=warnings,
            )
            batch.rows[trace.id] = trace
            batch.new.add(trace.id)
            self._count += 1
            TRACED.labels(outcome).inc()
            if is_sent and row.status != "error" and self.follower is not None:
                self.follower.wait_for(
                    trace,
                    tenant_id=principal.tenant_id,
                    slug=principal.tenant_slug,
                    signer=signer,
                    may_rest=kind in ORDERS,
                )
        for step, begin, end in (
            (traces.SENT, received_ms, sent_ms),
            (traces.ACKED, sent_ms, acked_ms),
        ):
            if begin is not None and end is not None:  # of an action, however many its rows
                batch.times[f"{step}:{traces.bucket_of(end - begin)}"] += 1
        for code in warnings:
            batch.warned[f"{principal.key_id}:{code.partition(';')[0]}"] += 1

    def _batch(self, tenant_id: int) -> Batch:
        batch = self._waiting.get(tenant_id)
        if batch is None:
            batch = self._waiting[tenant_id] = Batch()
        return batch

    # --- in the background ------------------------------------------------------------------------

    async def run(self) -> None:
        """Write until cancelled, and once more then."""
        if self._store is None:
            return
        swept_s = beat_s = time.monotonic()
        try:
            while True:
                await asyncio.sleep(RETRY_S if self._is_failing else WRITE_EVERY_S)
                now_s = time.monotonic()
                if self.follower is not None and now_s - swept_s >= SWEEP_EVERY_S:
                    swept_s = now_s
                    self.follower.sweep()
                if self._waiting or now_s - beat_s >= BEAT_EVERY_S:
                    beat_s = now_s
                    await self.flush()
                    stop_if_cancelled()
        finally:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(LAST_S):
                    await self.flush()

    async def flush(self) -> None:
        """Write what waits. What cannot be written waits on, within its bounds."""
        if self._store is None:
            return
        taken = self._taken()
        try:
            await self._store.write(taken, now_ms=self._now_ms())
        except (RedisError, OSError, TimeoutError) as error:
            self._give_back(taken)
            stop_if_cancelled()
            if not self._is_failing:
                log.warning("traces_not_written", error=type(error).__name__)
            self._is_failing = True
        except BaseException:
            self._give_back(taken)
            raise
        else:
            self._is_failing = False

    def _taken(self) -> dict[int, Batch]:
        taken: dict[int, Batch] = {}
        for tenant_id, batch in list(self._waiting.items()):
            if len(batch.rows) <= AT_ONCE:
                taken[tenant_id] = self._waiting.pop(tenant_id)
            else:
                part = taken[tenant_id] = Batch(times=batch.times, warned=batch.warned)
                batch.times, batch.warned = Counter(), Counter()
                for id_ in list(batch.rows)[:AT_ONCE]:
                    part.rows[id_] = batch.rows.pop(id_)
                    if id_ in batch.new:
                        batch.new.discard(id_)
                        part.new.add(id_)
            self._count -= len(taken[tenant_id].rows)
        return taken

    def _give_back(self, taken: dict[int, Batch]) -> None:
        """Those that came meanwhile are newer."""
        for tenant_id, batch in taken.items():
            later = self._waiting.get(tenant_id, Batch())
            batch.rows |= later.rows
            batch.new |= later.new
            batch.times += later.times
            batch.warned += later.warned
            self._waiting[tenant_id] = batch
        self._count = sum(len(batch.rows) for batch in self._waiting.values())

    async def aclose(self) -> None:
        """Let go of hub and Redis."""
        if self.follower is not None:
            await self.follower.aclose()
        if self._store is not None:
            await self._store.aclose()
