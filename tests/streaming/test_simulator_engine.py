"""The engine: deterministic, never crossed, and honest in what it says about itself."""

from __future__ import annotations

import re
from collections import Counter
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.simulator import Block, Settings, Simulator
from streaming.simulator.engine.accounts import Account, Role, cast, perp_direction
from streaming.simulator.engine.book import Order
from streaming.simulator.engine.coins import Coin, decimal_text, listing
from streaming.simulator.engine.exchange import Exchange
from streaming.simulator.engine.levels import bucket_px, l2_levels
from streaming.simulator.engine.rows import trade_id

START_NS = 1_790_000_000_000_000_000
BTC = Coin("BTC", 5, 84_143.0, 40)


def simulator(seed: int = 7, **options: object) -> Simulator:
    """A simulation without files, beginning at a fixed time."""
    return Simulator(Settings(seed=seed, start_time_ns=START_NS, **options))  # type: ignore[arg-type]


class NaiveBook:
    """Resting orders by id, built from book diffs alone, with no code of the simulator."""

    def __init__(self) -> None:
        self.orders: dict[tuple[str, int], tuple[str, Decimal, Decimal]] = {}

    def apply(self, diff: dict) -> None:
        key, change = (diff["coin"], diff["oid"]), diff["raw_book_diff"]
        if change == "remove":
            self.orders.pop(key, None)
        elif "new" in change:
            assert key not in self.orders
            self.orders[key] = (diff["side"], Decimal(diff["px"]), Decimal(change["new"]["sz"]))
        else:
            side, px, sz = self.orders[key]
            assert sz == Decimal(change["update"]["origSz"])
            left = Decimal(change["update"]["newSz"])
            if left:
                self.orders[key] = (side, px, left)
            else:
                del self.orders[key]

    def levels(self, coin: str) -> list[list[tuple[Decimal, Decimal, int]]]:
        sides = []
        for side in "BA":
            totals: dict[Decimal, list] = {}
            for (name, _), (of, px, sz) in self.orders.items():
                if name == coin and of == side:
                    row = totals.setdefault(px, [Decimal(0), 0])
                    row[0] += sz
                    row[1] += 1
            ordered = sorted(totals.items(), reverse=side == "B")
            sides.append([(px, sz, n) for px, (sz, n) in ordered])
        return sides


def test_the_same_seed_makes_the_same_blocks() -> None:
    first, second = simulator(), simulator()
    assert [first.step() for _ in range(40)] == [second.step() for _ in range(40)]


def test_another_seed_makes_other_blocks() -> None:
    first, second = simulator(1), simulator(2)
    assert first.step().diffs != second.step().diffs


def test_block_times_advance_by_seventy_milliseconds() -> None:
    sim = simulator()
    blocks = [sim.step() for _ in range(5)]
    assert [block.time_ns for block in blocks] == [START_NS + i * 70_000_000 for i in range(5)]
    assert [block.height for block in blocks] == list(range(blocks[0].height, blocks[0].height + 5))


def test_books_stay_deep_and_uncrossed() -> None:
    sim = simulator()
    for _ in range(400):
        sim.step()
        for book in sim.exchange.books.values():
            assert book.bids.best.px < book.asks.best.px
            assert min(len(book.bids), len(book.asks)) >= 50
            assert all(book.coin.is_valid_px(level.px) for level in book.asks.top(60))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_diffs_alone_give_the_books(seed: int) -> None:
    sim, naive = simulator(seed), NaiveBook()
    for _ in range(300):
        for diff in sim.step().diffs:
            naive.apply(diff)
    for name, book in sim.exchange.books.items():
        shown = [
            [(Decimal(row["px"]), Decimal(row["sz"]), row["n"]) for row in side]
            for side in l2_levels(book, count=10_000)
        ]
        assert shown == naive.levels(name)


def test_every_new_order_in_the_book_has_its_status_in_the_same_block() -> None:
    sim = simulator()
    for _ in range(200):
        block = sim.step()
        known = {
            status["order"]["oid"]
            for status in block.statuses
            if (status["status"] == "open" and not status["order"]["isTrigger"])
            or status["status"] == "triggered"
        }
        fresh = {diff["oid"] for diff in block.diffs if "new" in diff["raw_book_diff"]}
        assert fresh <= known


def blocks_with_fills(count: int = 300) -> list[Block]:
    sim = simulator()
    return [block for block in (sim.step() for _ in range(count)) if block.fills]


def test_every_trade_has_two_adjacent_sides_that_agree() -> None:
    for block in blocks_with_fills():
        trades = [trade for rows in block.trades.values() for trade in rows]
        assert len(block.fills) == 2 * len(trades)
        public = {trade["tid"]: trade for trade in trades}
        for (buyer, buy), (seller, sell) in zip(block.fills[::2], block.fills[1::2], strict=True):
            assert (buy["side"], sell["side"]) == ("B", "A")
            assert buy["crossed"] is not sell["crossed"]
            trade = public[buy["tid"]]
            for key in ("coin", "px", "sz", "time", "hash", "tid"):
                assert buy[key] == sell[key] == trade[key]
            assert trade["users"] == [buyer, seller]
            assert trade["side"] == (buy if buy["crossed"] else sell)["side"]
            assert 0 <= trade["tid"] < 2**50


def test_positions_follow_the_fills() -> None:
    sim = simulator()
    positions: Counter[tuple[str, str]] = Counter()
    spot = {coin.name for coin in sim.coins if coin.is_spot}
    for _ in range(400):
        for user, fill in sim.step().fills:
            if fill["coin"] in spot:
                assert fill["dir"] in ("Buy", "Sell")
                continue
            key = (user, fill["coin"])
            before = Decimal(fill["startPosition"])
            assert before == positions.get(key, Decimal(0))
            change = Decimal(fill["sz"]) * (1 if fill["side"] == "B" else -1)
            positions[key] = before + change  # type: ignore[assignment]
    for (user, coin), szi in positions.items():
        held = sim.accounts[user].positions[coin].szi
        assert sim.exchange.coins[coin].sz_text(held) == decimal_text(
            int(szi.scaleb(sim.exchange.coins[coin].sz_decimals)),
            sim.exchange.coins[coin].sz_decimals,
        )
    for name in {coin for _, coin in positions}:
        assert sum(szi for (_, coin), szi in positions.items() if coin == name) == 0


def test_the_flow_shows_all_that_a_relay_must_bear() -> None:
    sim = simulator()
    statuses, blocks = Counter(), []
    for _ in range(1_500):
        blocks.append(sim.step())
        statuses.update(status["status"] for status in blocks[-1].statuses)
    assert {
        "open",
        "filled",
        "canceled",
        "triggered",
        "badAloPxRejected",
        "iocCancelRejected",
        "selfTradeCanceled",
    } <= set(statuses)
    fills = [fill for block in blocks for _, fill in block.fills]
    assert any(fill["twapId"] is not None and set(fill["hash"][2:]) == {"0"} for fill in fills)
    assert any("cloid" in fill for fill in fills)
    assert any("builderFee" in fill for fill in fills)
    assert any(fill["fee"].startswith("-") for fill in fills)
    assert {"Open Long", "Close Short", "Long > Short", "Short > Long", "Buy"} <= {
        fill["dir"] for fill in fills
    }
    changes = [diff["raw_book_diff"] for block in blocks for diff in block.diffs]
    assert any("update" in change and change["update"]["newSz"] == "0.0" for change in changes)
    assert any(not block.journal for block in blocks)
    assert len({book for block in blocks for book in block.trades}) == len(sim.exchange.books)


def test_the_wanted_share_of_rejections_is_reached() -> None:
    sim = simulator(reject_share=0.9)
    sim.step()
    statuses = [status for _ in range(30) for status in sim.step().statuses]
    rejected = sum(status["status"].endswith("Rejected") for status in statuses)
    assert rejected / len(statuses) == pytest.approx(0.9, abs=0.03)


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_an_impossible_share_of_rejections_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="reject_share"):
        Settings(reject_share=share)


class Pit:
    """One coin and two users, to place orders by hand."""

    def __init__(self) -> None:
        accounts = {
            name: Account(name, Role.TAKER, 450, 150, usdc=10**15) for name in ("0xada", "0xben")
        }
        self.exchange = Exchange(coins=(BTC,), accounts=accounts, first_oid=1)
        self.exchange.begin(height=1, time_ns=START_NS)
        self.book = self.exchange.books["BTC"]

    def order(self, user: str, side: str, px: int, sz: int, tif: str = "Gtc") -> tuple[Order, str]:
        account = self.exchange.accounts[user]
        order = self.exchange.new_order(
            account, BTC, is_buy=side == "B", px=px * 10, sz=sz, tif=tif
        )
        return order, self.exchange.submit(order)


def test_older_orders_at_a_price_trade_first_and_better_prices_before_them() -> None:
    pit = Pit()
    for px in (84_001, 84_000, 84_000):
        pit.order("0xada", "A", px, 1_000)
    _, status = pit.order("0xben", "B", 84_001, 2_500, "Ioc")
    fills = [fill for _, fill in pit.exchange.block.fills[1::2]]
    assert status == "filled"
    assert [(fill["px"], fill["oid"], fill["sz"]) for fill in fills] == [
        ("84000.0", 2, "0.01"),
        ("84000.0", 3, "0.01"),
        ("84001.0", 1, "0.005"),
    ]


def test_a_rest_of_an_ioc_is_canceled_and_of_a_gtc_rests() -> None:
    pit = Pit()
    pit.order("0xada", "A", 84_000, 1_000)
    assert pit.order("0xben", "B", 84_000, 1_500, "Ioc")[1] == "canceled"
    pit.order("0xada", "A", 84_000, 1_000)
    rest, status = pit.order("0xben", "B", 84_000, 1_500)
    assert (status, rest.sz, rest.is_live) == ("open", 500, True)


@pytest.mark.parametrize(
    ("px", "sz", "tif", "status"),
    [
        (84_000, 1_000, "Alo", "badAloPxRejected"),
        (83_000, 1_000, "Ioc", "iocCancelRejected"),
        (83_000, 1, "Gtc", "minTradeNtlRejected"),
        (83_000, 10**12, "Gtc", "perpMarginRejected"),
    ],
)
def test_orders_the_exchange_refuses(px: int, sz: int, tif: str, status: str) -> None:
    pit = Pit()
    pit.order("0xada", "A", 84_000, 1_000)
    before = len(pit.exchange.block.diffs)
    assert pit.order("0xben", "B", px, sz, tif)[1] == status
    last = pit.exchange.block.statuses[-1]
    assert (last["status"], last["hash"]) == (status, None)
    assert len(pit.exchange.block.diffs) == before


def test_a_price_off_its_tick_is_refused() -> None:
    pit = Pit()
    account = pit.exchange.accounts["0xada"]
    order = pit.exchange.new_order(account, BTC, is_buy=True, px=840_005, sz=1_000, tif="Gtc")
    assert pit.exchange.submit(order) == "tickRejected"


def test_nobody_trades_with_themselves() -> None:
    pit = Pit()
    resting, _ = pit.order("0xada", "A", 84_000, 1_000)
    assert pit.order("0xada", "B", 84_000, 1_000)[1] == "open"
    assert not resting.is_live
    assert [s["status"] for s in pit.exchange.block.statuses][2] == "selfTradeCanceled"
    assert not pit.exchange.block.fills


def test_a_stop_waits_beside_the_book_and_joins_it_when_reached() -> None:
    pit = Pit()
    pit.order("0xada", "A", 84_500, 1_000)
    account = pit.exchange.accounts["0xben"]
    stop = pit.exchange.new_order(account, BTC, is_buy=True, px=843_000, sz=1_000, tif="Gtc")
    pit.exchange.place_trigger(stop, trigger_px=842_000, above=True)
    assert pit.exchange.block.statuses[-1]["order"]["triggerCondition"] == "Price above 84200"
    pit.exchange.fire(BTC, mark_px=841_999)
    assert stop.oid not in pit.book.orders
    pit.exchange.fire(BTC, mark_px=842_000)
    assert stop.oid in pit.book.orders
    assert pit.exchange.block.diffs[-1]["raw_book_diff"] == {"new": {"sz": "0.01"}}


def test_closing_realises_what_the_price_moved() -> None:
    account = cast((BTC,))[next(iter(cast((BTC,))))]
    account.settle(BTC, is_buy=True, px=840_000, sz=100_000, is_taker=True)
    settled = account.settle(BTC, is_buy=False, px=841_000, sz=150_000, is_taker=True)
    assert (settled.closed_pnl, settled.direction) == ("100.0", "Long > Short")
    assert account.position(BTC).szi == -50_000
    assert account.position(BTC).entry_ntl == 841_000 * 50_000


@given(start=st.integers(-50, 50), delta=st.integers(-50, 50).filter(bool))
def test_a_direction_names_what_happened_to_the_position(start: int, delta: int) -> None:
    word, end = perp_direction(start, delta), start + delta
    assert word.startswith("Open") == (start * delta >= 0)
    assert (">" in word) == (start * end < 0)
    assert word.startswith("Close") == (start * delta < 0 and start * end >= 0)


@given(scaled=st.integers(-(10**15), 10**15), decimals=st.integers(0, 8))
def test_decimal_text_reads_back(scaled: int, decimals: int) -> None:
    text = decimal_text(scaled, decimals)
    assert Decimal(text) == Decimal(scaled).scaleb(-decimals)
    assert re.fullmatch(r"-?(0|[1-9]\d*)\.(\d|\d*[1-9])", text)


@given(st.sampled_from(listing()), st.floats(1e-4, 1e6))
def test_snapped_prices_are_valid_and_enclose(coin: Coin, px: float) -> None:
    scaled = px * 10**coin.px_decimals
    low, high = coin.snap_down(scaled), coin.snap_up(scaled)
    assert coin.is_valid_px(low)
    assert coin.is_valid_px(high)
    assert low <= max(scaled, low) <= high
    digits = coin.px_text(low).replace(".", "").strip("0")
    assert len(digits) <= 5 or coin.px_text(low).endswith(".0")


@given(px=st.integers(1, 10**9), n_sig_figs=st.integers(2, 5), mantissa=st.sampled_from([1, 2, 5]))
def test_buckets_keep_their_side_of_the_price(px: int, n_sig_figs: int, mantissa: int) -> None:
    low = bucket_px(px, is_buy=True, n_sig_figs=n_sig_figs, mantissa=mantissa)
    high = bucket_px(px, is_buy=False, n_sig_figs=n_sig_figs, mantissa=mantissa)
    assert low <= px <= high


@settings(max_examples=25)
@given(st.integers(2, 5), st.sampled_from([None, 2, 5]), st.integers(0, 40))
def test_grouped_levels_hold_everything(n_sig_figs: int, mantissa: int | None, steps: int) -> None:
    sim = simulator()
    for _ in range(steps + 1):
        sim.step()
    book = sim.exchange.books["BTC"]
    plain = l2_levels(book, count=10_000)
    grouped = l2_levels(
        book, count=10_000, n_sig_figs=n_sig_figs, mantissa=mantissa if n_sig_figs == 5 else None
    )
    for fine, coarse in zip(plain, grouped, strict=True):
        assert sum(Decimal(row["sz"]) for row in fine) == sum(Decimal(row["sz"]) for row in coarse)
        assert sum(row["n"] for row in fine) == sum(row["n"] for row in coarse)
        assert len({row["px"] for row in coarse}) == len(coarse) <= len(fine)


def test_trade_ids_differ() -> None:
    assert len({trade_id(buy, sell) for buy in range(100) for sell in range(100)}) == 10_000
