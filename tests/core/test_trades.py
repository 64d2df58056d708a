"""Fills pair into trades, whatever their order, and lone sides are counted."""

from __future__ import annotations

from collections import Counter

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.core.envelope import ORIGIN, Position
from streaming.core.trades import MAX_WAIT_BLOCKS, Pairing, Tape
from tests.core.node_events import ADA, BEN, BLOCK_MS, fill


def pairing() -> tuple[Pairing, Counter[str]]:
    faults: Counter[str] = Counter()
    return Pairing(faults), faults


def test_a_trade_as_the_feed_shows_it() -> None:
    pairs, faults = pairing()
    (trade,) = pairs.pair(7, [fill(5, "A", user=BEN, crossed=True), fill(5, "B", user=ADA)])
    assert trade.json == orjson.dumps(
        {
            "coin": "BTC",
            "side": "A",
            "px": "100.0",
            "sz": "0.5",
            "time": BLOCK_MS,
            "hash": "0x00",
            "tid": 5,
            "users": [ADA, BEN],
        }
    )
    assert (trade.first, trade.last) == (0, 1)
    assert not faults


@pytest.mark.parametrize("taker", ["A", "B"])
@pytest.mark.parametrize("taker_first", [True, False])
def test_the_crossed_side_is_the_aggressor(taker: str, taker_first: bool) -> None:
    maker = "B" if taker == "A" else "A"
    sides = [fill(5, taker, user=ADA, crossed=True), fill(5, maker, user=BEN)]
    (trade,) = pairing()[0].pair(7, sides if taker_first else sides[::-1])
    body = orjson.loads(trade.json)
    assert body["side"] == taker
    assert body["users"] == ([ADA, BEN] if taker == "B" else [BEN, ADA])


@given(st.permutations([(tid, side) for tid in range(1, 9) for side in "AB"]), st.data())
def test_every_pair_makes_one_trade_however_the_sides_are_spread(sides, data) -> None:
    """Split over blocks and shuffled: each trade comes once, in the block of its second side."""
    pairs, faults = pairing()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sides)), max_size=4)))
    trades = []
    for height, (start, end) in enumerate(zip([0, *cuts], [*cuts, len(sides)], strict=True)):
        batch = [fill(tid, side, crossed=side == "A") for tid, side in sides[start:end]]
        made = pairs.pair(height + 1, batch)
        assert [trade.first for trade in made] == sorted(trade.first for trade in made)
        trades += made
    pairs.finish()
    assert sorted(orjson.loads(trade.json)["tid"] for trade in trades) == list(range(1, 9))
    assert not faults


def test_a_lone_side_waits_a_while_and_is_counted() -> None:
    pairs, faults = pairing()
    assert pairs.pair(10, [fill(5, "A")]) == []
    assert pairs.pair(10 + MAX_WAIT_BLOCKS - 1, []) == []
    assert not faults
    pairs.pair(10 + MAX_WAIT_BLOCKS, [])
    assert faults == Counter(unpaired_fill=1)
    assert pairs.pair(10 + MAX_WAIT_BLOCKS + 1, [fill(5, "B")]) == []
    pairs.finish()
    assert faults == Counter(unpaired_fill=2)


def test_same_id_at_another_time_or_coin_is_another_trade() -> None:
    pairs, _ = pairing()
    assert not pairs.pair(7, [fill(5, "A"), fill(5, "B", coin="ETH"), fill(5, "B", time_ms=1)])


def test_two_trades_of_one_id_in_a_block() -> None:
    pairs, _ = pairing()
    assert len(pairs.pair(7, [fill(5, "A"), fill(5, "A"), fill(5, "B"), fill(5, "B")])) == 2


@pytest.mark.parametrize(
    "event",
    [
        *(None, [], "ab", [ADA], [ADA, {}], [ADA, None], [ADA, {"coin": "BTC"}]),
        [ADA, {**fill(5, "A")[1], "side": "C"}],
        [ADA, {**fill(5, "A")[1], "tid": []}],
        [ADA, {**fill(5, "A")[1], "px": 100.0}],
        [ADA, {**fill(5, "A")[1], "coin": 7}],
    ],
)
def test_garbage_is_counted_and_the_rest_goes_on(event) -> None:
    pairs, faults = pairing()
    assert len(pairs.pair(7, [event, fill(5, "A"), event, fill(5, "B")])) == 1
    assert faults == Counter(bad_fill=2)


def test_frames_are_per_coin_and_chained() -> None:
    tape = Tape(Counter())
    sides = [fill(1, "A"), fill(1, "B"), fill(2, "A", coin="ETH"), fill(2, "B", coin="ETH")]
    btc, eth = tape.apply(7, [*sides, fill(3, "A"), fill(3, "B")])
    assert (btc.coin, btc.position, btc.previous) == ("BTC", Position(7, 5), ORIGIN)
    assert (eth.coin, eth.position, eth.previous) == ("ETH", Position(7, 3), ORIGIN)
    (later,) = tape.apply(9, [fill(4, "A", px="99.5"), fill(4, "B", px="99.5")])
    assert (later.position, later.previous) == (Position(9, 1), Position(7, 5))
    assert tape.last_px("BTC") == "99.5"
    assert tape.last_px("SOL") is None


def test_recent_holds_the_last_30_oldest_first() -> None:
    tape = Tape(Counter())
    assert tape.recent("BTC") == (ORIGIN, b'{"channel":"trades","data":[]}')
    for tid in range(1, 41):
        tape.apply(tid, [fill(tid, "A"), fill(tid, "B")])
    position, payload = tape.recent("BTC")
    assert position == Position(40, 1)
    assert [trade["tid"] for trade in orjson.loads(payload)["data"]] == list(range(11, 41))


def test_real_fills_of_another_day(test_data) -> None:
    """30 recorded trades in many coins, with builder fields and spot."""
    recorded = orjson.loads(
        (test_data / "node/dwellir_grpc_fills_20251014_first60.json").read_bytes()
    )
    events = recorded["events"] if isinstance(recorded, dict) else recorded
    pairs, faults = pairing()
    trades = pairs.pair(1, events)
    pairs.finish()
    assert len(trades) == len(events) // 2
    assert not faults
