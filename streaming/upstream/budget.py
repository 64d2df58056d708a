"""What one address may ask of the exchange, shared fairly between tenants. Pure.

Limits are counted per source address: connections, new connections and client messages a minute,
subscriptions, distinct users. A topic costs one subscription however many customers follow it. The
places are shared by max-min fairness: while there is room everybody gets what they ask for; when
there is none, a tenant who holds less takes a place from the one who holds most.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from streaming.core.public_frames import Slot, slot_of
from streaming.core.topic import Kind, Topic

T = TypeVar("T")

#: The exchange's minute with a second to spare: what leaves here spread over a minute may arrive
#: closer together.
WINDOW_S = 61.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Per source address. Source: the exchange's documentation of rate limits, 2026."""

    connections: int = 10
    connects_per_minute: int = 30
    subscriptions: int = 1_000
    users: int = 10
    messages_per_minute: int = 2_000
    #: Frames of two aggregations of one coin cannot be told apart, so each takes a connection.
    #: Beyond this many the others would be left without.
    book_variants_per_coin: int = 4


class Window:
    """At most `limit` events in any `WINDOW_S`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._times: deque[float] = deque()

    def take(self, *, now_s: float) -> float:
        """Count one event and return 0.0, or count none and return the seconds to wait."""
        times = self._times
        while times and times[0] <= now_s - WINDOW_S:
            times.popleft()
        if len(times) >= self._limit:
            return max(times[0] + WINDOW_S - now_s, 0.001)
        times.append(now_s)
        return 0.0


class Grant(NamedTuple):
    """What became of a wish.

    `link` is the number of the connection that carries the topic, None when refused; then `refusal`
    is one line naming the limit that is spent. `evicted` are the topics that had to go for it.
    """

    link: int | None
    refusal: str = ""
    evicted: tuple[Topic, ...] = ()


@dataclass(slots=True)
class _Held:
    link: int
    tenants: frozenset[str]


class PublicBudget:
    """The allowance of one address. A topic without tenants belongs to nobody in particular: all
    such topics are one tenant."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._connects = Window(self.limits.connects_per_minute)
        self._messages = Window(self.limits.messages_per_minute)
        self._held: dict[Topic, _Held] = {}
        self._slots: list[set[Slot]] = [set() for _ in range(self.limits.connections)]
        self._users: Counter[str] = Counter()

    # --- rates ---

    def connect(self, *, now_s: float) -> float:
        """Begin a connection: 0.0, or the seconds to wait with nothing counted."""
        return self._connects.take(now_s=now_s)

    def say(self, *, now_s: float) -> float:
        """Send one frame: 0.0, or the seconds to wait with nothing counted."""
        return self._messages.take(now_s=now_s)

    # --- places ---

    @property
    def subscriptions(self) -> int:
        """Topics held."""
        return len(self._held)

    @property
    def users(self) -> int:
        """Distinct users among them."""
        return len(self._users)

    def link_of(self, topic: Topic) -> int | None:
        """The connection that carries `topic`, or None when it is not held."""
        held = self._held.get(topic)
        return None if held is None else held.link

    def take(self, topic: Topic, *, tenants: Collection[str] = ()) -> Grant:
        """Give `topic` a place, or say which limit is spent; a topic that has one keeps it."""
        owners = frozenset(tenants) or frozenset({""})
        held = self._held.get(topic)
        if held is not None:
            held.tenants = owners
            return Grant(held.link)
        link, refusal = self._place(topic)
        if link is None:
            return Grant(None, refusal)
        evicted: tuple[Topic, ...] = ()
        if topic.user and topic.user not in self._users and self.users >= self.limits.users:
            evicted, refusal = self._richest_user(owners), f"{self.limits.users} users"
        elif self.subscriptions >= self.limits.subscriptions:
            evicted = self._richest_topic(owners)
            refusal = f"{self.limits.subscriptions} subscriptions"
        if refusal and not evicted:
            return Grant(None, f"All {refusal} of the public feed are in use")
        for each in evicted:
            self.give(each)
        self._hold(topic, link, owners)
        return Grant(link, "", evicted)

    def give(self, topic: Topic) -> None:
        """Give a topic's place back; nothing happens when it has none."""
        held = self._held.pop(topic, None)
        if held is None:
            return
        self._slots[held.link].discard(slot_of(topic))
        if topic.user:
            self._users[topic.user] -= 1
            if not self._users[topic.user]:
                del self._users[topic.user]

    def held_by(self, tenant: str) -> float:
        """Places of `tenant`; one wanted by several tenants counts in equal parts."""
        return sum(1 / len(held.tenants) for held in self._held.values() if tenant in held.tenants)

    def users_of(self, tenant: str) -> float:
        """Users that `tenant` follows; one followed for several tenants counts in equal parts."""
        return sum(
            1 / len(owners) for owners in self._owners_of_users().values() if tenant in owners
        )

    def _hold(self, topic: Topic, link: int, owners: frozenset[str]) -> None:
        self._held[topic] = _Held(link, owners)
        self._slots[link].add(slot_of(topic))
        if topic.user:
            self._users[topic.user] += 1

    def _place(self, topic: Topic) -> tuple[int | None, str]:
        """A connection on which the topic's frames can be told apart, or why there is none."""
        if topic.kind is Kind.L2_BOOK:
            variants = sum(
                other.kind is Kind.L2_BOOK and other.coin == topic.coin for other in self._held
            )
            if variants >= self.limits.book_variants_per_coin:
                return None, f"All {variants} public aggregations of {topic.coin} are in use"
        slot = slot_of(topic)
        # The first that fits: few connections, and none opened that is not needed.
        for number, slots in enumerate(self._slots):
            if slot not in slots:
                return number, ""
        return None, f"All {len(self._slots)} public connections carry another {topic.kind}"

    # --- fairness ---

    def _owners_of_users(self) -> dict[str, frozenset[str]]:
        owners: dict[str, frozenset[str]] = {}
        for topic, held in self._held.items():
            if topic.user:
                owners[topic.user] = owners.get(topic.user, frozenset()) | held.tenants
        return owners

    def _richest_user(self, asking: frozenset[str]) -> tuple[Topic, ...]:
        owners = self._owners_of_users()
        user = _newest_of_richest(owners, asking)
        return tuple(topic for topic in self._held if user is not None and topic.user == user)

    def _richest_topic(self, asking: frozenset[str]) -> tuple[Topic, ...]:
        places = {topic: held.tenants for topic, held in self._held.items()}
        topic = _newest_of_richest(places, asking)
        return () if topic is None else (topic,)


def _newest_of_richest(places: Mapping[T, frozenset[str]], asking: frozenset[str]) -> T | None:
    """The place (key of `places`, oldest first) that the tenant with most loses to those who ask;
    None when that would only turn the tables.
    """
    shares: Counter[str] = Counter()
    for owners in places.values():
        for owner in owners:
            shares[owner] += 1 / len(owners)  # type: ignore[assignment]  # a count in parts
    if not shares:
        return None
    richest = max(shares, key=lambda tenant: (shares[tenant], tenant))
    if shares[richest] - min(shares[tenant] for tenant in asking) < 2:
        return None
    own = [place for place, owners in places.items() if owners == {richest}]
    return own[-1] if own else None
