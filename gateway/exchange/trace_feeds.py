"""The feeds of users whose orders are traced: followed in this process's hub as a socket of theirs
would, and remembered for a moment.

A node of ours may be faster than the exchange's answer, which is where an order's id comes from: so
what comes is kept a while for who asks for it then.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import orjson
import structlog

from streaming.core.batch import Batch, NumberedBatch
from streaming.core.catalogue import Catalogue
from streaming.core.hub import Hub
from streaming.core.relay_session import RelaySession
from streaming.core.session import Shortage
from streaming.core.streams import Parts, RelayFrame
from streaming.core.topic import Kind, Topic

log = structlog.get_logger(__name__)

#: What was not waited for yet, and how much of it.
RECENT_MS, MAX_RECENT = 15_000, 20_000
_KINDS = (Kind.ORDER_UPDATES, Kind.USER_FILLS)


class News(NamedTuple):
    """An item of a feed, the height of its block (None where that is not known), and when it
    came."""

    item: dict[str, Any]
    height: int | None
    at_ms: float
    is_fill: bool


class _Lease:
    """What the relay follows for itself is nobody's subscription."""

    retention_s: float | None = None

    def subscribe(self, topic: Topic) -> Shortage | None:
        """Always."""
        return None

    def unsubscribe(self, topic: Topic) -> None:
        """Nothing to give back."""

    def follow(self, topic: Topic) -> None:
        """Nobody pays."""

    def unfollow(self, topic: Topic) -> None:
        """Nobody pays."""


class _Sink:
    """Takes everything at once, and counts nothing."""

    is_ready = True

    def __init__(self, take: Callable[[Parts], None]) -> None:
        self._take = take

    def send(self, batch: Batch | NumberedBatch) -> None:
        """Frames with data; control frames say nothing here."""
        for item in batch.items if isinstance(batch, NumberedBatch) else batch.frames:
            if isinstance(item, tuple):
                self._take(item[1])
            elif isinstance(item, RelayFrame):
                self._take(item.parts)

    def when_ready(self, callback: Callable[[], None]) -> None:
        """It always is."""
        callback()


class Feeds:
    """Those of one process. `told` gets each item by its user and each id of its order."""

    def __init__(
        self,
        hub: Hub,
        *,
        catalogue: Callable[[], Catalogue],
        told: Callable[[str, int | str, News], None],
        now_ms: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._hub = hub
        self._catalogue = catalogue
        self._told = told
        self._now_ms, self._now_s = now_ms, monotonic
        #: One of each tenant: scarce places upstream are shared between tenants.
        self._sessions: dict[int, RelaySession] = {}
        self._recent: defaultdict[tuple[str, int | str], list[News]] = defaultdict(list)
        self._recent_keys: deque[tuple[float, tuple[str, int | str]]] = deque()

    def follow(self, tenant_id: int, user: str) -> None:
        """Follow a user, who is not followed for that tenant."""
        session = self._sessions.get(tenant_id)
        if session is None:
            session = self._sessions[tenant_id] = RelaySession(
                hub=self._hub,
                sink=_Sink(self._take),
                lease=_Lease(),
                catalogue=self._catalogue,
                tenant_id=tenant_id,
            )
        for kind in _KINDS:
            subscription = {"type": kind.value, "user": user}
            frame = {"method": "subscribe", "id": _id(kind, user), "subscription": subscription}
            session.ask(frame, now_s=self._now_s())
        self._hub.flush()

    def unfollow(self, tenant_id: int, user: str) -> None:
        """Stop."""
        session = self._sessions.get(tenant_id)
        if session is None:
            return  # nothing of theirs could be subscribed to
        for kind in _KINDS:
            session.ask({"method": "unsubscribe", "id": _id(kind, user)}, now_s=self._now_s())
        if not session.subscriptions:
            session.close(now_s=self._now_s())
            del self._sessions[tenant_id]

    def recent(self, user: str, key: int | str) -> Sequence[News]:
        """What came lately of an order, oldest first."""
        return tuple(self._recent.get((user, key), ()))

    def forget(self, now_ms: float) -> None:
        """Let go of what is older than that."""
        while self._recent_keys and now_ms - self._recent_keys[0][0] >= RECENT_MS:
            self._forget_one()

    def close(self) -> None:
        """Follow nothing any more."""
        for session in self._sessions.values():
            session.close(now_s=self._now_s())
        self._sessions.clear()

    def _take(self, parts: Parts) -> None:
        user, height = parts.topic.user, parts.position.height
        try:
            data = orjson.loads(parts.payload)["data"]
            if parts.topic.kind is Kind.ORDER_UPDATES:
                for update in data:
                    order = update["order"]
                    news = News(update, height, self._now_ms(), is_fill=False)
                    self._tell(user, order["oid"], news)
                    if isinstance(cloid := order.get("cloid"), str):
                        self._tell(user, cloid.lower(), news)
            else:
                # An opening frame stands at the newest block, and its fills may be of any.
                known = None if data.get("isSnapshot") else height
                for fill in data["fills"]:
                    news = News(fill, known, self._now_ms(), is_fill=True)
                    self._tell(user, fill["oid"], news)
        except (KeyError, TypeError, ValueError) as error:
            log.warning("trace_feed_not_read", error=type(error).__name__)

    def _tell(self, user: str, key: int | str, news: News) -> None:
        self._told(user, key, news)
        self._recent[user, key].append(news)
        self._recent_keys.append((news.at_ms, (user, key)))
        if len(self._recent_keys) > MAX_RECENT:
            self._forget_one()

    def _forget_one(self) -> None:
        _, key = self._recent_keys.popleft()
        self._recent[key].pop(0)
        if not self._recent[key]:
            del self._recent[key]


def _id(kind: Kind, user: str) -> str:
    return f"{kind} {user}"
