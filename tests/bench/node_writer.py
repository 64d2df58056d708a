"""A node as the hop needs it: real-format files at an exact pace, and the `/info` a worker asks.

`python -m tests.bench.node_writer DIR --rate BLOCKS_PER_S` prints the port of its `/info`, writes
until stdin closes and then prints `{block time in ms: CLOCK_MONOTONIC ns before its diffs' write}`.

A block is as heavy as BTC's share of a recorded mainnet block: 37 book changes, one trade, 950
order statuses (nearly all rejections, half a megabyte), written in the recorded order: fills,
diffs, statuses. The simulator is no use here: it spends milliseconds in its matching engine before
it writes, while this has every line ready when the block is due.
"""

from __future__ import annotations

import argparse
import gc
import json
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
FIRST_HEIGHT = 985_148_182
#: Block time runs behind the write: 0.3 s at the recorded node.
BEHIND_NS = 300_000_000
BEST_BID, BEST_ASK = 81_308, 81_309
DEPTH_LEVELS = 100
ORDERS_PER_LEVEL = 10
#: New orders a block; as many of the block before are removed, and one changes its size: 37.
NEW_ORDERS = 18
REJECTIONS = 930
#: Making a block's lines takes 1 ms.
PREPARE_NS = 3_000_000
ZERO_HASH = "0x" + "0" * 64
MAKER, TAKER = "0x" + "5e" * 20, "0x" + "16" * 20


class Node:
    """One coin's book and the lines that change it.

    `block()` is called by one thread, `checkpoint()` by another.
    """

    def __init__(self) -> None:
        self.height = FIRST_HEIGHT - 1
        self._lock = threading.Lock()
        self._orders: dict[int, dict[str, Any]] = {}
        self._next_oid = 412_036_000_000
        for level in range(DEPTH_LEVELS):
            for _ in range(ORDERS_PER_LEVEL):
                self._rest("B", BEST_BID - level, "0.5", time_ms=0)
                self._rest("A", BEST_ASK + level, "0.5", time_ms=0)
        self._changing = next(iter(self._orders))
        self._recent: list[int] = []
        self._rejections = "".join("," + self._rejection(i) for i in range(REJECTIONS))

    def block(self, *, block_ns: int, written_ns: int) -> tuple[bytes, bytes, bytes]:
        """The next block's lines of fills, diffs and statuses, applied to the book. Times: UTC."""
        with self._lock:
            self.height += 1
            time_ms = block_ns // 1_000_000
            diffs = [self._resize()]
            diffs += [self._diff(self._orders.pop(oid), '"remove"') for oid in self._recent]
            self._recent, statuses = [], []
            for i in range(NEW_ORDERS):
                side = "BA"[i % 2]
                px = BEST_BID - i // 2 if side == "B" else BEST_ASK + i // 2
                order = self._rest(side, px, f"0.{self.height % 900 + 100}1", time_ms=time_ms)
                self._recent.append(order["oid"])
                diffs.append(self._diff(order, f'{{"new":{{"sz":"{order["sz"]}"}}}}'))
                statuses.append(self._status(order, _iso(block_ns)))
        times = f'"local_time":"{_iso(written_ns)}","block_time":"{_iso(block_ns)}"'
        head = f'{{{times},"block_number":{self.height},"events":['
        return (
            f"{head}{self._trade(time_ms)}]}}\n".encode(),
            f"{head}{','.join(diffs)}]}}\n".encode(),
            f"{head}{','.join(statuses)}{self._rejections}]}}\n".encode(),
        )

    def checkpoint(self) -> list[Any]:
        """What `fileSnapshot` writes with users and height: `[height, [[coin, [bids, asks]]]]`."""
        with self._lock:
            sides: dict[str, list[Any]] = {"B": [], "A": []}
            for order in self._orders.values():
                sides[order["side"]].append([MAKER, dict(order)])
            sides["B"].sort(key=lambda entry: -float(entry[1]["limitPx"]))
            sides["A"].sort(key=lambda entry: float(entry[1]["limitPx"]))
            return [self.height, [[COIN, [sides["B"], sides["A"]]]]]

    def _rest(self, side: str, px: int, sz: str, *, time_ms: int) -> dict[str, Any]:
        self._next_oid += 1
        oid = self._next_oid
        order = node_order(
            oid, sz, side=side, px=f"{px}.0", coin=COIN, timestamp=time_ms, cloid=f"0x{oid:032x}"
        )
        self._orders[self._next_oid] = order
        return order

    def _resize(self) -> str:
        order = self._orders[self._changing]
        old, order["sz"] = order["sz"], f"0.{self.height % 8_999 + 1_000}1"
        return self._diff(order, f'{{"update":{{"origSz":"{old}","newSz":"{order["sz"]}"}}}}')

    def _diff(self, order: dict[str, Any], change: str) -> str:
        return (
            f'{{"user":"{MAKER}","oid":{order["oid"]},"coin":"{COIN}","side":"{order["side"]}",'
            f'"px":"{order["limitPx"]}","raw_book_diff":{change}}}'
        )

    def _status(self, order: dict[str, Any], block_time: str) -> str:
        status = {
            "time": block_time,
            "user": MAKER,
            "hash": ZERO_HASH,
            "builder": None,
            "status": "open",
            "order": order,
        }
        return json.dumps(status, separators=(",", ":"))

    def _rejection(self, number: int) -> str:
        order = self._rest("A", 65_045, "0.0003", time_ms=1_778_002_753_024)
        del self._orders[order["oid"]]
        text = self._status(order, "2026-05-05T17:39:13.024084407")
        text = text.replace(f'"{ZERO_HASH}"', "null", 1).replace('"open"', '"badAloPxRejected"', 1)
        return text.replace(MAKER, f"0x{number:040x}", 1)

    def _trade(self, time_ms: int) -> str:
        def side(user: str, letter: str, *, is_taker: bool) -> str:
            fill = {
                "coin": COIN,
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
                "tid": 316_000_000_000_000 + self.height,
                "feeToken": "USDC",
                "twapId": None,
            }
            return json.dumps([user, fill], separators=(",", ":"))

        return side(TAKER, "B", is_taker=True) + "," + side(MAKER, "A", is_taker=False)


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
                coin = {"name": COIN, "szDecimals": 5, "maxLeverage": 40}
                self._answer(200, {"universe": [coin] if "dex" not in body else []})
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
    options = parser.parse_args()

    node = Node()
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
