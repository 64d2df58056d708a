"""One connection to the exchange's WebSocket → envelopes, payload byte for byte.

The public feed has no positions. An envelope's position counts the frames of this feed, so its
continuity means: we handed on all we got. What the exchange did not send cannot be seen, but what a
cut connection may have cost can: a feed whose opening snapshot overlaps with what is known goes on
without a hole, any other event feed gets a gap.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeVar

import orjson

from streaming.core.dialects import official
from streaming.core.envelope import ORIGIN, Envelope, Position, Role, Times
from streaming.core.public_frames import ITEMS, SNAPLESS, Slot, slot_in, slot_of, text
from streaming.core.public_states import (
    MAX_REMEMBERED,
    FastContexts,
    Item,
    Items,
    Known,
    Trades,
)
from streaming.core.schema_sentinel import SchemaSentinel
from streaming.core.topic import DEFAULT_LEVELS, FAST_LEVELS, Kind, Topic
from streaming.core.trades import render_trades

__all__ = ["MAX_REMEMBERED", "YEAR_2100_MS", "Notice", "PublicFeed"]

#: Some servers greet with this text, which is not JSON.
_GREETING = b"Websocket connection established."
_NOTICES = frozenset({"subscriptionResponse", "pong", "error", "post"})
#: No block is later; seconds, micro- and nanoseconds are no milliseconds.
YEAR_2100_MS = 4_102_444_800_000
#: Frames of a few topics tell the time of their block.
_TIMED = frozenset({Kind.L2_BOOK, Kind.BBO})
_RELAY_ONLY = frozenset({Kind.L4_BOOK, Kind.L4_DIFF, Kind.L2_DIFF, Kind.RAW})

#: Subscriptions have a limit of 1,000; what is remembered of trades that were is bounded by this.
MAX_TOPICS = 4_000

K = TypeVar("K", bound=Known)

LOST = "the upstream connection was lost, and what it missed cannot be asked for again"


class Notice(NamedTuple):
    """A frame about the connection itself: `subscriptionResponse`, `pong`, `error` (its text in
    `data`), `post`.
    """

    channel: str
    data: Any


class _Unusable(Exception):
    """The frame cannot be used; its argument is the reason to count."""


class _Straggler(Exception):
    """The frame was on its way when its topic was left."""


class PublicFeed:
    """Frames of one connection. It survives reconnects: what the exchange repeats then is dropped.

    `faults` counts unusable frames by reason; `notice` is the last frame if it was about the
    connection, else None, and `acknowledged` the topic that it acknowledged. A `sentinel` is shown
    every frame that can be read.
    """

    def __init__(self, epoch: str, *, sentinel: SchemaSentinel | None = None) -> None:
        self.faults: Counter[str] = Counter()
        self.notice: Notice | None = None
        self.acknowledged: Topic | None = None
        self._epoch = epoch
        self._epochs: dict[Topic, str] = {}  # of what is subscribed
        self._left = 0  # topics that were
        self._parting: set[Slot] = set()  # left, and the exchange has not confirmed it yet
        self._sentinel = sentinel
        self._count = 0
        self._states: dict[Topic, Known] = {}
        self._subscribed: dict[Slot, dict[Topic, None]] = {}
        self._acknowledged: set[Topic] = set()
        self._heard: set[Topic] = set()  # of which this connection brought a frame

    @staticmethod
    def can_serve(topic: Topic) -> bool:
        """Whether the exchange has the topic at all: no l4Book, no number of levels but its own."""
        if topic.kind is Kind.L2_BOOK:
            return topic.n_levels == (FAST_LEVELS if topic.fast else DEFAULT_LEVELS)
        return topic.kind not in _RELAY_ONLY and not topic.by_event

    def subscribed(self, topic: Topic) -> None:
        """Tell that `topic` is subscribed on this connection: not every frame says whose it is.

        What was subscribed before, and not in between, has another epoch now.
        """
        epoch = f"{self._epoch}.{self._left}" if self._left else self._epoch
        self._epochs.setdefault(topic, epoch)
        self._subscribed.setdefault(slot_of(topic), {})[topic] = None
        self._parting.discard(slot_of(topic))

    def unsubscribed(self, topic: Topic) -> None:
        """Tell that `topic` is no longer subscribed; its state is forgotten."""
        slot = slot_of(topic)
        topics = self._subscribed.get(slot, {})
        topics.pop(topic, None)
        if not topics:
            self._subscribed.pop(slot, None)
            self._parting.add(slot)
        self._acknowledged.discard(topic)
        self._heard.discard(topic)
        self._left += self._epochs.pop(topic, None) is not None
        state = self._states.pop(topic, None)
        if isinstance(state, Trades):
            # What is remembered still guards against the repetition at the next subscribe.
            self._states[topic] = Trades(remembered=state.remembered)

    def is_served(self, topic: Topic) -> bool:
        """Whether the exchange has acknowledged `topic` on this connection, or sent a frame of
        it."""
        return topic in self._acknowledged or topic in self._heard

    def reconnected(self) -> list[Envelope]:
        """A new connection began: its first frames may be older than the last of the one before.

        The answer is a gap for each topic that will not repeat what it sends.
        """
        for state in self._states.values():
            state.time_ms = 0
            state.is_resuming = state.position != ORIGIN
        self._parting.clear()
        interrupted, self._acknowledged = self._acknowledged, set()
        gaps = [self._gap(topic) for topic in interrupted if topic.kind in SNAPLESS]
        self._heard.clear()
        return gaps

    def take(self, data: bytes, *, read_ns: int) -> list[Envelope]:
        """The envelopes one frame makes: none for a notice, a repetition or garbage. Never raises.

        `read_ns` is the wall clock (UTC, ns) when the frame was read.
        """
        self.notice = self.acknowledged = None
        try:
            return self._take(data, read_ns)
        except _Straggler:
            pass
        except _Unusable as unusable:
            self.faults[str(unusable)] += 1
        except (AttributeError, KeyError, TypeError, ValueError):
            self.faults["bad_frame"] += 1
        return []

    def snapshot(self, topic: Topic) -> Envelope | None:
        """What somebody new gets: the last frame, the last 30 trades as one, the upstream's opening
        snapshot with what came after it; an empty payload for a live topic that has none. None
        before the first frame, or before the subscription is acknowledged.
        """
        state = self._states.get(topic)
        if topic.kind in SNAPLESS:
            return self._sign_of_life(topic) if topic in self._acknowledged else None
        if state is None or state.position == ORIGIN:
            return None
        payload = self._opening(topic, state) if isinstance(state, Items) else state.snapshot()
        # A user feed's snapshot stands at its last frame; the other kinds stand for all before.
        since = state.position if isinstance(state, Items) else ORIGIN
        return Envelope(
            topic.name,
            self._epoch_of(topic),
            state.position,
            since,
            Role.SNAPSHOT,
            payload,
            state.times,
        )

    # --- one frame --------------------------------------------------------------------------------

    def _take(self, data: bytes, read_ns: int) -> list[Envelope]:
        if data == _GREETING:
            self.notice = Notice("greeting", data.decode())
            return []
        try:
            frame = orjson.loads(data)
        except ValueError:
            raise _Unusable("not_json") from None
        channel, body = frame["channel"], frame.get("data")
        if channel in _NOTICES:
            return self._notice(channel, body)
        if not isinstance(channel, str):
            raise _Unusable("unknown_channel")
        if self._sentinel is not None:
            self._sentinel.observe(channel, body, now_ns=read_ns)
        if channel == "trades":
            return self._trades(data, body, read_ns)
        slot = slot_in(channel, body)
        if slot is None:
            raise _Unusable("unknown_channel")
        topic = self._topic(slot, body)
        if topic.kind in ITEMS:
            return self._items(topic, data, body, read_ns)
        if topic.kind in SNAPLESS:
            return [self._envelope(topic, self._known(topic, Known), data, read_ns=read_ns)]
        return self._state(topic, data, body, read_ns)

    def _notice(self, channel: str, body: Any) -> list[Envelope]:
        self.notice = Notice(channel, body)
        if channel != "subscriptionResponse":
            return []
        try:
            topic, _ = official.parse_subscription(body.get("subscription"))
        except ValueError:
            return []  # a type we never asked for
        if body["method"] != "subscribe":
            self._parting.discard(slot_of(topic))
            return []
        if topic in self._acknowledged or topic not in self._subscribed.get(slot_of(topic), ()):
            return []
        self._acknowledged.add(topic)
        self.acknowledged = topic
        return [self._sign_of_life(topic)] if topic.kind in SNAPLESS else []

    def _topic(self, slot: Slot, body: Any) -> Topic:
        """The topic a frame belongs to, of those that were asked for: an upstream that makes up
        names must not fill our memory."""
        subscribed = self._subscribed.get(slot)
        if not subscribed:
            raise _Straggler if slot in self._parting else _Unusable("not_subscribed")
        if slot.kind is Kind.L2_BOOK:
            return _book_variant(subscribed, body)
        if len(subscribed) > 1:
            raise _Unusable("ambiguous")
        return next(iter(subscribed))

    def _state(self, topic: Topic, data: bytes, body: Any, read_ns: int) -> list[Envelope]:
        time_ms = body["time"] if topic.kind in _TIMED else 0
        _check_time(time_ms)
        packed = topic.kind is Kind.FAST_ASSET_CTXS
        state = self._known(topic, FastContexts if packed else Known)
        if time_ms < state.time_ms:
            raise _Unusable("time_backwards")
        if isinstance(state, FastContexts):
            state.extend(body)
        state.time_ms, state.payload = time_ms, data
        return [self._envelope(topic, state, data, read_ns=read_ns, time_ms=time_ms)]

    def _trades(self, data: bytes, trades: list[Item], read_ns: int) -> list[Envelope]:
        by_coin: dict[str, list[Item]] = {}
        for trade in trades:
            by_coin.setdefault(text(trade, "coin"), []).append(trade)
            _check_time(trade["time"])
            if type(trade["tid"]) is not int:
                raise TypeError("not a trade")
        envelopes: list[Envelope] = []
        for coin, own in by_coin.items():
            try:
                topic = self._topic(Slot(Kind.TRADES, coin), None)
            except _Straggler:
                continue
            except _Unusable as unusable:
                self.faults[str(unusable)] += 1
                continue
            state = self._known(topic, Trades)
            fresh = state.fresh(own)
            if state.is_resuming and len(fresh) == len(own):
                envelopes.append(self._gap(topic))
            state.is_resuming = False
            if not fresh:
                continue
            payload = data
            if len(fresh) < len(trades):
                payload = render_trades(orjson.dumps(trade) for trade in fresh)
            state.recent.extend(fresh)
            time_ms = fresh[-1]["time"]
            envelopes.append(
                self._envelope(topic, state, payload, read_ns=read_ns, time_ms=time_ms)
            )
        return envelopes

    def _items(self, topic: Topic, data: bytes, body: Any, read_ns: int) -> list[Envelope]:
        items, is_snapshot = body[ITEMS[topic.kind]], body.get("isSnapshot") is True
        state = self._known(topic, Items)
        is_first, knew_some = state.position == ORIGIN, bool(state.remembered)
        fresh = state.fresh(items)
        envelopes: list[Envelope] = []
        if state.is_resuming and len(fresh) == len(items) and (knew_some or not is_snapshot):
            # Nothing known is repeated: between what is known and this, something may lie.
            envelopes.append(self._gap(topic))
        state.is_resuming = False
        if is_first:
            state.open(data, items)
        elif not fresh:
            return envelopes
        else:
            state.opening = None
            is_reversed = is_snapshot and state.is_newest_first
            state.extend(fresh, is_newest_first=is_reversed)
            if is_snapshot or len(fresh) < len(items):
                ordered = fresh[::-1] if is_reversed else fresh
                data = _render_items(topic, ordered, is_snapshot=False)
        envelopes.append(self._envelope(topic, state, data, read_ns=read_ns))
        return envelopes

    # --- envelopes --------------------------------------------------------------------------------

    def _known(self, topic: Topic, kind: type[K]) -> K:
        state = self._states.get(topic)
        if not isinstance(state, kind):
            if len(self._states) >= MAX_TOPICS:
                self._forget_one()
            state = self._states[topic] = kind()
        self._heard.add(topic)
        return state

    def _forget_one(self) -> None:
        """Drop the oldest of what is no longer subscribed."""
        left = next((topic for topic in self._states if topic not in self._epochs), None)
        if left is None:
            raise _Unusable("too_many_topics")
        del self._states[left]

    def _opening(self, topic: Topic, state: Items) -> bytes:
        if state.opening is None:
            # Kept until something comes after it: several may join at once.
            state.opening = _render_items(topic, state.items(), is_snapshot=True)
        return state.opening

    def _sign_of_life(self, topic: Topic) -> Envelope:
        state = self._known(topic, Known)
        return Envelope(
            topic.name,
            self._epoch_of(topic),
            state.position,
            state.position,
            Role.SNAPSHOT,
            b"",
            state.times,
        )

    def _gap(self, topic: Topic) -> Envelope:
        state = self._known(topic, Known)
        before = self._advance(state)
        return Envelope(
            topic.name,
            self._epoch_of(topic),
            state.position,
            before,
            Role.GAP,
            LOST.encode(),
            Times(),
        )

    def _epoch_of(self, topic: Topic) -> str:
        return self._epochs.get(topic, self._epoch)

    def _advance(self, state: Known) -> Position:
        self._count += 1
        before, state.position = state.position, Position(self._count)
        return before

    def _envelope(
        self, topic: Topic, state: Known, payload: bytes, *, read_ns: int, time_ms: int = 0
    ) -> Envelope:
        before = self._advance(state)
        state.times = Times(block_ns=time_ms * 1_000_000, in_ns=read_ns)
        return Envelope(
            topic.name,
            self._epoch_of(topic),
            state.position,
            before,
            Role.UPDATE,
            payload,
            state.times,
        )


def _book_variant(subscribed: Iterable[Topic], body: Any) -> Topic:
    if len(body["levels"]) != 2:
        raise _Unusable("bad_frame")
    is_fast, is_grouped = body.get("fast") is True, "spread" in body
    fitting = [
        topic
        for topic in subscribed
        # An aggregated book with an empty side may come without its spread.
        if topic.fast is is_fast and (topic.n_sig_figs is not None or not is_grouped)
    ]
    if is_grouped or len(fitting) > 1:
        fitting = [topic for topic in fitting if (topic.n_sig_figs is not None) is is_grouped]
    if not fitting:
        raise _Unusable("not_subscribed")
    if len(fitting) > 1:
        raise _Unusable("ambiguous_l2_book")
    return fitting[0]


def _render_items(topic: Topic, items: list[Item], *, is_snapshot: bool) -> bytes:
    data: dict[str, Any] = {"isSnapshot": True} if is_snapshot else {}
    data |= {"user": topic.user, ITEMS[topic.kind]: items}
    return orjson.dumps({"channel": official.channel_of(topic), "data": data})


def _check_time(time_ms: Any) -> None:
    if type(time_ms) is not int or not 0 <= time_ms < YEAR_2100_MS:
        raise TypeError("time is not in milliseconds")
