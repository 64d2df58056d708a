"""Whatever a socket takes of it, and when: what has left is numbered without holes, and billed."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.core import streams
from streaming.core.envelope import Envelope, Position, Role, Times, end_of
from streaming.core.relay_session import RelaySession
from streaming.core.topic import Kind, Topic
from streaming.ws.writer import Writer
from tests.core.relay_world import BTC, CATALOGUE, EPOCH, Lease, World, begun, trade, update
from tests.core.test_corrections import short
from tests.streaming.test_writer import Kernel, Ledger

TRADES, DIFF, BOOKS = Topic(Kind.TRADES, "BTC"), Topic(Kind.L2_DIFF, "BTC"), "BTC ETH SOL".split()
BOOK = [Topic(Kind.L2_BOOK, coin) for coin in BOOKS]
PAYLOADS = {
    Kind.TRADES: b'{"channel":"trades","data":[{"coin":"BTC","px":"%d"}]}',
    Kind.L2_DIFF: b'{"channel":"l2Diff","data":{"coin":"BTC","height":%d,"levels":[[],[]]}}',
    Kind.L2_BOOK: b'{"channel":"l2Book","data":{"coin":"BTC","time":%d,"levels":[[],[]]}}',
}


def envelope(topic: Topic, height: int, *, role: Role = Role.UPDATE) -> Envelope:
    here = Position(height)
    before = here if role is Role.SNAPSHOT else Position(height - 1)
    payload = PAYLOADS[topic.kind] % height
    return Envelope(topic.name, EPOCH, here, before, role, payload, Times(height * 10**9))


def unwired(data: bytes) -> list[dict[str, Any]]:
    """The whole frames in `data`."""
    frames, begin = [], 0
    while begin + 2 <= len(data):
        size, text = data[begin + 1], begin + 2
        if size == 126:
            size, text = int.from_bytes(data[text : text + 2], "big"), text + 2
        if text + size > len(data):
            break
        frames.append(orjson.loads(data[text : text + size]))
        begin = text + size
    return frames


blocks = st.lists(
    st.one_of(
        st.sets(st.sampled_from([TRADES, DIFF, *BOOK]), min_size=1),  # a block of these topics
        st.integers(0, 3_000),  # so many more bytes does the customer read
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2_000), blocks, st.booleans())
def test_numbers_have_no_holes_however_the_socket_takes_it(
    appetite: int, steps: list[set[Topic] | int], are_large: bool
) -> None:
    with patch.object(streams, "SHARED_BYTES", 0 if are_large else streams.SHARED_BYTES):
        check_numbers(appetite, steps)


def check_numbers(appetite: int, steps: list[set[Topic] | int]) -> None:
    world, kernel, ledger = World(), Kernel(), Ledger()
    cuts: list[str] = []
    writer = Writer(kernel, account=ledger, on_overflow=lambda: cuts.append("slow"))
    kernel.writer, kernel.appetite = writer, 10**6
    session = RelaySession(hub=world.hub, sink=writer, lease=Lease(), catalogue=lambda: CATALOGUE)
    for number, body in enumerate(
        (
            {"type": "trades", "coin": "BTC"},
            {"type": "l2Diff", "coin": "BTC"},
            {"type": "l2Book", "coins": BOOKS},
        ),
        start=1,
    ):
        request = {"method": "subscribe", "id": number, "subscription": body}
        session.receive(orjson.dumps(request).decode(), now_s=0.0)
    height = dict.fromkeys([TRADES, DIFF, *BOOK], 1)
    for topic in height:
        world.hub.publish(envelope(topic, 1, role=Role.SNAPSHOT), "A")
    kernel.appetite = appetite
    for step in steps:
        if isinstance(step, int):
            kernel.drain(step)
            continue
        for topic in sorted(step):
            height[topic] += 1
            world.hub.publish(envelope(topic, height[topic]), "A")
        world.hub.flush()
    world.hub.flush()
    kernel.drain(10**9)
    assert not cuts

    frames = [frame for frame in unwired(bytes(kernel.taken)) if "seq" in frame]
    for number in (1, 2, 3):
        seqs = [frame["seq"] for frame in frames if frame["id"] == number]
        assert seqs == list(range(1, len(seqs) + 1))
    trades = [f["data"][0]["px"] for f in frames if f["id"] == 1]
    assert trades == [str(n) for n in range(1, height[TRADES] + 1)]
    diffs = [f for f in frames if f["id"] == 2]
    assert [f["prevSeq"] for f in diffs] == [0, *(f["seq"] for f in diffs[:-1])]
    assert [f["data"]["height"] for f in diffs] == list(range(1, height[DIFF] + 1))
    assert ledger.messages == len(frames)


DIFFS = [Topic(Kind.L2_DIFF, coin) for coin in BOOKS]
EPOCHS = (EPOCH, "n-ffffffffffff", "n-eeeeeeeeeeee")

turns = st.lists(
    st.one_of(
        st.lists(  # what comes in one read of the bus: blocks of these topics, or a new epoch
            st.one_of(st.sets(st.sampled_from(DIFFS), min_size=1), st.none()),
            min_size=1,
            max_size=4,
        ),
        st.integers(0, 1_500),
    ),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 1_500), turns)
def test_each_frame_names_the_one_before_it_also_across_epochs(
    appetite: int, steps: list[list[set[Topic] | None] | int]
) -> None:
    """Several topics under one number, and a new epoch amidst what a socket takes in parts."""
    world, kernel, ledger = World(), Kernel(), Ledger()
    cuts: list[str] = []
    writer = Writer(kernel, account=ledger, on_overflow=lambda: cuts.append("slow"))
    kernel.writer, kernel.appetite = writer, 10**6
    session = RelaySession(hub=world.hub, sink=writer, lease=Lease(), catalogue=lambda: CATALOGUE)
    body = {"type": "l2Diff", "coins": BOOKS}
    request = {"method": "subscribe", "id": 1, "subscription": body}
    session.receive(orjson.dumps(request).decode(), now_s=0.0)
    height, epoch = 1, 0
    for topic in DIFFS:
        world.hub.publish(diff(topic, height, EPOCH, role=Role.SNAPSHOT), "A")
    world.hub.flush()
    kernel.appetite = appetite
    for step in steps:
        if isinstance(step, int):
            kernel.drain(step)
            continue
        for topics in step:
            height += 1
            if topics is None:
                epoch = min(epoch + 1, len(EPOCHS) - 1)
            for topic in sorted(topics or DIFFS):
                world.hub.publish(diff(topic, height, EPOCHS[epoch]), "A")
        world.hub.flush()
    kernel.drain(10**9)
    assert not cuts

    frames = [frame for frame in unwired(bytes(kernel.taken)) if "seq" in frame]
    last: dict[tuple[str, str], int] = {}
    seqs: dict[str, int] = {}
    for frame in frames:
        of_epoch, coin = frame["epoch"], frame["data"]["coin"]
        seqs[of_epoch] = seqs.get(of_epoch, 0) + 1
        assert frame["seq"] == seqs[of_epoch]
        assert frame["prevSeq"] == last.get((of_epoch, coin), 0)
        last[of_epoch, coin] = frame["seq"]
    assert ledger.messages == len(frames)


def diff(topic: Topic, height: int, epoch: str, *, role: Role = Role.UPDATE) -> Envelope:
    """A block's changes, that claim to follow whatever was before."""
    here = Position(height)
    before = here if role is Role.SNAPSHOT else Position(1)
    text = b'{"channel":"l2Diff","data":{"coin":"%b","height":%d,"levels":[[],[]]}}'
    payload = text % (topic.coin.encode(), height)
    return Envelope(topic.name, epoch, here, before, role, payload, Times(height * 10**9))


def test_who_is_cut_before_a_late_gap_is_told_gets_nothing_twice() -> None:
    """It says that a block they have was short; they come back where they were, and hear of it."""
    world, kernel, ledger = World(), Kernel(), Ledger()
    cuts: list[str] = []
    writer = Writer(kernel, account=ledger, on_overflow=lambda: cuts.append("slow"))
    kernel.writer, kernel.appetite = writer, 10**6
    session = RelaySession(hub=world.hub, sink=writer, lease=Lease(), catalogue=lambda: CATALOGUE)
    request = {"method": "subscribe", "id": 1, "subscription": {"type": "trades", "coin": "BTC"}}
    session.receive(orjson.dumps(request).decode(), now_s=0.0)
    for worker in "AB":
        world.publish(begun(10), worker=worker)
        for height in range(11, 17):
            world.publish(update(height, height - 1), worker=worker)
    kernel.appetite = 0
    world.publish(update(17, 16), worker="A")  # the transport has some of it: it will arrive
    world.publish(short(12, 17), worker="A")
    for height, before in ((18, end_of(17)), (19, Position(18))):
        big = trade("BTC", height, hash="0x" + "1" * 600_000)
        payload = orjson.dumps({"channel": "trades", "data": [big]})
        times = Times(height * 10**9)
        big_one = Envelope(BTC.name, EPOCH, Position(height), before, Role.UPDATE, payload, times)
        world.publish(big_one, worker="A")
    world.wait()
    assert cuts
    writer.drop_waiting()
    (farewell,) = map(orjson.loads, session.too_slow())
    desk = world.desk()
    desk.subscribe(coin="BTC", id=1, from_=farewell["data"]["cursor"])
    world.wait()
    frames = desk.take()
    told = [f["data"] for f in frames if f["channel"] == "relay"]
    assert [(e["type"], e.get("fromHeight"), e.get("toHeight")) for e in told] == [
        ("gap", 11, 17),
        ("replayComplete", None, None),
    ]
    assert [f["t"]["block"] // 10**9 for f in frames if "seq" in f] == [18, 19]
