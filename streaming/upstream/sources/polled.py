"""States of users and assets that no node file holds, read again and again from a node's `/info`.

One request serves every topic that its answer holds a part of. A frame is published when something
in it has changed, other than a clock. A node answers only some request types: what it refuses is
not served here, so that another source may have it.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import structlog

from streaming.core.catalogue import Catalogue
from streaming.core.envelope import ORIGIN, Envelope, Position, Role, Times
from streaming.core.topic import Kind, Topic
from streaming.upstream.rate import ByteRate
from streaming.upstream.sources.base import Publish
from streaming.upstream.sources.info import InfoFailed
from streaming.upstream.sources.polled_frames import (
    Request,
    Unusable,
    decode,
    dex_of,
    digest_of,
    frame_of,
    probes,
    requests_of,
    time_ms_of,
    types_of,
)

log = structlog.get_logger(__name__)

#: A node answers its own `/info` without a limit, but on the cores that apply blocks: a
#: `clearinghouseState` costs it a fraction of a millisecond, a `webData2` several.
MAX_POLLS_PER_S = 50.0
IN_FLIGHT = 4
#: With a request each that is polled every 100 s: beyond, a frame would be history.
MAX_TOPICS = 5_000
#: An answer that takes longer makes its topics stale, as does a second failure in a row.
OVERDUE_S = 2.0
#: The longest pause after failures in a row.
MAX_PAUSE_S = 10.0
PROBE_EVERY_S = 60.0
PROBE_AGAIN_S = 2.0

#: Seconds between two polls while the node keeps up. The exchange's own feeds push about as often.
CADENCE_S = {
    Kind.ACTIVE_ASSET_CTX: 1.0,
    Kind.CLEARINGHOUSE_STATE: 1.0,
    Kind.ALL_DEXS_CLEARINGHOUSE_STATE: 2.0,
    Kind.SPOT_STATE: 1.0,
    Kind.OPEN_ORDERS: 1.0,
    Kind.ACTIVE_ASSET_DATA: 1.0,
    Kind.WEB_DATA2: 2.0,
}


NO_ANSWER = "The node does not answer this: {}"


@dataclass(slots=True)
class _Polled:
    """One request: who wants it, its last answer, and when it is due."""

    request: Request
    topics: dict[Topic, None] = field(default_factory=dict)
    body: bytes = b""
    time_ms: int = 0  # block time of `body`, where it says
    asked_ns: int = 0  # wall clock, UTC: what the last answer says was true then or later
    failures: int = 0
    reason: str = ""
    is_down: bool = False  # its topics were told that nobody serves them

    @property
    def cadence_s(self) -> float:
        return min(CADENCE_S[topic.kind] for topic in self.topics)


@dataclass(slots=True)
class _Shown:
    """What a topic last published."""

    position: Position = ORIGIN
    digest: bytes = b""
    payload: bytes = b""
    times: Times = field(default_factory=Times)


class PolledSource:
    """Implements `Source` on a node's `/info`.

    `info` answers one request body, or raises InfoFailed, whose text ends with `HTTP <status>` when
    the node refused. `max_polls_per_s` holds for all topics together: with more, all are polled
    less often alike.
    """

    def __init__(
        self,
        info: Callable[[bytes], Awaitable[bytes]],
        *,
        catalogue: Callable[[], Catalogue],
        name: str = "polled",
        max_polls_per_s: float = MAX_POLLS_PER_S,
    ) -> None:
        if max_polls_per_s <= 0:
            raise ValueError(f"max_polls_per_s must be above 0, not {max_polls_per_s}")
        self.name = name
        self._info, self._catalogue = info, catalogue
        self._spacing_s = 1 / max_polls_per_s
        self._epoch = f"p-{uuid.uuid4().hex[:12]}"
        self._count = 0
        self._answered: frozenset[str] = frozenset()  # request types
        self._told: set[str] = set()
        self._wanted: dict[Topic, tuple[Request, ...]] = {}
        self._shown: dict[Topic, _Shown] = {}
        self._polled: dict[Request, _Polled] = {}
        self._due: list[tuple[float, int, Request]] = []  # a heap; gone requests stay until popped
        self._order = itertools.count()
        self._woken = asyncio.Event()
        self._turn = asyncio.Lock()
        self._free_at_s = 0.0
        self._late_s = 0.0
        self._polls = 0
        self._rate = ByteRate()
        self._faults: Counter[str] = Counter()
        self._publish: Publish = lambda envelopes: None

    # --- Source -----------------------------------------------------------------------------------

    @property
    def catalogue(self) -> Catalogue:
        """The names the nodes know."""
        return self._catalogue()

    def serves(self, topic: Topic) -> bool:
        """Whether the node has been seen to answer every request the topic needs."""
        if topic.kind not in CADENCE_S or not self.catalogue.knows(topic):
            return False
        return bool(self._answered) and types_of(topic) <= self._answered

    def want(self, topic: Topic, tenants: Collection[str] = ()) -> bool:
        """Poll for it from now on. False when `MAX_TOPICS` are polled already."""
        if topic in self._wanted:
            return True
        if len(self._wanted) >= MAX_TOPICS:
            return False
        requests = requests_of(topic, self.catalogue.dexes)
        self._wanted[topic], self._shown[topic] = requests, _Shown()
        for request in requests:
            polled = self._polled.get(request)
            if polled is None:
                polled = self._polled[request] = _Polled(request)
                self._schedule(request, at_s=time.monotonic())
            polled.topics[topic] = None
        self._show(topic, [])  # another topic may have asked already
        return True

    def unwant(self, topic: Topic) -> None:
        """Stop; a request that nobody needs any more is not polled again."""
        self._shown.pop(topic, None)
        for request in self._wanted.pop(topic, ()):
            polled = self._polled[request]
            del polled.topics[topic]
            if not polled.topics:
                del self._polled[request]

    def snapshot(self, topic: Topic) -> Envelope | None:
        """The last state, why there is none, or None before the first answer."""
        shown = self._shown.get(topic)
        if shown is None:
            return None
        polled = [self._polled[request] for request in self._wanted[topic]]
        if shown.payload and not any(each.is_down for each in polled):
            return Envelope(
                topic.name,
                self._epoch,
                shown.position,
                ORIGIN,
                Role.SNAPSHOT,
                shown.payload,
                shown.times,
            )
        reason = next((each.reason for each in polled if each.reason), "")
        return self._not_ready(topic, reason) if reason else None

    def state(self) -> dict[str, Any]:
        """Live figures for the heartbeat."""
        return {
            "kind": "polled",
            "height": None,
            "requests": len(self._polled),
            "topics": len(self._wanted),
            "answered": sorted(self._answered),
            "polls": self._polls,
            "bytes_per_s": self._rate.per_s(),
            "late_s": round(self._late_s, 3),
            "faults": dict(self._faults),
        }

    async def run(self, publish: Publish) -> None:
        """Learn what the node answers, then poll, until cancelled."""
        self._publish = publish
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_probing())
            for _ in range(IN_FLIGHT):
                group.create_task(self._keep_polling())

    # --- what the node answers --------------------------------------------------------------------

    async def _keep_probing(self) -> None:
        while True:
            is_known = await self._probe()
            await asyncio.sleep(PROBE_EVERY_S if is_known else PROBE_AGAIN_S)

    async def _probe(self) -> bool:
        """Ask each type once. False when the node said of some type neither yes nor no."""
        answered, is_known = set(self._answered), True
        for kind, request in probes(self.catalogue):
            try:
                body = decode(await self._info(request))
                if kind == "webData2" and "assetCtxs" not in body:
                    # A local node leaves the contexts out: a frame made of it would lack them.
                    raise InfoFailed("without assetCtxs: HTTP 422")
            except Unusable as unusable:
                self._faults[str(unusable)] += 1
                is_known = False
            except InfoFailed as failed:
                if not failed.is_refusal:
                    self._faults["no_answer"] += 1
                    is_known = False
                    continue
                answered.discard(kind)
                if kind not in self._told:
                    self._told.add(kind)
                    log.info("info_type_not_answered", source=self.name, type=kind)
            else:
                answered.add(kind)
        self._answered = frozenset(answered)
        return is_known

    # --- polling ----------------------------------------------------------------------------------

    def _schedule(self, request: Request, *, at_s: float) -> None:
        heapq.heappush(self._due, (at_s, next(self._order), request))
        self._woken.set()

    async def _keep_polling(self) -> None:
        while True:
            async with self._turn:
                polled = await self._next()
            began_s = time.monotonic()
            await self._poll(polled)
            if self._polled.get(polled.request) is polled:
                # From its beginning on, so that a slow node does not stretch the cadence. Who is
                # late goes to the end of those who are late: all degrade alike.
                pause_s = polled.cadence_s
                if polled.failures:
                    pause_s = min(MAX_PAUSE_S, pause_s * 2 ** min(polled.failures, 10))
                self._schedule(polled.request, at_s=began_s + pause_s)

    async def _next(self) -> _Polled:
        """The next request, once it is due and the rate allows it."""
        while True:
            now_s = time.monotonic()
            at_s = max(self._due[0][0], self._free_at_s) if self._due else None
            if at_s is None or at_s > now_s:
                self._woken.clear()
                try:
                    async with asyncio.timeout(None if at_s is None else at_s - now_s):
                        await self._woken.wait()
                except TimeoutError:
                    pass
                continue
            due_s, _, request = heapq.heappop(self._due)
            polled = self._polled.get(request)
            if polled is not None:
                self._late_s = now_s - due_s
                self._free_at_s = now_s + self._spacing_s
                return polled

    async def _poll(self, polled: _Polled) -> None:
        self._polls += 1
        asked_ns = time.time_ns()
        overdue = asyncio.get_running_loop().call_later(
            OVERDUE_S, self._end, polled, NO_ANSWER.format(f"not within {OVERDUE_S:g} s")
        )
        try:
            body = (await self._info(polled.request)).strip()
            self._rate.add(len(body))
            time_ms = time_ms_of(decode(body)) if body != polled.body else polled.time_ms
            if time_ms < polled.time_ms:
                # Of a node that is behind the one asked before: a closed position would be back.
                raise Unusable("time_backwards")
        except (InfoFailed, OSError, Unusable) as failed:  # TimeoutError is an OSError
            polled.failures += 1
            polled.reason = NO_ANSWER.format(failed or type(failed).__name__)
            self._faults[str(failed) if isinstance(failed, Unusable) else "no_answer"] += 1
            if polled.failures > 1:
                self._end(polled, polled.reason)
            return
        finally:
            overdue.cancel()
        was_down = polled.is_down
        polled.failures, polled.reason, polled.is_down = 0, "", False
        polled.time_ms = time_ms
        is_new, polled.body, polled.asked_ns = body != polled.body, body, asked_ns
        envelopes: list[Envelope] = []
        if is_new:
            for topic in polled.topics:
                self._show(topic, envelopes)
        if was_down:
            again = (self.snapshot(topic) for topic in polled.topics)
            envelopes += [e for e in again if e is not None]
        if envelopes:
            self._publish(envelopes)

    def _end(self, polled: _Polled, reason: str) -> None:
        """What this request gave is no longer known to be true."""
        if not polled.is_down and self._polled.get(polled.request) is polled:
            polled.is_down, polled.reason = True, reason
            self._publish([self._not_ready(topic, reason) for topic in polled.topics])

    def _not_ready(self, topic: Topic, why: str) -> Envelope:
        return Envelope(topic.name, self._epoch, ORIGIN, ORIGIN, Role.NOT_READY, why.encode())

    def _show(self, topic: Topic, envelopes: list[Envelope]) -> None:
        """Make the topic's frame of the answers there are; one that differs goes to `envelopes`."""
        parts = [self._polled[request] for request in self._wanted[topic]]
        if not all(part.body for part in parts):
            return
        shown, bodies = self._shown[topic], [part.body for part in parts]
        try:
            payload, block_ms = frame_of(topic, bodies, dexes=[dex_of(p.request) for p in parts])
            digest = digest_of(payload)
        except (Unusable, LookupError, AttributeError, TypeError, ValueError, RecursionError):
            self._faults["bad_answer"] += 1
            return
        # As old as its oldest part.
        in_ns = min(part.asked_ns for part in parts)
        times = Times(block_ns=block_ms * 1_000_000, in_ns=in_ns)
        if digest == shown.digest:
            return
        self._count += 1
        before, shown.position = shown.position, Position(self._count)
        shown.digest, shown.payload, shown.times = digest, payload, times
        envelopes.append(
            Envelope(topic.name, self._epoch, shown.position, before, Role.UPDATE, payload, times)
        )
