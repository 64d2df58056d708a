"""What one address may ask of the exchange, shared fairly between tenants. Pure.

Limits are counted per source address: connections, new connections and client messages a minute,
subscriptions, distinct users. A topic costs one subscription however many customers follow it. The
places are shared by max-min fairness: while there is room everybody gets what they ask for; when
there is none, a tenant who holds less takes a place from the one who holds most.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping
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


class _Place(NamedTuple):
    """A topic as one holder has it. Two sources may have the same one while it moves."""

    holder: str
    topic: Topic


@dataclass(slots=True)
class _Held:
    link: int
    tenants: frozenset[str]


class PublicBudget:
    """The allowance of one address, whoever asks through it: `holder` names the source, whose
    connections are its own. A topic without tenants belongs to nobody in particular: all such
    topics are one tenant. A place is taken only from a topic of the same holder, who must be told.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._connects = Window(self.limits.connects_per_minute)
        self._messages = Window(self.limits.messages_per_minute)
        self._held: dict[_Place, _Held] = {}
        self._slots: list[set[Slot]] = [set() for _ in range(self.limits.connections)]
        self._holders: list[str] = [""] * self.limits.connections  # of links with slots
        self._users: Counter[str] = Counter()
        #: What each holder that runs does when another may have made room.
        self.seekers: dict[str, Callable[[], None]] = {}

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

    def take(self, topic: Topic, *, tenants: Collection[str] = (), holder: str = "") -> Grant:
        """Give `topic` a place, or say which limit is spent; a topic that has one keeps it."""
        owners = frozenset(tenants) or frozenset({""})
        held = self._held.get(_Place(holder, topic))
        if held is not None:
            held.tenants = owners
            return Grant(held.link)
        evicted: list[Topic] = []
        # Each step counts what the one before would free.
        for room in (self._room_on_links, self._room_for_user, self._room_for_topic):
            going, refusal = room(_Place(holder, topic), owners, frozenset(evicted))
            if refusal and not going:
                return Grant(None, refusal)
            evicted += going
        for each in evicted:
            self.give(each, holder=holder)
        link = self._free_link(_Place(holder, topic))
        assert link is not None  # noqa: S101 - what went for it had its slot
        self._hold(_Place(holder, topic), link, owners)
        return Grant(link, "", tuple(evicted))

    def give(self, topic: Topic, *, holder: str = "") -> None:
        """Give a topic's place back; nothing happens when it has none."""
        held = self._held.pop(_Place(holder, topic), None)
        if held is None:
            return
        self._slots[held.link].discard(slot_of(topic))
        if not self._slots[held.link]:
            self._holders[held.link] = ""
        if topic.user:
            self._users[topic.user] -= 1
            if not self._users[topic.user]:
                del self._users[topic.user]

    def tell_room(self, *, of: str) -> None:
        """A place of `of` was given back: let the others try who waits there."""
        for holder, seek in list(self.seekers.items()):
            if holder != of:
                seek()

    def give_all(self) -> None:
        """Give every place back: the sources that had them have ended. What was said in the last
        minute stays counted."""
        for holder, topic in list(self._held):
            self.give(topic, holder=holder)

    def held_by(self, tenant: str) -> float:
        """Places of `tenant`; one wanted by several tenants counts in equal parts."""
        return sum(1 / len(held.tenants) for held in self._held.values() if tenant in held.tenants)

    def users_of(self, tenant: str) -> float:
        """Users that `tenant` follows; one followed for several tenants counts in equal parts."""
        return sum(
            1 / len(owners) for owners in self._owners_of_users().values() if tenant in owners
        )

    def _hold(self, place: _Place, link: int, owners: frozenset[str]) -> None:
        self._held[place] = _Held(link, owners)
        self._slots[link].add(slot_of(place.topic))
        self._holders[link] = place.holder
        if place.topic.user:
            self._users[place.topic.user] += 1

    def _free_link(self, place: _Place) -> int | None:
        """A connection on which the topic's frames can be told apart."""
        slot = slot_of(place.topic)
        # The first that fits: few connections, and none opened that is not needed.
        for number, slots in enumerate(self._slots):
            if slot not in slots and self._holders[number] in ("", place.holder):
                return number
        return None

    # --- room: which topics must go for a new one, and what is spent when none may ---

    def _room_on_links(
        self, place: _Place, asking: frozenset[str], gone: frozenset[Topic]
    ) -> tuple[list[Topic], str]:
        topic, slot = place.topic, slot_of(place.topic)
        if topic.kind is Kind.L2_BOOK:
            variants = [
                held
                for held in self._held
                if held.topic.kind is Kind.L2_BOOK and held.topic.coin == topic.coin
            ]
            if len(variants) >= self.limits.book_variants_per_coin:
                refusal = f"All {len(variants)} public aggregations of {topic.coin} are in use"
                return self._richest(variants, place.holder, asking), refusal
        if self._free_link(place) is not None:
            return [], ""
        rivals = [held for held in self._held if slot_of(held.topic) == slot]
        refusal = f"All {len(self._slots)} public connections carry another {topic.kind}"
        return self._richest(rivals, place.holder, asking), refusal

    def _room_for_user(
        self, place: _Place, asking: frozenset[str], gone: frozenset[Topic]
    ) -> tuple[list[Topic], str]:
        going = Counter(topic.user for topic in gone if topic.user)
        users = {user for user, count in self._users.items() if count > going[user]}
        user = place.topic.user
        if not user or user in users or len(users) < self.limits.users:
            return [], ""
        owners: dict[str, frozenset[str]] = {}
        for held, its in self._held.items():
            if held.topic.user in users:
                owners[held.topic.user] = owners.get(held.topic.user, frozenset()) | its.tenants
        richest = _newest_of_richest(owners, asking)
        topics = [held for held in self._held if richest is not None and held.topic.user == richest]
        if any(held.holder != place.holder for held in topics):
            topics = []
        refusal = f"All {self.limits.users} users of the public feed are in use"
        return [held.topic for held in topics if held.topic not in gone], refusal

    def _room_for_topic(
        self, place: _Place, asking: frozenset[str], gone: frozenset[Topic]
    ) -> tuple[list[Topic], str]:
        if self.subscriptions - len(gone) < self.limits.subscriptions:
            return [], ""
        rivals = [held for held in self._held if held.topic not in gone]
        refusal = f"All {self.limits.subscriptions} subscriptions of the public feed are in use"
        return self._richest(rivals, place.holder, asking), refusal

    # --- fairness ---

    def _richest(
        self, rivals: Collection[_Place], holder: str, asking: frozenset[str]
    ) -> list[Topic]:
        place = _newest_of_richest({rival: self._held[rival].tenants for rival in rivals}, asking)
        return [] if place is None or place.holder != holder else [place.topic]

    def _owners_of_users(self) -> dict[str, frozenset[str]]:
        owners: dict[str, frozenset[str]] = {}
        for (_, topic), held in self._held.items():
            if topic.user:
                owners[topic.user] = owners.get(topic.user, frozenset()) | held.tenants
        return owners


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
