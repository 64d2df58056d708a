"""One connection to the exchange's WebSocket → envelopes, payload byte for byte.

The public feed has no positions. An envelope's position counts the frames of this feed, so its
continuity means: we handed on all we got. What the exchange did not send cannot be seen.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from streaming.core.envelope import ORIGIN, Envelope, Position, Role, Times
from streaming.core.topic import DEFAULT_LEVELS, FAST_LEVELS, Kind, Topic
from streaming.core.trades import RECENT, render_trades

#: Trades of a coin remembered against repetition. The exchange repeats the last 30 after every
#: subscribe.
MAX_REMEMBERED = 1_000
#: Some servers greet with this text, which is not JSON.
_GREETING = b"Websocket connection established."
_NOTICES = frozenset({"subscriptionResponse", "pong", "error", "post"})

_TradeKey = tuple[int, int]


#: No block is later; seconds, micro- and nanoseconds are no milliseconds.
YEAR_2100_MS = 4_102_444_800_000


class Notice(NamedTuple):
    """A frame about the connection itself: `subscriptionResponse`, `pong`, `error` (its text in
    `data`), `post`.
    """

    channel: str
    data: Any


class _Unusable(Exception):
    """The frame cannot be used; its argument is the reason to count."""


@dataclass(slots=True)
class _State:
    """What is known of a topic: the place and time of its last frame, and what somebody new would
    get.
    """

    position: Position = ORIGIN
    time_ms: int = 0
    payload: bytes = b""
    recent: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=RECENT))
    remembered: dict[_TradeKey, None] = field(default_factory=dict)
    times: Times = field(default_factory=Times)


class PublicFeed:
    """Frames of one connection. It survives reconnects: what the exchange repeats then is dropped.

    `faults` counts unusable frames by reason; `notice` is the last frame if it was about the
    connection, else None.
    """

    def __init__(self, epoch: str) -> None:
        self.faults: Counter[str] = Counter()
        self.notice: Notice | None = None
        self._epoch = epoch
        self._count = 0
        self._states: dict[Topic, _State] = {}
        self._books: dict[str, dict[Topic, None]] = {}  # subscribed l2Book variants by coin

    @staticmethod
    def can_serve(topic: Topic) -> bool:
        """Whether the exchange has the topic at all: no l4Book, no number of levels but its own."""
        if topic.kind is Kind.L2_BOOK:
            return topic.n_levels == (FAST_LEVELS if topic.fast else DEFAULT_LEVELS)
        return topic.kind is not Kind.L4_BOOK

    def subscribed(self, topic: Topic) -> None:
        """Tell that `topic` is subscribed on this connection: l2Book frames do not say which
        variant they are.
        """
        if topic.kind is Kind.L2_BOOK:
            self._books.setdefault(topic.coin, {})[topic] = None

    def unsubscribed(self, topic: Topic) -> None:
        """Tell that `topic` is no longer subscribed; its state is forgotten."""
        if topic.kind is Kind.L2_BOOK:
            self._books.get(topic.coin, {}).pop(topic, None)
        if (
            topic.kind is not Kind.TRADES
        ):  # remembered trades still guard against the repetition at the next subscribe
            self._states.pop(topic, None)

    def reconnected(self) -> None:
        """A new connection began: its first frames may be older than the last of the one before."""
        for state in self._states.values():
            state.time_ms = 0

    def take(self, data: bytes, *, read_ns: int) -> list[Envelope]:
        """The envelopes one frame makes: none for a notice, a repetition or garbage. Never raises.

        `read_ns` is the wall clock (UTC, ns) when the frame was read.
        """
        self.notice = None
        try:
            return self._take(data, read_ns)
        except _Unusable as unusable:
            self.faults[str(unusable)] += 1
        except (AttributeError, KeyError, TypeError, ValueError):
            self.faults["bad_frame"] += 1
        return []

    def snapshot(self, topic: Topic) -> Envelope | None:
        """What somebody new gets: the last frame, or the last 30 trades as one. None before the
        first frame.
        """
        state = self._states.get(topic)
        if state is None or state.position == ORIGIN:
            return None
        payload = state.payload
        if topic.kind is Kind.TRADES:
            payload = render_trades(orjson.dumps(trade) for trade in state.recent)
        return Envelope(
            topic.name, self._epoch, state.position, ORIGIN, Role.SNAPSHOT, payload, state.times
        )

    def _take(self, data: bytes, read_ns: int) -> list[Envelope]:
        if data == _GREETING:
            self.notice = Notice("greeting", data.decode())
            return []
        try:
            frame = orjson.loads(data)
        except ValueError:
            raise _Unusable("not_json") from None
        channel, body = frame["channel"], frame.get("data")
        match channel:
            case "l2Book":
                return self._state_frame(self._book_topic(body), data, body["time"], read_ns)
            case "bbo":
                return self._state_frame(Topic(Kind.BBO, _coin(body)), data, body["time"], read_ns)
            case "allMids":
                dex = body.get("dex", "")
                if not isinstance(dex, str) or not isinstance(body["mids"], dict):
                    raise TypeError("not mids")
                return self._state_frame(Topic(Kind.ALL_MIDS, dex=dex), data, 0, read_ns)
            case "trades":
                return self._trades(data, body, read_ns)
            case str() if channel in _NOTICES:
                self.notice = Notice(channel, body)
                return []
            case _:
                raise _Unusable("unknown_channel")

    def _book_topic(self, body: dict[str, Any]) -> Topic:
        if len(body["levels"]) != 2:
            raise _Unusable("bad_frame")
        is_fast, is_grouped = body.get("fast") is True, "spread" in body
        fitting = [
            topic
            for topic in self._books.get(_coin(body), ())
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

    def _state_frame(self, topic: Topic, data: bytes, time_ms: int, read_ns: int) -> list[Envelope]:
        _check_time(time_ms)
        state = self._states.setdefault(topic, _State())
        if time_ms < state.time_ms:
            raise _Unusable("time_backwards")
        state.time_ms, state.payload = time_ms, data
        return [self._envelope(topic, state, data, time_ms, read_ns)]

    def _trades(self, data: bytes, trades: list[dict[str, Any]], read_ns: int) -> list[Envelope]:
        by_coin: dict[str, list[dict[str, Any]]] = {}
        for trade in trades:
            by_coin.setdefault(_coin(trade), []).append(trade)
            _check_time(trade["time"])
            if type(trade["tid"]) is not int:
                raise TypeError("not a trade")
        envelopes: list[Envelope] = []
        for coin, own in by_coin.items():
            topic = Topic(Kind.TRADES, coin)
            state = self._states.setdefault(topic, _State())
            fresh = self._unseen(state, own)
            if not fresh:
                continue
            payload = data
            if len(fresh) < len(trades):
                payload = render_trades(orjson.dumps(trade) for trade in fresh)
            state.recent.extend(fresh)
            envelopes.append(self._envelope(topic, state, payload, fresh[-1]["time"], read_ns))
        return envelopes

    def _unseen(self, state: _State, trades: list[dict[str, Any]]) -> list[dict[str, Any]]:
        remembered = state.remembered
        fresh: list[dict[str, Any]] = []
        for trade in trades:
            key = (trade["time"], trade["tid"])
            if key not in remembered:
                fresh.append(trade)
                remembered[key] = None
        while len(remembered) > MAX_REMEMBERED:
            del remembered[next(iter(remembered))]
        return fresh

    def _envelope(
        self, topic: Topic, state: _State, payload: bytes, time_ms: int, read_ns: int
    ) -> Envelope:
        self._count += 1
        before, state.position = state.position, Position(self._count)
        state.times = Times(block_ns=time_ms * 1_000_000, in_ns=read_ns)
        return Envelope(
            topic.name, self._epoch, state.position, before, Role.UPDATE, payload, state.times
        )


def _check_time(time_ms: Any) -> None:
    if type(time_ms) is not int or not 0 <= time_ms < YEAR_2100_MS:
        raise TypeError("time is not in milliseconds")


def _coin(body: dict[str, Any]) -> str:
    coin = body["coin"]
    if not isinstance(coin, str):
        raise TypeError("coin is not a string")
    return coin
