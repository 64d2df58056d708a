"""One client connection: its subscriptions, and a bounded queue in front of its socket."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque

from aiohttp import WSMsgType, web

from streaming.simulator.servers.dialect import Subscription

MAX_QUEUE_BYTES = 4 * 1024 * 1024


class Session:
    """A connection. `subscriptions` maps a normalised subscription's text to its route.

    `offer` never waits: a client that leaves more than 4 MiB unread is cut off, as the exchange
    cuts it.
    """

    def __init__(self, ws: web.WebSocketResponse, request: web.Request, *, number: int) -> None:
        self.number = number
        self.subscriptions: dict[str, str] = {}
        self.users: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.last_sent_s = time.monotonic()
        self.is_gone = False
        self._ws = ws
        self._request = request
        self._frames: deque[tuple[str, bytes]] = deque()
        self.queued_bytes = 0
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def follow(self, subscription: Subscription, *, text: str, route: str) -> None:
        """Note a subscription."""
        self.subscriptions[text] = route
        if "user" in subscription:
            self.users[str(subscription["user"])] += 1

    def unfollow(self, subscription: Subscription, *, text: str) -> str:
        """Forget a subscription; the answer is its route."""
        if "user" in subscription:
            user = str(subscription["user"])
            self.users[user] -= 1
            self.users += Counter()
        return self.subscriptions.pop(text)

    def offer(self, payload: bytes, *, channel: str) -> None:
        """Queue one text frame, or cut the connection when its queue is full."""
        if self.is_gone:
            return
        if self.queued_bytes + len(payload) > MAX_QUEUE_BYTES:
            self.drop()
            return
        self.queued_bytes += len(payload)
        if self.queued_bytes > MAX_QUEUE_BYTES // 2:
            self._room.clear()
        self._frames.append((channel, payload))
        self._wake.set()

    async def room(self) -> None:
        """Wait until the queue is less than half full, or the client is gone."""
        await self._room.wait()

    def drop(self) -> None:
        """Drop the TCP connection without a close frame; the client sees 1006."""
        self.is_gone = True
        self._frames.clear()
        self._wake.set()
        self._room.set()
        if self._request.transport is not None:
            self._request.transport.abort()

    async def write(self) -> None:
        """Move frames from the queue to the socket until the connection is gone."""
        with contextlib.suppress(ConnectionError, RuntimeError):
            while not self.is_gone:
                await self._wake.wait()
                self._wake.clear()
                while self._frames:
                    channel, payload = self._frames.popleft()
                    await self._ws.send_frame(payload, WSMsgType.TEXT)
                    self.queued_bytes -= len(payload)
                    self.sent[channel] += 1
                    self.last_sent_s = time.monotonic()
                    if self.queued_bytes <= MAX_QUEUE_BYTES // 2:
                        self._room.set()
        self.is_gone = True
        self._room.set()
