"""Recorded blocks of a node: a book kept of the changes is the whole book, block by block."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson

from gateway.grpc.book_changes import Levels, Orders
from gateway.grpc.generated.hyperliquid import streaming_pb2 as pb
from gateway.grpc.packed import Packed
from streaming.core.blocks import FileKind
from streaming.core.counted import counted_of
from streaming.core.envelope import ORIGIN, Envelope
from streaming.core.market import Market
from streaming.core.streams import Parts, RelayFrame
from streaming.core.topic import Kind, Topic
from streaming.hl_gateway.checkpoint import read_checkpoint_file
from streaming.hl_gateway.tail import FileMode, read_directory

BOOK = Topic(Kind.L2_BOOK, "BTC", n_levels=100)
L2 = Topic(Kind.L2_DIFF, "BTC", n_levels=100)
L4 = Topic(Kind.L4_DIFF, "BTC")
Side = dict[float, tuple[float, int]]


def frame(topic: Topic, envelope: Envelope) -> RelayFrame:
    parts = Parts(
        envelope.payload, topic, epoch="n-1", position=envelope.position, times=envelope.times
    )
    subscription = SimpleNamespace(era=SimpleNamespace(seq=0, order=0))
    stream: Any = SimpleNamespace(is_numbered=False, slot=None, subscription=subscription)
    counted = counted_of(topic)
    return RelayFrame(
        stream, parts, cursor=b"", marks=0, counted=counted, after=ORIGIN, made_s=None
    )


async def message(writing: Packed, topic: Topic, envelope: Envelope) -> bytes:
    (made,) = writing.write([frame(topic, envelope)]).messages
    return made if isinstance(made, bytes) else await made


def put(side: Side, levels: Any) -> None:
    for level in levels:
        if level.n:
            side[float(level.px)] = (float(level.sz), level.n)
        else:
            assert level.sz == "0"
            del side[float(level.px)]


def of_orders(orders: dict[int, tuple[str, float, float]], name: str) -> Side:
    side: Side = {}
    for own, px, sz in orders.values():
        if own == name:
            size, n = side.get(px, (0.0, 0))
            side[px] = (round(size + sz, 8), n + 1)
    best = sorted(side, reverse=name == "B")[:100]
    return {px: side[px] for px in best}


def test_recorded_blocks(test_data: Path) -> None:
    folder = test_data / "node"
    height, books = read_checkpoint_file(folder / "l4_snapshot_btc_height_985148181.json.gz")
    market = Market(epoch="n-1")
    for topic in (BOOK, L2, L4):
        market.want(topic)
    market.load_checkpoint(height, books)
    told = [market.snapshot(topic) for topic in (BOOK, L2, L4)]
    kinds = [FileKind.DIFFS, FileKind.STATUSES]
    for block in read_directory(folder, mode=FileMode.BY_BLOCK, kinds=kinds):
        told += market.apply(block)
    told += market.finish()
    of = {
        topic: [envelope for envelope in told if envelope.topic == topic.name]
        for topic in (BOOK, L2, L4)
    }
    want = {}
    for envelope in of[BOOK]:
        levels = orjson.loads(envelope.payload)["data"]["levels"]
        want[envelope.position.height] = tuple(
            {float(row["px"]): (float(row["sz"]), row["n"]) for row in side} for side in levels
        )
    assert len(want) == 31

    async def compare() -> None:
        kept: tuple[Side, Side] = ({}, {})
        levels = Levels()
        for envelope in of[L2]:
            got = pb.L2BookDiffUpdate.FromString(await message(levels.writing, L2, envelope))
            (diff,) = got.diffs
            for side, changed in zip(kept, (diff.bids, diff.asks), strict=True):
                put(side, changed)
            assert kept == want[got.height]
        orders: dict[int, tuple[str, float, float]] = {}
        calls = Orders()
        for envelope in of[L4]:
            update = pb.L4BookUpdatesUpdate.FromString(await message(calls.writing, L4, envelope))
            for change in update.diffs:
                if change.diff_type == pb.L4_ORDER_DIFF_TYPE_REMOVE:
                    del orders[change.oid]
                else:
                    is_known = change.diff_type == pb.L4_ORDER_DIFF_TYPE_UPDATE
                    assert is_known == (change.oid in orders)
                    orders[change.oid] = (change.side, float(change.px), float(change.sz))
            assert (of_orders(orders, "B"), of_orders(orders, "A")) == want[update.height]

    assert len(of[L2]) == len(of[L4]) == 31
    asyncio.run(compare())
