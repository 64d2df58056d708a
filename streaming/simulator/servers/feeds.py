"""Which frames each subscription gets: at once, and after every block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import orjson

from streaming.simulator.engine.block import Block
from streaming.simulator.engine.levels import FAST_LEVELS, bbo_levels
from streaming.simulator.engine.tape import candle_span
from streaming.simulator.servers import market_info, user_feeds, user_info
from streaming.simulator.servers.dialect import USER_FEEDS, Subscription, is_valid_grouping
from streaming.simulator.simulation import Simulator

TRADES_REPLAYED = 30  # the first trades frame after a subscribe
BLOCKS_PER_S = 14

Frame = tuple[str, bytes]


class Feeds(Protocol):
    """Where frames come from: a running exchange or a recording. `route` names what is published
    together.
    """

    def is_known(self, subscription: Subscription) -> bool:
        """Whether the exchange serves this; it drops the connection of whoever asks for anything
        else.
        """

    def route(self, subscription: Subscription, text: str) -> str:
        """The name under which frames for this subscription are published."""

    def first_frames(self, subscription: Subscription) -> list[bytes]:
        """What follows the acknowledgement directly."""


@dataclass(frozen=True, slots=True)
class Cadence:
    """How many blocks lie between two pushes. 1 means every block that changed the coin; more means
    every so many blocks, changed or not, on one clock for all coins.
    """

    l2_book: int = 1
    l2_book_fast: int = 1
    all_mids: int = BLOCKS_PER_S
    candle: int = 1
    asset_ctx: int = BLOCKS_PER_S
    user_state: int = BLOCKS_PER_S


#: A push on every block: what a node's operator could serve.
EVERY_BLOCK = Cadence()
#: The public API since June 2026: books every 5.4 s, fast ones every 0.54 s, allMids every 5 s,
#: candles every second.
PUBLIC = Cadence(l2_book=77, l2_book_fast=8, all_mids=71, candle=BLOCKS_PER_S)


def frame(channel: str, data: object) -> bytes:
    """A data frame, compact, keys in order."""
    return orjson.dumps({"channel": channel, "data": data})


class ExchangeFeeds:
    """Frames from a running simulation. Every frame is encoded once, however many follow it."""

    def __init__(self, simulator: Simulator, *, cadence: Cadence = EVERY_BLOCK) -> None:
        self._exchange = simulator.exchange
        self._cadence = cadence
        self._bbo: dict[str, tuple[tuple[int, int, int] | None, ...]] = {}
        self._shown: dict[str, object] = {}  # the last state of each user feed that is one

    def is_known(self, subscription: Subscription) -> bool:
        """Exact coin names and valid aggregations only."""
        kind = subscription["type"]
        if kind == "allMids":
            return subscription.get("dex", "") in ("", "xyz")
        if kind in USER_FEEDS:
            coin = self._exchange.coins.get(str(subscription.get("coin")))
            if kind == "activeAssetData" and (coin is None or coin.is_spot):
                return False
            return (subscription.get("dex") or "") in user_feeds.DEXES
        if kind == "l2Book" and not is_valid_grouping(
            subscription["nSigFigs"], subscription["mantissa"]
        ):
            return False
        return subscription["coin"] in self._exchange.coins

    def route(self, subscription: Subscription, text: str) -> str:
        """Every normalised subscription is its own route."""
        return text

    def first_frames(self, subscription: Subscription) -> list[bytes]:
        """The current state of a state feed, the last 30 trades, the snapshot of a user feed."""
        kind = str(subscription["type"])
        now_ms = self._exchange.block.time_ms
        if kind in user_feeds.ITEMS:
            user = str(subscription["user"])
            rows = user_feeds.snapshot_rows(self._exchange, kind, user)
            data = {"isSnapshot": True, "user": user, user_feeds.ITEMS[kind]: rows}
            return [frame(kind, data)]
        if kind in user_feeds.STATES:
            return [frame(kind, user_feeds.state(self._exchange, subscription, now_ms))]
        if kind == "trades":
            recent = list(self._exchange.tapes[str(subscription["coin"])].recent)[-TRADES_REPLAYED:]
            return [frame(kind, recent)] if recent else []
        if kind in ("orderUpdates", "userEvents", "notification"):
            return []
        first = self._state(subscription, now_ms)
        return [] if first is None else [first]

    def block_frames(
        self, block: Block, wanted: Iterable[tuple[str, Subscription]]
    ) -> Iterator[Frame]:
        """The frames of one block for the routes that somebody follows."""
        moved = self._bbo_moves(block)
        followed = set()
        for route, subscription in wanted:
            kind = str(subscription["type"])
            if kind in user_feeds.STATES:
                followed.add(route)
                if block.height % self._cadence.user_state == 0:
                    yield from self._user_state(route, subscription, block.time_ms)
            elif kind in USER_FEEDS:
                user = str(subscription["user"])
                for encoded in self._user_frames(block, kind, user):
                    yield route, encoded
            else:
                after = self._after(block, subscription, moved)
                if after is not None:
                    yield route, after
        for route in self._shown.keys() - followed:
            del self._shown[route]

    def _after(self, block: Block, subscription: Subscription, moved: set[str]) -> bytes | None:
        kind = str(subscription["type"])
        coin = str(subscription.get("coin", ""))
        match kind:
            case "trades":
                return frame("trades", block.trades[coin]) if coin in block.trades else None
            case "bbo":
                due = coin in moved
            case "l2Book":
                every = (
                    self._cadence.l2_book_fast if subscription["fast"] else self._cadence.l2_book
                )
                due = coin in block.changed if every == 1 else block.height % every == 0
            case "allMids":
                due = block.height % self._cadence.all_mids == 0
            case "candle":
                every = self._cadence.candle
                due = coin in block.trades if every == 1 else block.height % every == 0
            case "activeAssetCtx":
                due = block.height % self._cadence.asset_ctx == 0
            case _:
                return None
        return self._state(subscription, block.time_ms) if due else None

    def _state(self, subscription: Subscription, now_ms: int) -> bytes | None:
        kind, name = str(subscription["type"]), str(subscription.get("coin", ""))
        if kind == "allMids":
            return self._all_mids(subscription)
        coin, book = self._exchange.coins[name], self._exchange.books.get(name)
        if kind == "l2Book":
            if book is None:
                return frame("l2Book", {"coin": name, "time": now_ms, "levels": [[], []]})
            fast = bool(subscription["fast"])
            n_sig_figs, mantissa = subscription["nSigFigs"], subscription["mantissa"]
            data = market_info.l2_book(
                book,
                time_ms=now_ms,
                n_sig_figs=n_sig_figs if isinstance(n_sig_figs, int) else None,
                mantissa=mantissa if isinstance(mantissa, int) else None,
                count=FAST_LEVELS if fast else 20,
                fast=fast,
            )
            return frame("l2Book", data)
        if kind == "bbo":
            return self._bbo_frame(name, now_ms)
        if kind == "candle":
            return self._candle(name, str(subscription["interval"]), now_ms)
        channel = "activeSpotAssetCtx" if coin.is_spot else "activeAssetCtx"
        return frame(channel, {"coin": name, "ctx": market_info.ctx(self._exchange, coin, now_ms)})

    def _all_mids(self, subscription: Subscription) -> bytes:
        dex = str(subscription.get("dex", ""))
        mids = market_info.all_mids(self._exchange, dex)
        return frame("allMids", {"dex": dex, "mids": mids} if dex else {"mids": mids})

    def _bbo_moves(self, block: Block) -> set[str]:
        """The coins whose best prices this block changed: looked at every block, because a bbo
        never repeats.
        """
        moved = set()
        for name in block.changed:
            book = self._exchange.books[name]
            best = tuple(
                None if level is None else (level.px, level.sz, len(level.orders))
                for level in (book.bids.best, book.asks.best)
            )
            if self._bbo.get(name) != best:
                self._bbo[name] = best
                moved.add(name)
        return moved

    def _bbo_frame(self, name: str, now_ms: int) -> bytes:
        book = self._exchange.books.get(name)
        levels = [None, None] if book is None else bbo_levels(book)
        return frame("bbo", {"coin": name, "time": now_ms, "bbo": levels})

    def _candle(self, name: str, interval: str, now_ms: int) -> bytes | None:
        row = self._exchange.tapes[name].candles[interval]
        if not row or row[-1].start_ms != candle_span(interval, now_ms)[0]:
            return None  # nothing traded in this interval yet
        return frame("candle", row[-1].as_dict(self._exchange.coins[name], interval))

    def _user_state(self, route: str, subscription: Subscription, now_ms: int) -> Iterator[Frame]:
        data = user_feeds.state(self._exchange, subscription, now_ms)
        shown = user_feeds.without_clocks(data)
        if self._shown.get(route) != shown:
            self._shown[route] = shown
            yield route, frame(str(subscription["type"]), data)

    def _user_frames(self, block: Block, kind: str, user: str) -> Iterator[bytes]:
        if kind == "userEvents":
            for data in user_feeds.user_events(self._exchange, block, user):
                yield frame("user", data)
            return
        if kind == "notification":
            # What a user is told of: the exchange has no list of it; fills of stops are among it.
            for row in block.statuses:
                if row["user"] == user and row["status"] == "triggered":
                    yield frame(kind, {"notification": user_info.notification(row)})
            return
        rows = user_feeds.block_rows(self._exchange, block, kind, user)
        if not rows:
            return
        key = user_feeds.ITEMS.get(kind)
        yield frame(kind, rows if key is None else {"user": user, key: rows})
