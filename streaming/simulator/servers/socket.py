"""GET /ws: sessions, their requests, and who follows which route."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

import orjson
from aiohttp import WSMsgType, web

from streaming.simulator.servers import dialect
from streaming.simulator.servers.dialect import Malformed, Ping, Post, Subscribe, Subscription
from streaming.simulator.servers.feeds import Feeds
from streaming.simulator.servers.session import Session

Answerer = Callable[[dict[str, object]], Awaitable[tuple[int, bytes]]]

NO_ORDERS = b'{"status":"err","response":"The simulator takes no orders."}'
GREETING = b"Websocket connection established."
MAX_SUBSCRIPTIONS = 1_000
MAX_USERS = 10
MAX_MESSAGES_PER_MINUTE = 2_000
IDLE_S = 60.0


class UnknownCoin(StrEnum):
    """What happens to a client that asks for a coin or an aggregation that does not exist."""

    DROP = "drop"  # the TCP connection, as the exchange does
    ERROR = "error"  # an error frame, and the socket lives on


@dataclass(frozen=True, slots=True)
class SocketRules:
    """How strict the socket is. The exchange counts its limits per address; here each connection
    has them.
    """

    unknown_coin: UnknownCoin = UnknownCoin.DROP
    greet: bool = False
    limits: bool = True
    idle_s: float = IDLE_S


class Socket:
    """The WebSocket side of the server.

    `post_info` answers an info request made over the socket, `post_action` an action, where there
    is an exchange. `on_subscribe` is told of every accepted subscription.
    """

    def __init__(
        self,
        feeds: Feeds,
        *,
        post_info: Answerer,
        post_action: Answerer | None = None,
        rules: SocketRules,
        on_subscribe: Callable[[Subscription], None] = lambda subscription: None,
    ) -> None:
        self._feeds = feeds
        self._post_info = post_info
        self._post_action = post_action
        self._posts: set[asyncio.Task[None]] = set()
        self._rules = rules
        self._on_subscribe = on_subscribe
        self._routes: dict[str, Counter[Session]] = {}
        self._wanted: dict[str, Subscription] = {}
        self._numbers = 0
        self.sessions: set[Session] = set()
        self.frames_sent = 0
        self.cut = 0

    def wanted(self) -> list[tuple[str, Subscription]]:
        """Every route that somebody follows, with a subscription that stands for it."""
        return list(self._wanted.items())

    def publish(self, route: str, payload: bytes, *, channel: str) -> None:
        """Hand a frame to everybody on a route, once a connection."""
        for session in list(self._routes.get(route, ())):
            session.offer(payload, channel=channel)
            self.frames_sent += 1
            if session.is_gone:
                self.cut += 1

    async def room(self, route: str) -> None:
        """Wait until everybody on a route has read half of what is queued."""
        for session in list(self._routes.get(route, ())):
            await session.room()

    def drop_idle(self) -> None:
        """Drop connections to which nothing was sent for as long as the exchange tolerates."""
        since_s = time.monotonic() - self._rules.idle_s
        for session in [each for each in self.sessions if each.last_sent_s < since_s]:
            session.drop()

    def drop_all(self) -> None:
        """Drop every connection."""
        for session in list(self.sessions):
            session.drop()
        for post in self._posts:
            post.cancel()

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """One connection from handshake to end. No compression is negotiated, whatever the client
        offers.
        """
        ws = web.WebSocketResponse(compress=False, max_msg_size=1 << 20)
        await ws.prepare(request)
        self._numbers += 1
        session = Session(ws, request, number=self._numbers)
        self.sessions.add(session)
        writer = asyncio.create_task(session.write())
        try:
            if self._rules.greet:
                session.offer(GREETING, channel="greeting")
            await self._read(ws, session)
        finally:
            self.sessions.discard(session)
            for route in session.subscriptions.values():
                self._leave(session, route)
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
        return ws

    async def _read(self, ws: web.WebSocketResponse, session: Session) -> None:
        arrivals: deque[float] = deque()
        async for message in ws:
            if session.is_gone:
                return
            if message.type is not WSMsgType.TEXT:
                continue
            if self._rules.limits and self._is_flooding(arrivals):
                self._refuse(
                    session, f"Cannot send more than {MAX_MESSAGES_PER_MINUTE} messages per minute."
                )
                continue
            await self._handle(session, message.data)

    def _is_flooding(self, arrivals: deque[float]) -> bool:
        now_s = time.monotonic()
        while arrivals and arrivals[0] < now_s - 60:
            arrivals.popleft()
        arrivals.append(now_s)
        return len(arrivals) > MAX_MESSAGES_PER_MINUTE

    async def _handle(self, session: Session, text: str) -> None:
        match dialect.parse(text):
            case Ping():
                session.offer(dialect.PONG, channel="pong")
            case Malformed(error):
                self._refuse(session, error)
            case Post() as post:
                self._begin(session, post)
            case Subscribe(method="subscribe") as request:
                self._subscribe(session, request)
            case Subscribe() as request:
                self._unsubscribe(session, request)

    def _refuse(self, session: Session, error: str) -> None:
        session.offer(dialect.error(error), channel="error")

    def _subscribe(self, session: Session, request: Subscribe) -> None:
        if request.text in session.subscriptions:
            self._refuse(session, f"Already subscribed: {request.text}")
            return
        if not self._feeds.is_known(request.subscription):
            if self._rules.unknown_coin is UnknownCoin.DROP:
                session.drop()
            else:
                self._refuse(session, f"Invalid subscription: {request.text}")
            return
        refusal = self._over_limit(session, request.subscription) if self._rules.limits else None
        if refusal is not None:
            self._refuse(session, refusal)
            return
        route = self._feeds.route(request.subscription, request.text)
        session.follow(request.subscription, text=request.text, route=route)
        session.offer(dialect.ack(request), channel="subscriptionResponse")
        for first in self._feeds.first_frames(request.subscription):
            session.offer(first, channel=str(request.subscription["type"]))
        self._routes.setdefault(route, Counter())[session] += 1
        self._wanted.setdefault(route, request.subscription)
        self._on_subscribe(request.subscription)

    def _over_limit(self, session: Session, subscription: Subscription) -> str | None:
        if len(session.subscriptions) >= MAX_SUBSCRIPTIONS:
            return f"Cannot subscribe to more than {MAX_SUBSCRIPTIONS} channels."
        user = subscription.get("user")
        if user is not None and user not in session.users and len(session.users) >= MAX_USERS:
            return f"Cannot track more than {MAX_USERS} total users."
        return None

    def _unsubscribe(self, session: Session, request: Subscribe) -> None:
        if request.text not in session.subscriptions:
            self._refuse(session, f"Already unsubscribed: {request.text}")
            return
        self._leave(session, session.unfollow(request.subscription, text=request.text))
        session.offer(dialect.ack(request), channel="subscriptionResponse")

    def _leave(self, session: Session, route: str) -> None:
        followers = self._routes.get(route)
        if followers is None:
            return
        followers[session] -= 1
        if followers[session] <= 0:
            del followers[session]
        if not followers:
            del self._routes[route], self._wanted[route]

    def _begin(self, session: Session, post: Post) -> None:
        """Answer beside the reading: an action waits for its block, what follows it does not."""
        task = asyncio.create_task(self._post(session, post))
        self._posts.add(task)
        task.add_done_callback(self._posts.discard)

    async def _post(self, session: Session, post: Post) -> None:
        if post.kind == "info":
            status, body = await self._post_info(post.payload)
        elif self._post_action is not None:
            status, body = await self._post_action(post.payload)
        else:
            status, body = 200, NO_ORDERS
        if status != 200:
            response: dict[str, object] = {"type": "error", "payload": f"{status} {body.decode()}"}
        elif post.kind == "info":
            payload = {"type": post.payload["type"], "data": orjson.loads(body)}
            response = {"type": "info", "payload": payload}
        else:
            response = {"type": "action", "payload": orjson.loads(body)}
        frame = {"channel": "post", "data": {"id": post.id, "response": response}}
        session.offer(orjson.dumps(frame), channel="post")

    def counts(self) -> Iterator[dict[str, object]]:
        """What each connection follows and was sent, by channel."""
        for session in self.sessions:
            yield {
                "connection": session.number,
                "subscriptions": sorted(session.subscriptions),
                "sent": dict(session.sent),
            }
