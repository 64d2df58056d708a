"""One connection to the exchange's WebSocket: kept up, subscribed to what it should carry."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Iterable
from typing import Any

import orjson
import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from streaming.core.envelope import Envelope
from streaming.core.public import PublicFeed
from streaming.core.topic import Topic
from streaming.upstream import metrics
from streaming.upstream.budget import PublicBudget
from streaming.upstream.quarantine import Quarantine

log = structlog.get_logger(__name__)

#: How often a subscription that was never acknowledged is asked for again. The exchange closes
#: after 60 s of its own silence, and a pong resets that.
ASK_AGAIN_S = 20.0
#: A link that said nothing for so long is pinged: a silent link costs 60 of the 2,000 messages a
#: minute, one that speaks none.
PING_AFTER_S = 1.0
#: No answer to that by then: who is served by it must know (stale within 2 s).
MUTE_AFTER_S = 2.0
LOOK_EVERY_S = 0.25
#: No frame for this long, pongs included: half-open.
SILENCE_LIMIT_S = 15.0
RETRY_MIN_S, RETRY_MAX_S = 0.5, 30.0
#: A full `allDexsAssetCtxs` frame is 177 KB; the largest snapshot we ask for is below 1 MB.
MAX_FRAME_BYTES = 16 * 1024 * 1024

LOST = "The connection to the exchange is lost; it is opened again"
QUARANTINED = "The exchange's connection brings what cannot be used; it is left alone for a while"
SILENT = "The exchange's connection says nothing, not even an answer to a ping"


def subscription_of(topic: Topic) -> dict[str, Any]:
    """The subscription object that asks the exchange for `topic`. `nLevels` is not a public
    field."""
    subscription: dict[str, Any] = {"type": topic.kind.value}
    for field in ("coin", "user", "interval", "dex"):
        if value := getattr(topic, field):
            subscription[field] = value
    if topic.n_sig_figs is not None:
        subscription["nSigFigs"] = topic.n_sig_figs
    if topic.mantissa is not None:
        subscription["mantissa"] = topic.mantissa
    if topic.fast:
        subscription["fast"] = True
    if topic.aggregate:
        subscription["aggregateByTime"] = True
    return subscription


class _Quarantined(Exception):
    """Too much of what comes cannot be used."""


class PublicLink:
    """One upstream connection and what is subscribed on it.

    `on_frame(link, data)` gets every frame and says how much in it cannot be used, `publish` what a
    reconnect makes known: gaps.
    `on_left(topic)` is called when a topic that was removed is carried no more: the exchange was
    told, or the connection is over. `on_down(link, why)` is called when the connection is lost or
    falls silent, `on_up(link)` when a silent one speaks again; a new connection must first
    acknowledge what it carries.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        feed: PublicFeed,
        budget: PublicBudget,
        on_frame: Callable[[PublicLink, bytes], int],
        publish: Callable[[Iterable[Envelope]], None],
        on_left: Callable[[Topic], None] = lambda topic: None,
        on_unserved: Callable[[Topic], None] = lambda topic: None,
        on_down: Callable[[PublicLink, str], None] = lambda link, why: None,
        on_up: Callable[[PublicLink], None] = lambda link: None,
    ) -> None:
        self.name = name
        self.feed = feed
        self.topics: dict[Topic, None] = {}
        self.heard_at_s = 0.0
        self.is_up = False
        self.down: str | None = None  # what is carried has no source now, and why
        self._url = url
        self._budget = budget
        self._on_frame, self._publish, self._on_unserved = on_frame, publish, on_unserved
        self._on_left, self._on_down, self._on_up = on_left, on_down, on_up
        self._quarantine = Quarantine()
        self._pinged_at_s = 0.0
        self._asked: set[Topic] = set()
        self._leaving: dict[Topic, None] = {}  # asked for, and to be taken back
        self._wake = asyncio.Event()

    @property
    def is_quarantined(self) -> bool:
        """Whether it is left alone, because too much of what it brought could not be used."""
        return self._quarantine.is_on(now_s=time.monotonic())

    def add(self, topic: Topic) -> None:
        """Subscribe as soon as the connection allows."""
        self.topics[topic] = None
        self.feed.subscribed(topic)
        self._wake.set()

    def remove(self, topic: Topic) -> None:
        """Unsubscribe. `on_left` tells when that is done."""
        del self.topics[topic]
        self.feed.unsubscribed(topic)
        if topic in self._asked:
            self._asked.discard(topic)
            self._leaving[topic] = None
            self._wake.set()
        elif topic not in self._leaving:
            self._on_left(topic)
            self._wake.set()

    async def run(self) -> None:
        """Stay connected while anything is subscribed, until cancelled."""
        retry_s = RETRY_MIN_S
        while True:
            if not self.topics:
                self._wake.clear()
                await self._wake.wait()
                continue
            await self._wait_for(self._budget.connect)
            began_s = time.monotonic()
            try:
                await self._connected()
            except (OSError, TimeoutError, WebSocketException) as error:
                if not self.topics:
                    retry_s = RETRY_MIN_S
                    continue  # we hung up: nobody wants anything
                log.warning("upstream_lost", link=self.name, reason=str(error))
                self._fail(LOST)
            except _Quarantined:
                for_s = self._quarantine.begin(now_s=time.monotonic())
                log.error("upstream_quarantined", link=self.name, for_s=for_s)
                self._fail(QUARANTINED)
                self._over()
                await asyncio.sleep(for_s)
                continue
            except Exception:
                # Nothing an upstream sends may end the link for good.
                log.exception("upstream_link_failed", link=self.name)
                self._fail(LOST)
            finally:
                self._over()
            if time.monotonic() - began_s > RETRY_MAX_S:
                retry_s = RETRY_MIN_S
            # Jitter, or every relay behind one address comes back at once and spends its 30
            # connects a minute.
            await asyncio.sleep(retry_s * random.uniform(0.5, 1.5))  # noqa: S311
            retry_s = min(retry_s * 2, RETRY_MAX_S)

    def _over(self) -> None:
        """Nothing is carried any more."""
        self.is_up = False
        self._asked.clear()
        leaving, self._leaving = self._leaving, {}
        for topic in leaving:
            self._on_left(topic)

    async def _wait_for(self, allowance: Callable[..., float]) -> None:
        while (wait_s := allowance(now_s=time.monotonic())) > 0:  # noqa: ASYNC110 - time is all we wait for
            await asyncio.sleep(wait_s)

    async def _connected(self) -> None:
        async with connect(
            self._url,
            max_size=MAX_FRAME_BYTES,
            max_queue=64,
            open_timeout=10,
            ping_interval=None,
            compression=None,
            user_agent_header="hl-relay",
        ) as socket:
            metrics.CONNECTS.labels(self.name.partition(":")[0]).inc()
            if gaps := self.feed.reconnected():
                self._publish(gaps)
            self.heard_at_s = time.monotonic()
            self.is_up = True
            self.down = None
            keepers = [
                asyncio.ensure_future(self._subscribe(socket)),
                asyncio.ensure_future(self._ask_again()),
                asyncio.ensure_future(self._watch(socket)),
            ]
            try:
                await self._read(socket)
            finally:
                for keeper in keepers:
                    keeper.cancel()
                await asyncio.gather(*keepers, return_exceptions=True)

    async def _read(self, socket: ClientConnection) -> None:
        while self.topics:
            limit_s = self.heard_at_s + SILENCE_LIMIT_S - time.monotonic()
            async with asyncio.timeout(max(limit_s, 0.01)):
                data = await socket.recv(decode=False)
            self.heard_at_s = time.monotonic()
            if self.down is not None:
                self.down = None
                self._on_up(self)
            faults = self._on_frame(self, data)
            if self._quarantine.note(faults=faults, now_s=self.heard_at_s):
                raise _Quarantined

    async def _subscribe(self, socket: ClientConnection) -> None:
        while True:
            self._wake.clear()
            for topic in list(self._leaving):
                await self._say(socket, "unsubscribe", topic)
                del self._leaving[topic]
                self._on_left(topic)
            for topic in [t for t in self.topics if t not in self._asked]:
                if topic in self.topics and topic not in self._leaving:
                    self._asked.add(topic)
                    await self._say(socket, "subscribe", topic)
            if not self.topics:
                await socket.close()
                return
            await self._wake.wait()

    async def _say(self, socket: ClientConnection, method: str, topic: Topic) -> None:
        await self._wait_for(self._budget.say)
        frame = {"method": method, "subscription": subscription_of(topic)}
        await socket.send(orjson.dumps(frame).decode())

    async def _watch(self, socket: ClientConnection) -> None:
        """Ping a silent connection, and tell when it does not answer."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            now_s = time.monotonic()
            silent_s = now_s - self.heard_at_s
            is_pinged = self._pinged_at_s >= self.heard_at_s
            if silent_s >= MUTE_AFTER_S and is_pinged:
                self._fail(SILENT)
            elif silent_s >= PING_AFTER_S and not is_pinged and not self._budget.say(now_s=now_s):
                self._pinged_at_s = now_s
                with contextlib.suppress(WebSocketException):
                    await socket.send('{"method":"ping"}')

    def _fail(self, why: str) -> None:
        if self.down is None:
            self.down = why
            self._on_down(self, why)

    async def _ask_again(self) -> None:
        """Asked for a while ago and never acknowledged: refused, or lost."""
        while True:
            before = frozenset(self._asked)
            await asyncio.sleep(ASK_AGAIN_S)
            for topic in before & self._asked:
                if topic in self.topics and not self.feed.is_served(topic):
                    self._asked.discard(topic)
                    self._on_unserved(topic)
                    self._wake.set()
