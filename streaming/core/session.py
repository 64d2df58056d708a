"""One customer connection: what it follows, and its side of the conversation. Knows no socket and
no loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, NamedTuple, Protocol

from streaming.core.batch import Batch, NumberedBatch
from streaming.core.catalogue import Catalogue
from streaming.core.dialects import official
from streaming.core.hub import Hub
from streaming.core.outbox import Frame
from streaming.core.topic import Topic


class Sink(Protocol):
    """Where a session's frames go."""

    def send(self, batch: Batch | NumberedBatch) -> None:
        """Take the frames of one tick; must not block."""

    @property
    def is_ready(self) -> bool:
        """Whether nothing waits for the customer to read."""

    def when_ready(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, when nothing waits any more."""


class Shortage(NamedTuple):
    """Why a topic cannot be followed. `code` is stable, `msg` one line for people; `limit` and
    `used` where something is counted; `official` is the text the exchange has for it."""

    code: str
    msg: str
    official: str
    limit: int | None = None
    used: int | None = None
    has: tuple[str, ...] | None = None


class SubscriptionLease(Protocol):
    """The tenant's allowance of subscriptions, shared by all its sessions."""

    @property
    def retention_s(self) -> float | None:
        """How far back a resume may begin; None: as far as is kept."""

    def subscribe(self, topic: Topic) -> Shortage | None:
        """Take one and return None; say what there is none left of, and take none, else."""

    def unsubscribe(self, topic: Topic) -> None:
        """Give one back."""

    def follow(self, topic: Topic) -> None:
        """The topic is followed from now on: its coin counts by the minute."""

    def unfollow(self, topic: Topic) -> None:
        """It is followed no more."""


class Session:
    """One customer connection, whatever carries it."""

    is_numbered: ClassVar[bool] = False

    __slots__ = (
        "_catalogue",
        "_echoes",
        "_hub",
        "_lease",
        "is_closed",
        "pending",
        "sink",
        "tenant_id",
    )

    def __init__(
        self,
        *,
        hub: Hub,
        sink: Sink,
        lease: SubscriptionLease,
        catalogue: CatalogueSource,
        tenant_id: int = 0,
    ) -> None:
        """`tenant_id` is whom scarce upstream places are counted for; 0: nobody."""
        self._hub = hub
        self.tenant_id = tenant_id
        self._lease = lease
        self._catalogue = catalogue
        self._echoes: dict[Topic, str] = {}
        self.sink = sink
        self.pending: list[Frame] = []
        self.is_closed = False

    @property
    def topics(self) -> tuple[Topic, ...]:
        """What this session follows, oldest first."""
        return tuple(self._echoes)

    def receive(self, text: str, *, now_s: float) -> official.Post | None:
        """Act on one client frame. A post is returned, because its answer takes I/O."""
        match official.parse(text):
            case official.Subscribe(topic, echo):
                self._subscribe(topic, echo)
            case official.Unsubscribe(topic, echo):
                self._unsubscribe(topic, echo, now_s=now_s)
            case official.Ping():
                self.say(official.PONG)
            case official.Refused(refusal):
                self.say(official.error(refusal))
            case official.Post() as post:
                return post
        return None

    def say(self, payload: bytes) -> None:
        """Queue a control frame; not metered, never conflated."""
        self._hub.queue(self, Frame(payload))

    def too_many_messages(self, limit: int) -> None:
        """A frame was not read: the client sends too many."""
        self.say(official.error(official.TOO_MANY_MESSAGES.format(limit=limit)))

    def refuse(self, topic: Topic, why: str) -> None:
        """Tell the customer why a topic they follow has nothing to give."""
        self.say(official.error(f"{why}: {self._echoes.get(topic, topic.name)}"))

    def close(self, *, now_s: float) -> None:
        """Follow nothing any more and give the leases back. May be called twice."""
        self.is_closed = True
        self.pending.clear()
        for topic in self._echoes:
            self._hub.unfollow(self, topic, now_s=now_s)
            self._lease.unsubscribe(topic)
            self._lease.unfollow(topic)
        self._echoes.clear()

    def _subscribe(self, topic: Topic, echo: str) -> None:
        if topic in self._echoes:
            self.say(official.error(f"Already subscribed: {echo}"))
        elif not self._catalogue().knows(topic):
            self.say(official.error(f"Invalid subscription: {echo}"))
        else:
            self._admit(topic, echo)

    def _admit(self, topic: Topic, echo: str) -> None:
        shortage = self._lease.subscribe(topic)
        if shortage is not None:
            self.say(official.error(shortage.official))
            return
        self._echoes[topic] = echo
        self.say(official.acknowledged("subscribe", echo))
        self._lease.follow(topic)
        self._hub.follow(self, topic)

    def _unsubscribe(self, topic: Topic, echo: str, *, now_s: float) -> None:
        if self._echoes.pop(topic, None) is None:
            self.say(official.error(f"Already unsubscribed: {echo}"))
            return
        self._hub.unfollow(self, topic, now_s=now_s)
        self._lease.unsubscribe(topic)
        self._lease.unfollow(topic)
        self.say(official.acknowledged("unsubscribe", echo))


class CatalogueSource(Protocol):
    """Gives the catalogue as it is now."""

    def __call__(self) -> Catalogue:
        """The names known upstream."""
