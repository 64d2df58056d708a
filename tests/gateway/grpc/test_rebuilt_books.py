"""Books kept of another provider's changes are its whole books: the relay with the simulator."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import grpc
import pytest

from tests.gateway.grpc.tables import QUICKNODE, classes
from tests.support.edge import DEADLINE_S

QN = classes("hyperliquid", QUICKNODE)
pytestmark = pytest.mark.relay

#: Blocks that are compared, of each call.
BLOCKS = 30
Side = dict[Decimal, tuple[Decimal, int]]
Book = tuple[Side, Side]


@pytest.fixture
def channel(relay: dict[str, Any]) -> Iterator[grpc.Channel]:
    options = [("grpc.max_receive_message_length", 100 * 1024 * 1024)]
    with grpc.insecure_channel(relay["grpc"], options=options) as channel:
        yield channel


class Ask:
    """Calls of `OrderBookStreaming`, read by threads of their own, so that none is slow."""

    def __init__(self, relay: dict[str, Any], channel: grpc.Channel) -> None:
        self._metadata = (("x-token", relay["api_key"]),)
        self._channel = channel
        self._calls: list[Any] = []

    def __call__(self, method: str, request: Any, response: str) -> queue.SimpleQueue[Any]:
        call = self._channel.unary_stream(
            f"/hyperliquid.OrderBookStreaming/{method}",
            request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=QN[response].FromString,
        )(request, metadata=self._metadata, timeout=DEADLINE_S)
        self._calls.append(call)
        got: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def read() -> None:
            try:
                for message in call:
                    got.put(message)
            except grpc.RpcError as error:
                got.put(error)

        threading.Thread(target=read, daemon=True).start()
        return got

    def close(self) -> None:
        """End all."""
        for call in self._calls:
            call.cancel()


@pytest.fixture
def ask(relay: dict[str, Any], channel: grpc.Channel) -> Iterator[Ask]:
    made = Ask(relay, channel)
    yield made
    made.close()


def take(got: queue.SimpleQueue[Any]) -> Any:
    message = got.get(timeout=DEADLINE_S)
    assert not isinstance(message, grpc.RpcError), message
    return message


def side_of(levels: Any) -> Side:
    return {Decimal(level.px): (Decimal(level.sz), level.n) for level in levels}


def whole_books(got: queue.SimpleQueue[Any]) -> dict[int, Book]:
    """The books of some blocks, by height."""
    books = (take(got) for _ in range(BLOCKS))
    return {book.block_number: (side_of(book.bids), side_of(book.asks)) for book in books}


def put(side: Side, levels: Any) -> None:
    for level in levels:
        if level.sz == "0":
            del side[Decimal(level.px)]
        else:
            side[Decimal(level.px)] = (Decimal(level.sz), level.n)


@pytest.mark.parametrize(
    "form", [{}, {"n_levels": 5}, {"n_levels": 100, "n_sig_figs": 5, "mantissa": 2}]
)
def test_levels(ask: Ask, form: dict[str, int]) -> None:
    coins = ["BTC", "ETH"]
    diffs = ask(
        "StreamL2BookDiff", QN["L2BookDiffRequest"](coins=coins, **form), "L2BookDiffUpdate"
    )
    whole = {
        coin: ask("StreamL2Book", QN["L2BookRequest"](coin=coin, **form), "L2BookUpdate")
        for coin in coins
    }
    books = {coin: whole_books(whole[coin]) for coin in coins}
    last = max(max(heights) for heights in books.values())
    kept: dict[str, Book] = {}
    rebuilt: dict[str, dict[int, Book]] = {coin: {} for coin in coins}
    seqs = dict.fromkeys(coins, 0)
    until_s = time.monotonic() + DEADLINE_S
    height = 0
    while height <= last:
        assert time.monotonic() < until_s
        message = take(diffs)
        # One message a block; what opens may stand at a block whose changes came before.
        assert message.height > height or message.snapshot
        height = message.height
        for diff in message.diffs:
            coin = diff.coin
            assert (diff.prev_seq, diff.seq) == (seqs[coin], seqs[coin] + 1)
            seqs[coin] = diff.seq
            if diff.snapshot:
                kept[coin] = ({}, {})
            for side, levels in zip(kept[coin], (diff.bids, diff.asks), strict=True):
                put(side, levels)
            rebuilt[coin][height] = (dict(kept[coin][0]), dict(kept[coin][1]))
    for coin in coins:
        known = sorted(rebuilt[coin])
        compared = 0
        for height, book in books[coin].items():
            before = [h for h in known if h <= height]
            if before:  # its first snapshot came later otherwise
                assert rebuilt[coin][before[-1]] == book, (coin, height)
                compared += 1
        assert compared > BLOCKS // 2


def test_orders(ask: Ask) -> None:
    updates = ask("StreamL4BookUpdates", QN["L4BookUpdatesRequest"](coins=["ETH"]),
                  "L4BookUpdatesUpdate")  # fmt: skip
    request = QN["L2BookRequest"](coin="ETH", n_levels=100)
    books = whole_books(ask("StreamL2Book", request, "L2BookUpdate"))
    last = max(books)
    orders: dict[int, tuple[str, str, str]] = {}
    rebuilt: dict[int, Book] = {}
    height = 0
    while height <= last:
        message = take(updates)
        assert message.height > height
        height = message.height
        if message.snapshot:
            orders.clear()
        for diff in message.diffs:
            assert (diff.coin, diff.side in ("A", "B"), bool(diff.user)) == ("ETH", True, True)
            if diff.diff_type == 3:
                del orders[diff.oid]
            else:
                assert (diff.diff_type == 2) == (diff.oid in orders)
                orders[diff.oid] = (diff.side, diff.px, diff.sz)
        if height in books or not rebuilt:
            sides: Book = ({}, {})
            for name, px, sz in orders.values():
                side = sides[name == "A"]
                size, n = side.get(Decimal(px), (Decimal(0), 0))
                side[Decimal(px)] = (size + Decimal(sz), n + 1)
            rebuilt[height] = sides
    compared = rebuilt.keys() & books.keys()
    assert len(compared) > BLOCKS // 2
    for height in compared:
        for side, told, is_bid in zip(rebuilt[height], books[height], (True, False), strict=True):
            best = sorted(side, reverse=is_bid)[:100]
            assert {px: side[px] for px in best} == told, height


def test_best_prices_of_all_coins(ask: Ask) -> None:
    got = ask("StreamBboBook", QN["BboBookRequest"](), "BboBookUpdate")
    until_s = time.monotonic() + DEADLINE_S
    last: dict[str, tuple[Any, Any]] = {}
    changes = 0
    while changes < 2 * BLOCKS:
        assert time.monotonic() < until_s
        update = take(got)
        best = (update.bid.SerializeToString(), update.ask.SerializeToString())
        assert last.get(update.coin) != best
        changes += update.coin in last
        last[update.coin] = best
    assert {"BTC", "ETH"} < last.keys()


def test_orders_of_all_coins(ask: Ask) -> None:
    got = ask("StreamL4BookUpdates", QN["L4BookUpdatesRequest"](), "L4BookUpdatesUpdate")
    until_s = time.monotonic() + DEADLINE_S
    orders: dict[str, set[int]] = {}
    snapshots = of_several = height = 0
    while of_several < BLOCKS:
        assert time.monotonic() < until_s
        message = take(got)
        snapshots += message.snapshot
        coins = {diff.coin for diff in message.diffs}
        of_several += len(coins) > 1
        for diff in message.diffs:
            known = orders.setdefault(diff.coin, set())
            assert (diff.diff_type != 1) == (diff.oid in known)
            if diff.diff_type == 1:
                known.add(diff.oid)
            elif diff.diff_type == 3:
                known.remove(diff.oid)
        if len(coins) > 1:
            assert message.height > height  # one message a block
            height = message.height
    assert snapshots == 1
