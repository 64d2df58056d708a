"""Orders kept by changes: every size matches, and what does not fit is counted."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.core.book.l2 import Grouping
from streaming.core.book.l4 import BadDiff, L4Book
from streaming.core.book.statuses import find_details
from streaming.core.decimals import render
from tests.core.node_events import (
    ADA,
    BLOCK_MS,
    NaiveBook,
    diff,
    line,
    new,
    order,
    remove,
    status,
    update,
)

SIZES = st.integers(1, 10**11).map(render)
PRICES = st.one_of(st.integers(1, 50), st.integers(995, 1005)).map(lambda px: f"{px}.5")


@st.composite
def histories(draw) -> list[dict]:
    """Random changes that fit: only orders that rest are updated or removed."""
    events: list[dict] = []
    sizes: dict[int, str] = {}
    for oid in range(1, draw(st.integers(1, 40))):
        side = draw(st.sampled_from("AB"))
        sizes[oid] = draw(SIZES)
        events.append(new(oid, sizes[oid], side=side, px=draw(PRICES)))
        if draw(st.booleans()):
            victim = draw(st.sampled_from(sorted(sizes)))
            if draw(st.booleans()):
                smaller = draw(SIZES)
                events.append(update(victim, sizes[victim], smaller))
                sizes[victim] = smaller
            else:
                del sizes[victim]
                events.append(remove(victim))
            if not sizes:
                break
    return events


def book_of(events: list[dict]) -> L4Book:
    book = L4Book("BTC")
    for event in events:
        book.apply(event, time_ms=BLOCK_MS)
    return book


@given(histories())
def test_changes_agree_with_a_naive_book(events: list[dict]) -> None:
    book, model = book_of(events), NaiveBook()
    for event in events:
        model.apply(event)
    assert not book.faults
    for n_sig_figs, mantissa in [(None, 1), (2, 1), (3, 1), (4, 1), (5, 1), (5, 2), (5, 5)]:
        view = book.l2.view(Grouping(n_sig_figs, mantissa) if n_sig_figs else None)
        for side, ladder in (("B", view.bids), ("A", view.asks)):
            shown = [(render(px), render(sz), n) for px, sz, n in ladder.top(1000)]
            expected = model.levels(side, n_sig_figs=n_sig_figs, mantissa=mantissa)
            assert [(Decimal(px), Decimal(sz), n) for px, sz, n in shown] == expected


@given(histories(), st.integers(0, 60))
def test_snapshot_and_updates_give_the_fresh_snapshot(events: list[dict], cut: int) -> None:
    whole = book_of(events)
    snapshot = orjson.loads(book_of(events[:cut]).json())
    # As a customer would do it: the l4Book levels are a checkpoint's orders.
    book = L4Book("BTC")
    book.load(*snapshot)
    for event in events[cut:]:
        book.apply(event, time_ms=BLOCK_MS)
    assert not book.faults
    assert orjson.loads(book.json()) == orjson.loads(whole.json())
    for grouping in (None, Grouping(2), Grouping(5, 5)):
        ours, theirs = book.l2.view(grouping), whole.l2.view(grouping)
        assert (ours.bids.json(100), ours.asks.json(100)) == (
            theirs.bids.json(100),
            theirs.asks.json(100),
        )


def test_time_priority_survives_a_change_of_size() -> None:
    book = book_of([new(1), new(2), new(3), update(1, "1.0", "0.4"), remove(2), new(4)])
    (bids, asks) = orjson.loads(book.json())
    assert [(bid["oid"], bid["sz"]) for bid in bids] == [(1, "0.4"), (3, "1.0"), (4, "1.0")]
    assert asks == []


def test_both_spellings_of_a_side() -> None:
    book = book_of([new(1, side="Bid"), new(2, side="Ask", px="101.0")])
    assert book.l2.exact.spread() == 100_000_000


def test_update_to_zero_removes_and_a_later_remove_is_no_fault() -> None:
    book = book_of([new(1), update(1, "1.0", "0.0"), remove(1)])
    assert not book.orders
    assert not book.faults


def test_modified_sets_the_size() -> None:
    book = book_of([new(1), diff(1, {"modified": {"sz": "0.25"}})])
    assert render(book.orders[1].sz) == "0.25"


def test_what_does_not_fit_is_counted_and_not_fatal() -> None:
    book = book_of(
        [new(1), update(1, "2.0", "0.5"), update(9, "1.0", "0.5"), remove(8), new(1, "3.0")]
    )
    assert book.faults == Counter(unknown_oid=2, size_mismatch=1, duplicate_new=1)
    assert book.l2.exact.bids.top(5) == [(100 * 10**8, 3 * 10**8, 1)]


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"oid": 1},
        {"oid": "1", "raw_book_diff": "remove"},
        {"oid": True, "raw_book_diff": "remove"},
        diff(1, "vanish"),
        diff(1, {"new": {"sz": 1.0}}),
        diff(1, {"new": {"sz": "1e3"}}),
        diff(1, {"new": {"sz": "-1.0"}}),
        diff(1, {"new": {"sz": "1.0"}, "update": {}}),
        diff(1, {"grow": {"sz": "1.0"}}),
        diff(1, {"new": {"sz": "1.0"}}, side="C"),
        diff(1, {"new": {"sz": "1.0"}}, px="abc"),
        diff(1, {"update": {"newSz": "1.0"}}),
        diff(1, None),
        diff(1, []),
        [],
        "remove",
    ],
)
def test_garbage_is_refused_and_changes_nothing(event) -> None:
    book = book_of([new(7)])
    before = book.json()
    with pytest.raises(BadDiff):
        book.apply(event, time_ms=BLOCK_MS)
    assert book.json() == before


def test_checkpoint_leaves_out_waiting_triggers_and_counts_garbage() -> None:
    book = L4Book("BTC")
    bad = [{"oid": 5}, order(6, "x"), order(1), order(7, isTrigger=True)]
    book.load([{**order(1), "user": ADA}, *bad], [order(2, side="A", px="101.0")])
    assert list(book.orders) == [1, 2]
    assert book.faults["bad_checkpoint_order"] == 3
    (bids, asks) = orjson.loads(book.json())
    assert bids[0]["user"] == ADA
    assert asks[0]["user"] is None


# --- details --------------------------------------------------------------------------------------


def details(events: list[dict], oids: list[int], *, is_streaming: bool = False) -> dict[int, dict]:
    batches = [[event] for event in events] if is_streaming else [events]
    lines = [line(7, batch) for batch in batches]
    found = find_details(lines, oids)
    return {oid: orjson.loads(b"{" + text + b"}") for oid, text in found.items()}


@pytest.mark.parametrize("is_streaming", [False, True])
def test_details_are_found_among_rejections(is_streaming: bool) -> None:
    noise = [status(oid, "badAloPxRejected") for oid in range(100, 130)]
    events = [*noise, status(2, cloid="0xaa"), *noise, status(1, tif="Gtc"), *noise]
    found = details(events, [2, 1, 3], is_streaming=is_streaming)
    assert found.keys() == {1, 2}
    assert found[2]["cloid"] == "0xaa"
    assert found[1]["tif"] == "Gtc"
    assert list(found[1]) == [
        *("timestamp", "triggerCondition", "isTrigger", "triggerPx", "isPositionTpsl"),
        *("reduceOnly", "orderType", "tif", "cloid"),
    ]


def test_order_of_appearance_does_not_matter() -> None:
    events = [status(oid, cloid=hex(oid)) for oid in (5, 3, 4, 1, 2)]
    found = details(events, [1, 2, 3, 4, 5])
    assert {oid: own["cloid"] for oid, own in found.items()} == {
        oid: hex(oid) for oid in range(1, 6)
    }


def test_the_status_that_entered_the_book_counts() -> None:
    events = [status(1, "filled", tif="Ioc"), status(1, "open", tif="Ioc", cloid="0xbb")]
    found = details(events, [1])
    assert found[1]["cloid"] == "0xbb"
    assert found[1]["tif"] == "Gtc"  # what is left and rests


def test_a_triggered_order_rests_like_a_plain_one() -> None:
    triggered = status(
        *(1, "triggered"),
        isTrigger=True,
        triggerPx="99.0",
        triggerCondition="Price below 99",
        tif=None,
        orderType="Stop Market",
    )
    triggered["order"]["timestamp"] = 5
    assert details([triggered], [1])[1] == {
        "timestamp": BLOCK_MS,
        "triggerCondition": "Triggered",
        "isTrigger": False,
        "triggerPx": "0.0",
        "isPositionTpsl": False,
        "reduceOnly": False,
        "orderType": "Stop Market",
        "tif": "Gtc",
        "cloid": None,
    }


def test_a_child_is_not_its_parent() -> None:
    parent = status(1, children=[order(2, children=[]), order(3)])
    parent["builder"] = {"b": {"f": 1}}
    found = details([parent, status(2, "triggered", cloid="0xcc")], [1, 2, 3])
    assert found.keys() == {1, 2}
    assert found[2]["cloid"] == "0xcc"


@given(st.binary(max_size=200))
def test_garbage_statuses_tell_nothing_and_hurt_nothing(noise: bytes) -> None:
    find_details([b'{"time":"' + noise + b'"oid":1,' + noise + b"}}"], [1, 2])
    assert find_details([], [1]) == {}
