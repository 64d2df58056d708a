"""A node as the hop needs it: real-format files at an exact pace, and the `/info` a worker asks.

`python -m tests.bench.node_writer DIR --rate BLOCKS_PER_S [--coins N]` prints the port of its
`/info`, writes until stdin closes and then prints `{block time in ms: CLOCK_MONOTONIC ns before its
diffs' write}`.

A block is as heavy as BTC's share of a recorded mainnet block: 37 book changes, one trade, 950
order statuses (nearly all rejections, half a megabyte), written in the recorded order: fills,
diffs, statuses. Of more coins the first is BTC, and of the others some change in each block, the
quieter the rarer, with statuses at the same ratio: 200 make some 180 changes and 2 MB. The
simulator is no use here: it spends milliseconds in its matching engine before it writes, while this
has every line ready when the block is due.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.bench import machine
from tests.core.node_events import order as node_order

COIN = "BTC"
#: Coin number n of many changes in 6 of n blocks, by so many new orders.
BUSY, NEW_ORDERS_OF_MANY = 6, 3
FIRST_HEIGHT = 985_148_182
#: Block time runs behind the write: 0.3 s at the recorded node.
BEHIND_NS = 300_000_000
BEST_BID, BEST_ASK = 81_308, 81_309
DEPTH_LEVELS = 100
ORDERS_PER_LEVEL = 10
#: New orders a block; as many of the block before are removed, and one changes its size: 37.
NEW_ORDERS = 18
REJECTIONS, CHANGES_OF_ONE = 930, 37
#: Making a block's lines takes 1 ms, of 200 coins up to 14.
PREPARE_NS = 20_000_000
ZERO_HASH = "0x" + "0" * 64
MAKER, TAKER = "0x" + "5e" * 20, "0x" + "16" * 20


class Book:
    """One coin's orders and the events that change them."""

    def __init__(self, coin: str, *, number: int = 0, new_orders: int = NEW_ORDERS) -> None:
        self.coin = coin
        self._new_orders = new_orders
        self._orders: dict[int, dict[str, Any]] = {}
        self._next_oid = 412_036_000_000 + number * 1_000_000_000
        for level in range(DEPTH_LEVELS):
            for _ in range(ORDERS_PER_LEVEL):
                self._rest("B", BEST_BID - level, "0.5", time_ms=0)
                self._rest("A", BEST_ASK + level, "0.5", time_ms=0)
        self._changing = next(iter(self._orders))
        self._recent: list[int] = []

    def change(self, height: int, *, block_ns: int) -> tuple[str, list[str], list[str]]:
        """A block's trade, book changes and accepted orders, applied."""
        time_ms = block_ns // 1_000_000
        diffs = [self._resize(height)]
        diffs += [self._diff(self._orders.pop(oid), '"remove"') for oid in self._recent]
        self._recent, statuses = [], []
        for i in range(self._new_orders):
            side = "BA"[i % 2]
            px = BEST_BID - i // 2 if side == "B" else BEST_ASK + i // 2
            order = self._rest(side, px, f"0.{height % 900 + 100}1", time_ms=time_ms)
            self._recent.append(order["oid"])
            diffs.append(self._diff(order, f'{{"new":{{"sz":"{order["sz"]}"}}}}'))
            statuses.append(_status(order, _iso(block_ns)))
        return self._trade(height, time_ms), diffs, statuses

    def sides(self) -> list[list[Any]]:
        """Bids and asks with users, best first."""
        sides: dict[str, list[Any]] = {"B": [], "A": []}
        for order in self._orders.values():
            sides[order["side"]].append([MAKER, dict(order)])
        sides["B"].sort(key=lambda entry: -float(entry[1]["limitPx"]))
        sides["A"].sort(key=lambda entry: float(entry[1]["limitPx"]))
        return [sides["B"], sides["A"]]

    def _rest(self, side: str, px: int, sz: str, *, time_ms: int) -> dict[str, Any]:
        self._next_oid += 1
        oid = self._next_oid
        order = node_order(
            oid,
            sz,
            side=side,
            px=f"{px}.0",
            coin=self.coin,
            timestamp=time_ms,
            cloid=f"0x{oid:032x}",
        )
        self._orders[self._next_oid] = order
        return order

    def _resize(self, height: int) -> str:
        order = self._orders[self._changing]
        old, order["sz"] = order["sz"], f"0.{height % 8_999 + 1_000}1"
        return self._diff(order, f'{{"update":{{"origSz":"{old}","newSz":"{order["sz"]}"}}}}')

    def _diff(self, order: dict[str, Any], change: str) -> str:
        return (
            f'{{"user":"{MAKER}","oid":{order["oid"]},"coin":"{self.coin}","side":"{order["side"]}",'
            f'"px":"{order["limitPx"]}","raw_book_diff":{change}}}'
        )

    def _trade(self, height: int, time_ms: int) -> str:
        def side(user: str, letter: str, *, is_taker: bool) -> str:
            fill = {
                "coin": self.coin,
                "px": f"{BEST_ASK}.0",
                "sz": "0.00033",
                "side": letter,
                "time": time_ms,
                "startPosition": "0.20486",
                "dir": "Open Long" if letter == "B" else "Open Short",
                "closedPnl": "0.0",
                "hash": ZERO_HASH,
                "oid": self._changing + is_taker,
                "crossed": is_taker,
                "fee": "0.010866",
                "tid": 316_000_000_000_000 + height,
                "feeToken": "USDC",
                "twapId": None,
            }
            return json.dumps([user, fill], separators=(",", ":"))

        return side(TAKER, "B", is_taker=True) + "," + side(MAKER, "A", is_taker=False)


class Node:
    """The books of some coins and the lines that change them.

    `block()` is called by one thread, `checkpoint()` by another.
    """

    def __init__(self, coins: int = 1) -> None:
        self.height = FIRST_HEIGHT - 1
        self._lock = threading.Lock()
        self._chance = random.Random(coins)
        self._books = [Book(COIN)] + [
            Book(f"C{number - 1}", number=number, new_orders=NEW_ORDERS_OF_MANY)
            for number in range(1, coins)
        ]
        self._rejection = _rejection(REJECTIONS)

    @property
    def coins(self) -> list[str]:
        """Their names."""
        return [book.coin for book in self._books]

    def block(self, *, block_ns: int, written_ns: int) -> tuple[bytes, bytes, bytes]:
        """The next block's lines of fills, diffs and statuses, applied to the books. Times: UTC."""
        with self._lock:
            self.height += 1
            trades, diffs, statuses = [], [], []
            for number, book in enumerate(self._books):
                if number and self._chance.random() * number > BUSY:
                    continue
                trade, changes, opened = book.change(self.height, block_ns=block_ns)
                trades.append(trade)
                diffs += changes
                statuses += opened
        if len(self._books) > 1:
            statuses += [self._rejection] * (len(diffs) // CHANGES_OF_ONE)
        else:
            statuses.append(self._rejection)
        times = f'"local_time":"{_iso(written_ns)}","block_time":"{_iso(block_ns)}"'
        head = f'{{{times},"block_number":{self.height},"events":['
        fills, changed, told = (
            f"{head}{','.join(events)}]}}\n".encode() for events in (trades, diffs, statuses)
        )
        return fills, changed, told

    def checkpoint(self) -> list[Any]:
        """What `fileSnapshot` writes with users and height: `[height, [[coin, [bids, asks]]]]`."""
        with self._lock:
            return [self.height, [[book.coin, book.sides()] for book in self._books]]


def _status(order: dict[str, Any], block_time: str) -> str:
    status = {
        "time": block_time,
        "user": MAKER,
        "hash": ZERO_HASH,
        "builder": None,
        "status": "open",
        "order": order,
    }
    return json.dumps(status, separators=(",", ":"))


def _rejection(count: int) -> str:
    """So many refused orders of as many users."""
    texts = []
    for number in range(count):
        oid = 411_000_000_000 + number
        refused = node_order(
            oid, "0.0003", side="A", px="65045.0", coin=COIN, timestamp=1_778_002_753_024,
            cloid=f"0x{oid:032x}",
        )  # fmt: skip
        text = _status(refused, "2026-05-05T17:39:13.024084407")
        text = text.replace(f'"{ZERO_HASH}"', "null", 1).replace('"open"', '"badAloPxRejected"', 1)
        texts.append(text.replace(MAKER, f"0x{number:040x}", 1))
    return ",".join(texts)


def _iso(time_ns: int) -> str:
    """A node's way to write a time: UTC without a zone, nanoseconds."""
    seconds, ns = divmod(time_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ns:09d}"


class Files:
    """The three hourly files, appended to without a buffer."""

    KINDS = ("node_fills_by_block", "node_raw_book_diffs_by_block", "node_order_statuses_by_block")

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._hour = ""
        self._files: list[Any] = []

    def at(self, written_ns: int) -> list[Any]:
        """Fills, diffs and statuses of that hour, open for appending."""
        written = datetime.fromtimestamp(written_ns / 1e9, UTC)
        hour = f"{written:%Y%m%d}/{written.hour}"
        if hour != self._hour:
            self.close()
            self._hour = hour
            for kind in self.KINDS:
                path = self._folder / kind / "hourly" / hour
                path.parent.mkdir(parents=True, exist_ok=True)
                self._files.append(path.open("ab", buffering=0))
        return self._files

    def close(self) -> None:
        """Close them."""
        for file in self._files:
            file.close()
        self._files = []


class Info(BaseHTTPRequestHandler):
    """The requests a worker makes of a node's `/info`."""

    node: Node
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer one request; a type that is not known here gets 422, as at a node."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        match body.get("type"):
            case "fileSnapshot":
                Path(body["outPath"]).write_text(
                    json.dumps(self.node.checkpoint()), encoding="ascii"
                )
                self._answer(200, None)
            case "meta":
                named = [{"name": c, "szDecimals": 5, "maxLeverage": 40} for c in self.node.coins]
                self._answer(200, {"universe": named if "dex" not in body else []})
            case "spotMeta":
                self._answer(200, {"tokens": [], "universe": []})
            case "perpDexs":
                self._answer(200, [None])
            case "exchangeStatus":
                self._answer(200, {"time": time.time_ns() // 1_000_000, "specialStatuses": None})
            case _:
                self._answer(422, "Failed to deserialize the JSON body into the target type")

    def _answer(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def write(
    node: Node, folder: Path, *, rate: float, ended: threading.Event
) -> Iterator[tuple[int, int]]:
    """Write a block every `1/rate` s until `ended`.

    Gives for each its block time in ms and the CLOCK_MONOTONIC ns just before its diffs' write.
    """
    files = Files(folder)
    start_ns = time.monotonic_ns()
    number, last_block_ns = 0, 0
    while not ended.is_set():
        number += 1
        due_ns = start_ns + int(number * 1e9 / rate)
        _sleep_until(due_ns - PREPARE_NS)
        written_ns = time.time_ns()
        # Frames are told apart by their block time, so no two blocks may share a millisecond.
        block_ns = max(written_ns - BEHIND_NS, last_block_ns + 1_000_000)
        last_block_ns = block_ns
        fills_line, diffs_line, statuses_line = node.block(block_ns=block_ns, written_ns=written_ns)
        fills, diffs, statuses = files.at(written_ns)
        _sleep_until(due_ns)
        fills.write(fills_line)
        stamp_ns = time.monotonic_ns()
        diffs.write(diffs_line)
        statuses.write(statuses_line)
        yield block_ns // 1_000_000, stamp_ns
    files.close()


def _sleep_until(due_ns: int) -> None:
    left_ns = due_ns - time.monotonic_ns()
    if left_ns > 0:
        time.sleep(left_ns / 1e9)


def main() -> None:
    """Serve `/info` and write blocks until stdin closes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--coins", type=int, default=1)
    options = parser.parse_args()

    node = Node(options.coins)
    handler = type("NodeInfo", (Info,), {"node": node})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    ended = threading.Event()

    def wait_for_end() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    print(server.server_address[1], flush=True)
    machine.sleep_precisely()
    gc.freeze()
    gc.disable()
    stamps = dict(write(node, options.folder, rate=options.rate, ended=ended))
    print(json.dumps(stamps), flush=True)


if __name__ == "__main__":
    main()
