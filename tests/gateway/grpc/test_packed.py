"""Packing changes nothing but the number of messages: order, content and what is metered stay."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.grpc.book_changes import Levels
from gateway.grpc.generated.hyperliquid import streaming_pb2 as pb
from gateway.grpc.l4_snapshot import changes
from streaming.core.counted import counted_of
from streaming.core.envelope import Position, Times
from streaming.core.streams import Parts, RelayFrame
from streaming.core.topic import Kind, Topic

COINS = ("AAA", "BBB", "CCC")
frames = st.lists(
    st.tuples(st.sampled_from(COINS), st.integers(0, 2), st.booleans()), max_size=30
)  # of a coin, so many blocks later, a snapshot


def frame(coin: str, height: int, *, is_snapshot: bool) -> RelayFrame:
    flag = b',"snapshot":true' if is_snapshot else b""
    rows = b'{"px":"%d","sz":"1.0","n":1}' % height
    payload = b'{"channel":"l2Diff","data":{"coin":"%b","time":%d,"height":%d,' % (
        coin.encode(), height * 100, height,
    ) + b'"levels":[[%b],[]]%b}}' % (rows, flag)  # fmt: skip
    topic = Topic(Kind.L2_DIFF, coin)
    parts = Parts(payload, topic, epoch="n-1", position=Position(height), times=Times())
    era = SimpleNamespace(seq=0, order=0)
    stream: Any = SimpleNamespace(
        is_numbered=False, slot=None, subscription=SimpleNamespace(era=era)
    )
    return RelayFrame(
        stream, parts, cursor=b"", marks=0, counted=counted_of(topic),
        after=Position(height - 1), made_s=None,
    )  # fmt: skip


@given(frames, st.lists(st.integers(1, 30), max_size=5))
def test_a_block_that_leaves_at_once_is_one_message(
    told: list[tuple[str, int, bool]], cuts: list[int]
) -> None:
    height, items = 1, []
    for coin, later, is_snapshot in told:
        height += later
        items.append(frame(coin, height, is_snapshot=is_snapshot))
    want = [(f.parts.topic.coin, f.parts.position.height) for f in items]
    levels = Levels().writing
    got: list[tuple[str, int]] = []
    seqs = dict.fromkeys(COINS, 0)
    left = list(items)
    for size in [*cuts, len(items)]:
        taken, left = left[:size], left[size:]
        written = levels.write(taken)
        messages = [pb.L2BookDiffUpdate.FromString(m) for m in written.messages]  # type: ignore[arg-type]
        keys = [(m.height, m.snapshot) for m in messages]
        assert all(a != b for a, b in pairwise(keys))
        for message in messages:
            assert message.time == message.height * 100
            for diff in message.diffs:
                assert diff.snapshot == message.snapshot
                assert (diff.prev_seq, diff.seq) == (seqs[diff.coin], seqs[diff.coin] + 1)
                seqs[diff.coin] = diff.seq
                got.append((diff.coin, message.height))
        assert sum(count for _, count, _ in written.tally) == len(taken)
        assert sum(size for _, _, size in written.tally) == sum(m.ByteSize() for m in messages)
        assert [counted.coin for counted, _, _ in written.tally] == [
            f.parts.topic.coin for f in taken
        ]
    assert got == want


def test_all_orders_as_new_ones() -> None:
    order = '{"user":null,"coin":"BTC","side":"%s","limitPx":"1.5","sz":"2.0","oid":%d,"x":0}'
    sides = f"[[{order % ('B', 1)}],[{order % ('A', 2)}]]"
    body = f'{{"coin":"BTC","time":5,"height":9,"levels":{sides}}}'
    payload = f'{{"channel":"l4Diff","data":{{"Snapshot":{body}}}}}'.encode()
    for is_reset in (True, False):
        data = asyncio.run(changes(payload, is_reset=is_reset))
        update = pb.L4BookUpdatesUpdate.FromString(data)
        assert (update.time, update.height, update.snapshot) == (5, 9, is_reset)
        new = pb.L4_ORDER_DIFF_TYPE_NEW
        assert list(update.diffs) == [
            pb.L4OrderDiff(diff_type=new, coin="BTC", oid=1, side="B", px="1.5", sz="2.0"),
            pb.L4OrderDiff(diff_type=new, coin="BTC", oid=2, side="A", px="1.5", sz="2.0"),
        ]
