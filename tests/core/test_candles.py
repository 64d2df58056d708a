"""Candles of any interval say what its trades say, and are not shown when some may be missing."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.core.candles import INTERVALS, Candles
from streaming.core.envelope import Position, Role, end_of
from streaming.core.topic import Kind, Topic
from streaming.core.trade_feeds import TradeFeeds
from streaming.core.trades import Trade
from tests.core.node_events import BLOCK_MS, fill, fills

DAY_MS = 86_400_000
MIDNIGHT_MS = BLOCK_MS - BLOCK_MS % DAY_MS

steps = st.lists(
    st.tuples(st.integers(0, 20 * 60_000), st.integers(1, 500), st.integers(1, 10**9)),
    min_size=1,
    max_size=60,
)


def trade(time_ms: int, px: str, sz: str, coin: str = "BTC") -> Trade:
    return Trade(coin, px, sz, time_ms, 0, 0, b"{}")


def trades_of(moves: list[tuple[int, int, int]]) -> list[Trade]:
    made, time_ms = [], MIDNIGHT_MS
    for gap_ms, px, sz in moves:
        time_ms += gap_ms
        made.append(trade(time_ms, f"{px}.5", f"{sz // 10**5}.{sz % 10**5:05d}"))
    return made


def expected(trades: list[Trade], interval: str, now_ms: int) -> dict[str, Any] | None:
    """The candle by its definition, with another arithmetic."""
    length_ms = INTERVALS[interval]
    start_ms = now_ms // length_ms * length_ms
    own = [t for t in trades if start_ms <= t.time_ms < start_ms + length_ms]
    if not own:
        return None
    prices = [Decimal(t.px) for t in own]
    return {
        "t": start_ms, "T": start_ms + length_ms - 1, "s": "BTC", "i": interval,
        "o": own[0].px, "c": own[-1].px, "h": f"{max(prices)}", "l": f"{min(prices)}",
        "v": sum(Decimal(t.sz) for t in own), "n": len(own),
    }  # fmt: skip


@given(steps)
@pytest.mark.parametrize("interval", INTERVALS)
def test_a_candle_says_what_its_trades_say(
    interval: str, moves: list[tuple[int, int, int]]
) -> None:
    candles, known = Candles(), trades_of(moves)
    candles.begin(MIDNIGHT_MS)
    for number, one in enumerate(known, 1):
        candles.add([one])
        frame = candles.frame("BTC", interval, now_ms=one.time_ms)
        assert frame is not None
        body = orjson.loads(frame)
        assert body["channel"] == "candle"
        data = body["data"] | {"v": Decimal(body["data"]["v"])}
        assert data == expected(known[:number], interval, one.time_ms)


def test_fields_stand_in_the_exchanges_order() -> None:
    candles = Candles()
    candles.begin(MIDNIGHT_MS)
    candles.add([trade(MIDNIGHT_MS + 5, "84143.0", "14.27847")])
    frame = candles.frame("BTC", "1m", now_ms=MIDNIGHT_MS + 5)
    assert frame == (
        b'{"channel":"candle","data":{"t":%d,"T":%d,"s":"BTC","i":"1m","o":"84143.0","c":"84143.0",'
        b'"h":"84143.0","l":"84143.0","v":"14.27847","n":1}}' % (MIDNIGHT_MS, MIDNIGHT_MS + 59_999)
    )


def test_an_interval_that_began_before_us_is_not_shown() -> None:
    candles = Candles()
    assert not candles.is_whole("1m", now_ms=MIDNIGHT_MS)
    candles.begin(MIDNIGHT_MS + 90_000)
    candles.add([trade(MIDNIGHT_MS + 91_000, "1.0", "1.0")])
    assert candles.frame("BTC", "1m", now_ms=MIDNIGHT_MS + 91_000) is None
    candles.add([trade(MIDNIGHT_MS + 121_000, "1.0", "1.0")])
    assert candles.frame("BTC", "1m", now_ms=MIDNIGHT_MS + 121_000) is not None
    assert candles.frame("BTC", "3m", now_ms=MIDNIGHT_MS + 121_000) is None
    assert not candles.is_whole("1w", now_ms=MIDNIGHT_MS + 121_000), "its alignment is not known"


# --- as topics ------------------------------------------------------------------------------------

CANDLE = Topic(Kind.CANDLE, "BTC", interval="1m")


def block_at(height: int, time_ms: int, tid: int) -> Any:
    sides = [fill(tid, side, time_ms=time_ms) for side in "AB"]
    return fills(height, *sides, time_ms=time_ms)


def test_a_changed_candle_is_a_frame_and_a_loss_stops_it_until_the_next() -> None:
    feeds = TradeFeeds(Counter())
    feeds.epoch = "n-1"
    feeds.want(CANDLE)
    assert not feeds.can_serve(CANDLE)
    assert feeds.apply(block_at(7, MIDNIGHT_MS + 1_000, 1)) == [], "the minute had begun"
    assert feeds.snapshot(CANDLE).role is Role.NOT_READY
    feeds.apply(fills(8, time_ms=MIDNIGHT_MS + 60_000))
    assert feeds.can_serve(CANDLE)
    opening = feeds.snapshot(CANDLE)
    assert (opening.role, opening.payload) == (Role.SNAPSHOT, b"")
    lost = feeds.lost(next(iter(feeds.FILES)), 9)
    assert [(e.topic, e.role) for e in lost] == [(CANDLE.name, Role.NOT_READY)]
    assert feeds.apply(block_at(10, MIDNIGHT_MS + 62_000, 2)) == []
    feeds.want(Topic(Kind.TRADES, "BTC"))
    (gap, not_ready) = feeds.lost(next(iter(feeds.FILES)), 11)
    assert (gap.role, gap.position, not_ready.role) == (Role.GAP, end_of(11), Role.NOT_READY)


def test_the_fill_time_decides_the_candle() -> None:
    feeds = TradeFeeds(Counter())
    feeds.want(CANDLE)
    feeds.apply(fills(6, time_ms=MIDNIGHT_MS))
    sides = [fill(3, side, time_ms=MIDNIGHT_MS + 500) for side in "AB"]
    (frame,) = feeds.apply(fills(7, *sides, time_ms=MIDNIGHT_MS + 500))
    assert frame.position == Position(7)
    data = orjson.loads(frame.payload)["data"]
    assert (data["t"], data["n"]) == (MIDNIGHT_MS, 1)
    assert feeds.snapshot(CANDLE).payload == frame.payload
