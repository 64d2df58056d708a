"""The exchange's public WebSocket: subscriptions on demand, frames passed through byte for byte.

Nothing is forwarded that could make the exchange drop the connection: coins are checked against the
catalogue first. Two `l2Book` variants of one coin cannot be told apart on one connection, so each
goes to a connection of its own. Limits of the exchange, per address: 10 connections, 1,000
subscriptions, 30 new connections and 2,000 messages a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import uuid
from typing import Any

import orjson
import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from streaming.core.catalogue import Catalogue
from streaming.core.envelope import Envelope
from streaming.core.public import PublicFeed
from streaming.core.topic import Topic
from streaming.upstream import metrics
from streaming.upstream.sources.base import Publish
from streaming.upstream.sources.info import InfoFailed, read_catalogue
from streaming.upstream.spec import UpstreamSpec

log = structlog.get_logger(__name__)

MAX_CONNECTIONS = 10
MAX_SUBSCRIPTIONS = 1_000
#: The exchange closes after 60 s of its own silence; a pong resets that.
PING_EVERY_S = 20.0
#: No frame for this long, pongs included: half-open.
SILENCE_LIMIT_S = 45.0
RETRY_MIN_S, RETRY_MAX_S = 0.5, 30.0
CATALOGUE_EVERY_S = 60.0
#: Subscribe frames a second: 1,000 after a reconnect stay well inside 2,000 messages a minute.
SUBSCRIBES_PER_S = 25
#: A full `allDexsAssetCtxs` frame is 177 KB; the largest snapshot we ask for is below 1 MB.
MAX_FRAME_BYTES = 16 * 1024 * 1024


def subscription_of(topic: Topic) -> dict[str, Any]:
    """The subscription object that asks the exchange for `topic`. `nLevels` is not a public
    field."""
    subscription: dict[str, Any] = {"type": topic.kind.value}
    if topic.coin:
        subscription["coin"] = topic.coin
    if topic.dex:
        subscription["dex"] = topic.dex
    if topic.n_sig_figs is not None:
        subscription["nSigFigs"] = topic.n_sig_figs
    if topic.mantissa is not None:
        subscription["mantissa"] = topic.mantissa
    if topic.fast:
        subscription["fast"] = True
    return subscription


class Link:
    """One upstream connection and what is subscribed on it."""

    def __init__(self, source: PublicSource, number: int) -> None:
        self._source = source
        self.number = number
        self.topics: dict[Topic, None] = {}
        self.feed = PublicFeed(epoch=uuid.uuid4().hex[:12])
        self._asked: set[Topic] = set()
        self._wake = asyncio.Event()
        self.heard_at_s = 0.0
        self.is_up = False

    def has_room(self, topic: Topic) -> bool:
        """Whether `topic` can be told apart from what this link already carries."""
        return all((other.kind, other.coin) != (topic.kind, topic.coin) for other in self.topics)

    def add(self, topic: Topic) -> None:
        """Subscribe as soon as the connection allows."""
        self.topics[topic] = None
        self.feed.subscribed(topic)
        self._wake.set()

    def remove(self, topic: Topic) -> None:
        """Unsubscribe."""
        del self.topics[topic]
        self.feed.unsubscribed(topic)
        self._wake.set()

    async def run(self) -> None:
        """Stay connected while anything is subscribed, until cancelled."""
        retry_s = RETRY_MIN_S
        while True:
            if not self.topics:
                self._wake.clear()
                await self._wake.wait()
                continue
            began_s = time.monotonic()
            try:
                await self._connected()
            except (OSError, TimeoutError, WebSocketException) as error:
                if not self.topics:
                    retry_s = RETRY_MIN_S
                    continue  # we hung up: nobody wants anything
                log.warning(
                    "upstream_lost", source=self._source.name, link=self.number, reason=str(error)
                )
            except Exception:
                # Nothing an upstream sends may end the link for good.
                log.exception("upstream_link_failed", source=self._source.name, link=self.number)
            finally:
                self.is_up = False
            if time.monotonic() - began_s > RETRY_MAX_S:
                retry_s = RETRY_MIN_S
            # Jitter, or every relay behind one address comes back at once and spends its 30
            # connects a minute.
            await asyncio.sleep(retry_s * random.uniform(0.5, 1.5))  # noqa: S311
            retry_s = min(retry_s * 2, RETRY_MAX_S)

    async def _connected(self) -> None:
        async with connect(
            self._source.url,
            max_size=MAX_FRAME_BYTES,
            max_queue=64,
            open_timeout=10,
            ping_interval=None,
            compression=None,
            user_agent_header="hl-relay",
        ) as socket:
            metrics.CONNECTS.labels(self._source.name).inc()
            self._asked.clear()
            self.feed.reconnected()
            self.heard_at_s = time.monotonic()
            self.is_up = True
            keepers = [
                asyncio.ensure_future(self._subscribe(socket)),
                asyncio.ensure_future(self._ping(socket)),
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
            data = await asyncio.wait_for(socket.recv(decode=False), max(limit_s, 0.01))
            self.heard_at_s = time.monotonic()
            self._source.take(self, data)

    async def _subscribe(self, socket: ClientConnection) -> None:
        while True:
            self._wake.clear()
            for topic in [t for t in self._asked if t not in self.topics]:
                self._asked.discard(topic)
                await self._say(socket, "unsubscribe", topic)
            for topic in [t for t in self.topics if t not in self._asked]:
                if topic in self.topics:
                    self._asked.add(topic)
                    await self._say(socket, "subscribe", topic)
            if not self.topics:
                await socket.close()
                return
            await self._wake.wait()

    async def _say(self, socket: ClientConnection, method: str, topic: Topic) -> None:
        frame = {"method": method, "subscription": subscription_of(topic)}
        await socket.send(orjson.dumps(frame).decode())
        if len(self._asked) > SUBSCRIBES_PER_S:
            await asyncio.sleep(1 / SUBSCRIBES_PER_S)

    async def _ping(self, socket: ClientConnection) -> None:
        while True:
            await asyncio.sleep(PING_EVERY_S)
            with contextlib.suppress(WebSocketException):
                await socket.send('{"method":"ping"}')


class PublicSource:
    """Implements `Source` on the exchange's WebSocket."""

    def __init__(self, spec: UpstreamSpec, *, name: str) -> None:
        self.name = name
        self.url = spec.address
        self._spec = spec
        self._links: list[Link] = []
        self._link_of: dict[Topic, Link] = {}
        self._catalogue = Catalogue()
        self._publish: Publish = lambda envelopes: None
        self._group: asyncio.TaskGroup | None = None
        self._frames = 0
        self._faults: dict[str, int] = {}

    @property
    def catalogue(self) -> Catalogue:
        """The exchange's own list."""
        return self._catalogue

    def serves(self, topic: Topic) -> bool:
        """Whether the exchange knows the coin and the feed exists there (no `l4Book`, 20 levels at
        most)."""
        return (
            PublicFeed.can_serve(topic) and bool(self._catalogue) and self._catalogue.knows(topic)
        )

    def want(self, topic: Topic) -> bool:
        """Subscribe upstream, once however often it is called; False when the budget is spent."""
        if topic in self._link_of:
            return True
        if self._group is None or len(self._link_of) >= MAX_SUBSCRIPTIONS:
            return False
        link = next((link for link in self._links if link.has_room(topic)), None)
        if link is None:
            if len(self._links) >= MAX_CONNECTIONS:
                return False
            link = Link(self, len(self._links))
            self._links.append(link)
            self._group.create_task(link.run())
        self._link_of[topic] = link
        link.add(topic)
        return True

    def unwant(self, topic: Topic) -> None:
        """Unsubscribe upstream."""
        link = self._link_of.pop(topic, None)
        if link is not None:
            link.remove(topic)

    def snapshot(self, topic: Topic) -> Envelope | None:
        """The topic's last frames, or None before the first."""
        link = self._link_of.get(topic)
        return link.feed.snapshot(topic) if link is not None else None

    def state(self) -> dict[str, Any]:
        """Live figures for the heartbeat."""
        heard = max((link.heard_at_s for link in self._links), default=0.0)
        return {
            "kind": "public",
            "height": None,
            "silent_s": round(time.monotonic() - heard, 3) if heard else None,
            "books_ready": bool(self._catalogue),
            "connections": sum(link.is_up for link in self._links),
            "subscriptions": len(self._link_of),
            "frames": self._frames,
            "coins": len(self._catalogue.coins),
            "faults": dict(self._faults),
        }

    def take(self, link: Link, data: bytes) -> None:
        """One frame of one link."""
        self._frames += 1
        envelopes = link.feed.take(data, read_ns=time.time_ns())
        if envelopes:
            self._publish(envelopes)
        for reason, count in link.feed.faults.items():
            key = f"{reason}"
            if count > self._faults.get(f"{link.number}:{key}", 0):
                if f"{link.number}:{key}" not in self._faults:
                    log.warning(
                        "upstream_fault",
                        source=self.name,
                        reason=key,
                        sample=data[:200].decode("utf-8", "replace"),
                    )
                metrics.FAULTS.labels(self.name, key).inc(
                    count - self._faults.get(f"{link.number}:{key}", 0)
                )
                self._faults[f"{link.number}:{key}"] = count

    async def run(self, publish: Publish) -> None:
        """Serve what is wanted until cancelled."""
        self._publish = publish
        async with asyncio.TaskGroup() as group:
            self._group = group
            group.create_task(self._follow_catalogue())
            for link in self._links:  # of a run that failed
                group.create_task(link.run())

    async def _follow_catalogue(self) -> None:
        while True:
            try:
                self._catalogue = await read_catalogue(self._spec.info_url or "")
                delay_s = CATALOGUE_EVERY_S
            except InfoFailed as failed:
                log.warning("catalogue_failed", source=self.name, reason=str(failed))
                delay_s = 2.0
            await asyncio.sleep(delay_s)
