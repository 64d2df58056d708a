"""Whatever a socket takes of it, and when: what has left is numbered without holes, and billed."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.core.envelope import Envelope, Position, Role, Times
from streaming.core.relay_session import RelaySession
from streaming.core.topic import Kind, Topic
from streaming.ws.writer import Writer
from tests.core.relay_world import CATALOGUE, EPOCH, Lease, World
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
@given(st.integers(0, 2_000), blocks)
def test_numbers_have_no_holes_however_the_socket_takes_it(
    appetite: int, steps: list[set[Topic] | int]
) -> None:
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
