"""Levels kept by changes are the levels computed from scratch."""

from __future__ import annotations

from collections import defaultdict

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.core.book.l2 import Best, Grouping, L2Book, Ladder, View
from streaming.core.decimals import parse, render

GROUPINGS = [None, *(Grouping(n) for n in (2, 3, 4, 5)), Grouping(5, 2), Grouping(5, 5)]

# Prices around a change of digits, where buckets change their width, and tiny ones.
PRICES = st.one_of(
    st.integers(99_000, 101_000).map(lambda px: px * 10**8),
    st.integers(999_500, 1_000_500).map(lambda px: px * 10**4),
    st.integers(1, 2_000),
)
ORDERS = st.lists(st.tuples(st.booleans(), PRICES, st.integers(1, 10**12)), min_size=1, max_size=60)


def naive(
    orders: list[tuple[bool, int, int]], *, is_bid: bool, grouping: Grouping | None
) -> list[tuple[int, int, int]]:
    levels: dict[int, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for own_side, px, sz in orders:
        if own_side is is_bid:
            shown = px if grouping is None else grouping.bucket(px, is_bid=is_bid)
            total, n = levels[shown]
            levels[shown] = (total + sz, n + 1)
    return [(px, *levels[px]) for px in sorted(levels, reverse=is_bid)]


def side(view: View, *, is_bid: bool) -> Ladder:
    return view.bids if is_bid else view.asks


@given(ORDERS, st.randoms(use_true_random=False), st.data())
def test_every_view_kept_by_changes_equals_a_fresh_one(orders, random, data) -> None:
    book = L2Book()
    views = {}
    resting: list[tuple[bool, int, int]] = []
    for order in orders:
        if len(views) < len(GROUPINGS) and data.draw(st.booleans()):
            grouping = GROUPINGS[len(views)]
            views[grouping] = book.view(grouping)
        is_bid, px, sz = order
        book.shift(px, sz, 1, is_bid=is_bid)
        resting.append(order)
        if random.random() < 0.4:
            is_bid, px, sz = resting.pop(random.randrange(len(resting)))
            book.shift(px, -sz, -1, is_bid=is_bid)
    for grouping in GROUPINGS:
        view = views.get(grouping) or book.view(grouping)
        for is_bid in (True, False):
            expected = naive(resting, is_bid=is_bid, grouping=grouping)
            ladder = side(view, is_bid=is_bid)
            assert ladder.top(1000) == expected
            assert ladder.top(5) == expected[:5]
            assert ladder.best() == (Best(*expected[0]) if expected else None)
            rendered = orjson.loads(b"[" + ladder.json(20) + b"]")
            assert rendered == [
                {"px": render(px), "sz": render(sz), "n": n} for px, sz, n in expected[:20]
            ]


def test_json_follows_every_change() -> None:
    ladder = Ladder(is_bid=False)
    ladder.shift(parse("81308.0"), parse("6.08"), 1)
    assert ladder.json(20) == b'{"px":"81308.0","sz":"6.08","n":1}'
    ladder.shift(parse("81308.0"), parse("0.02"), 1)
    assert ladder.best_json() == b'{"px":"81308.0","sz":"6.1","n":2}'
    ladder.shift(parse("81308.0"), -parse("6.1"), -2)
    assert ladder.best_json() == b"null"
    assert ladder.json(20) == b""
    assert len(ladder) == 0


@pytest.mark.parametrize(
    ("px", "grouping", "bid", "ask"),
    [
        ("81308.5", Grouping(5), "81308.0", "81309.0"),
        ("81308.5", Grouping(5, 5), "81305.0", "81310.0"),
        ("81308.5", Grouping(5, 2), "81308.0", "81310.0"),
        ("81308.5", Grouping(2), "81000.0", "82000.0"),
        ("99999.5", Grouping(5), "99999.0", "100000.0"),
        ("123456.0", Grouping(5), "123450.0", "123460.0"),
        ("0.0012345", Grouping(3), "0.00123", "0.00124"),
        ("0.00000012", Grouping(5), "0.00000012", "0.00000012"),
        ("100.0", Grouping(2), "100.0", "100.0"),
    ],
)
def test_buckets_round_away_from_the_spread(px, grouping, bid, ask) -> None:
    assert render(grouping.bucket(parse(px), is_bid=True)) == bid
    assert render(grouping.bucket(parse(px), is_bid=False)) == ask


def test_spread_needs_both_sides() -> None:
    book = L2Book()
    assert book.exact.spread() is None
    book.shift(100, 1, 1, is_bid=True)
    book.shift(130, 1, 1, is_bid=False)
    assert book.exact.spread() == 30


def test_a_dropped_view_costs_nothing_and_comes_back_whole() -> None:
    book = L2Book()
    grouping = Grouping(2)
    book.view(grouping)
    book.drop(grouping)
    book.shift(parse("123.0"), 5, 1, is_bid=True)
    assert book.view(grouping).bids.top(1) == [(parse("120.0"), 5, 1)]
