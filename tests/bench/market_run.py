"""The worker's own work, without sockets: closed blocks → merge → market → envelopes.

`python -m tests.bench.market_run recorded DIR | made COINS --seconds S` prints one JSON line:
`x_realtime` (block time worked through per second), `blocks_per_s`, `frames_per_block`, `rss_mib`,
`cold_start_s` (checkpoint → books), `gc_pause_ms` (longest), `topics`, `block_rate`.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from streaming.core.blocks import FileKind, RawBlock
from streaming.core.books import build_books
from streaming.core.market import Market
from streaming.core.merge import BlockMerge
from streaming.core.topic import MAX_LEVELS, Kind, Topic
from streaming.hl_gateway.checkpoint import read_checkpoint_file
from streaming.hl_gateway.tail import FileMode, read_directory
from tests.bench import machine
from tests.core.node_events import ADA, BLOCK_MS, diff, line, new, order

#: What mainnet makes; the recording's own rate is taken from its blocks.
MADE_PER_S = 15
#: Of the recording: 1,159 changes and 29,970 statuses in 31 blocks of BTC alone.
STATUSES_PER_CHANGE = 26
#: Book changes in a made block: five times BTC's own.
CHANGES = 190
ORDERS_PER_COIN = 1_000
MADE_BLOCKS = 150

Load = tuple[int, Any, list[RawBlock], float, list[Topic]]


def recorded(folder: Path) -> Load:
    """BTC's recorded blocks with all their statuses."""
    (snapshot,) = folder.glob("l4_snapshot_btc_*.json.gz")
    checkpoint = read_checkpoint_file(snapshot)
    blocks = list(read_directory(folder, mode=FileMode.BY_BLOCK))
    heights = {block.height for block in blocks}
    topics = [
        Topic(Kind.L2_BOOK, "BTC", n_levels=MAX_LEVELS),
        *(Topic(kind, "BTC") for kind in (Kind.BBO, Kind.TRADES, Kind.L4_BOOK)),
    ]
    # 31 blocks in 2.1 s of block time.
    return checkpoint.height, checkpoint.coins, blocks, len(heights) / 14.6, topics


def made(coins: int) -> Load:
    """Blocks of many coins: changes spread unevenly over them, statuses nearly all rejections."""
    source = random.Random(7)
    names = [f"C{number}" for number in range(coins)]
    oids = iter(range(1, 10**12))
    resting: dict[str, list[tuple[int, str, str]]] = {name: [] for name in names}
    book: list[tuple[str, list[Any], list[Any]]] = []
    for name in names:
        sides: dict[str, list[Any]] = {"B": [], "A": []}
        for number in range(ORDERS_PER_COIN):
            oid, side = next(oids), "BA"[number % 2]
            px = _px(side, number // 10)
            sides[side].append(order(oid, side=side, px=px, coin=name))
            resting[name].append((oid, side, px))
        book.append((name, sides["B"], sides["A"]))
    blocks: list[RawBlock] = []
    rejection = order(1, px="1.0") | {"tif": "Alo"}
    for height in range(11, 11 + MADE_BLOCKS):
        time_ms = BLOCK_MS + height * 1000 // MADE_PER_S
        changes, statuses = [], []
        for _ in range(CHANGES):
            name = names[int(coins * source.random() ** 3)]  # a few coins are much busier
            own = resting[name]
            if source.random() < 0.5 and len(own) > 100:
                oid, side, px = own.pop(source.randrange(len(own)))
                changes.append(diff(oid, "remove", side=side, px=px, coin=name))
                continue
            oid, side = next(oids), source.choice("BA")
            px = _px(side, int(100 * source.random() ** 2))
            own.append((oid, side, px))
            changes.append(new(oid, side=side, px=px, coin=name))
            statuses.append(_status(order(oid, side=side, px=px, coin=name), "open", time_ms))
        for number in range(CHANGES * STATUSES_PER_CHANGE):
            refused = rejection | {"oid": 10**12 + number, "coin": names[number % coins]}
            statuses.append(_status(refused, "badAloPxRejected", time_ms))
        for kind, events in ((FileKind.DIFFS, changes), (FileKind.STATUSES, statuses)):
            text = line(height, events, time_ms=time_ms)
            blocks.append(RawBlock(kind, height, [text], 1, height - 1 if height > 11 else None))
    topics = [
        topic
        for name in names
        for topic in (
            Topic(Kind.L2_BOOK, name, n_levels=MAX_LEVELS),
            Topic(Kind.BBO, name),
            Topic(Kind.TRADES, name),
        )
    ]
    checkpoint = [(name, bids, asks) for name, bids, asks in book]
    return 10, checkpoint, blocks, MADE_BLOCKS / MADE_PER_S, topics


def _px(side: str, step: int) -> str:
    return f"{1000 - step if side == 'B' else 1001 + step}.0"


def _status(body: dict[str, Any], name: str, time_ms: int) -> dict[str, Any]:
    head = {"time": "2026-05-05T17:39:13.024084407", "user": ADA, "hash": None, "builder": None}
    return {**head, "status": name, "order": body | {"timestamp": time_ms}}


def run(load: Load, *, seconds: float) -> Iterator[tuple[str, float]]:
    """Work through the blocks again and again, with fresh books each time, for `seconds`."""
    height, coins, blocks, block_time_s, topics = load
    pauses: list[float] = []
    began_gc = [0.0]

    def on_gc(phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            began_gc[0] = time.perf_counter()
        else:
            pauses.append(time.perf_counter() - began_gc[0])

    gc.callbacks.append(on_gc)
    worked_s, rounds, frames, cold_s = 0.0, 0, 0, 0.0
    heights = {block.height for block in blocks}
    while worked_s < seconds:
        market, merge = Market(epoch="bench"), BlockMerge(["node"])
        for topic in topics:
            market.want(topic)
        cold_began_s = time.perf_counter()
        market.load_checkpoint(height, build_books(coins))
        cold_s = time.perf_counter() - cold_began_s
        gc.freeze()  # as the worker does
        pauses.clear()
        began_s = time.perf_counter()
        for block in blocks:
            for out in merge.take("node", block, now_ns=time.monotonic_ns()):
                frames += len(market.apply(out))
        worked_s += time.perf_counter() - began_s
        rounds += 1
        gc.unfreeze()
        if market.faults:
            raise SystemExit(f"the market met faults: {dict(market.faults)}")
    yield "x_realtime", rounds * block_time_s / worked_s
    yield "blocks_per_s", rounds * len(heights) / worked_s
    yield "frames_per_block", frames / rounds / len(heights)
    yield "gc_pause_ms", 1000 * max(pauses, default=0.0)
    yield "cold_start_s", cold_s
    yield "rss_mib", machine.rss_bytes(os.getpid()) / 2**20
    yield "topics", len(topics)
    yield "block_rate", len(heights) / block_time_s


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.market_run")
    parser.add_argument("what", choices=("recorded", "made"))
    parser.add_argument("of", help="folder of the recording, or number of coins")
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()
    load = recorded(Path(options.of)) if options.what == "recorded" else made(int(options.of))
    print(json.dumps(dict(run(load, seconds=options.seconds))), flush=True)


if __name__ == "__main__":
    main()
