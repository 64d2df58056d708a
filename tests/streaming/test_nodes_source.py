"""Several nodes read as one, from real files: whatever one does, customers see the chain."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from streaming.core.blocks import FileKind, RawBlock
from streaming.core.envelope import Envelope, Role, end_of
from streaming.core.merge import BlockMerge
from streaming.core.topic import Kind, Topic
from streaming.hl_gateway.checkpoint import Checkpoint, CheckpointError
from streaming.upstream.health import Health
from streaming.upstream.local_node import LocalNode
from streaming.upstream.sources.info import InfoFailed
from streaming.upstream.sources.nodes import NodesSource
from streaming.upstream.spec import UpstreamKind, UpstreamSpec
from tests.core.node_events import diffs, fill, fills, line, new
from tests.streaming.node_lines import BY_BLOCK, FILLS, NodeDirectory

DEADLINE_S = 10.0
TRADES = Topic(Kind.TRADES, "BTC")


class Chain:
    """Two nodes' directories, one source on both, and what it published."""

    def __init__(self, folder: Path) -> None:
        self.a, self.b = NodeDirectory(folder / "a"), NodeDirectory(folder / "b")
        specs = {"a": self.a, "b": self.b}
        links = [
            LocalNode(UpstreamSpec(UpstreamKind.NODE, str(node.root)), name=name, scratch=folder)
            for name, node in specs.items()
        ]
        for node in specs.values():
            node.root.mkdir()
        self.source = NodesSource(links)
        self.source.want(TRADES)
        self.published: list[Envelope] = []
        self.base = 0
        self._arrived = asyncio.Event()

    def publish(self, envelopes: Iterable[Envelope]) -> None:
        self.published += [e for e in envelopes if e.role is Role.UPDATE]
        self._arrived.set()

    def write(self, node: NodeDirectory, *heights: int, px: str = "100.0") -> None:
        """A block with one trade each, `heights` above the base; its id is the height."""
        for height in (self.base + height for height in heights):
            sides = [fill(height, "A", crossed=True, px=px), fill(height, "B", px=px)]
            node.write(FILLS, BY_BLOCK, line(height, sides) + b"\n")

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self._arrived.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._arrived.wait(), 0.05)

    async def until_heights(self, *heights: int) -> None:
        await self.until(lambda: len(self.published) >= len(heights))
        assert self.heights == list(heights)

    @property
    def heights(self) -> list[int]:
        return [e.position.height - self.base for e in self.published]

    async def until_both_are_read(self) -> None:
        """What is written before a directory is watched counts as history."""

        def is_read() -> bool:
            self.base += 1
            self.write(self.a, 0)
            self.write(self.b, 0)
            return all(state["height"] for state in self.source.states().values())

        await self.until(is_read)
        # The last one written, from both.
        await self.until(
            lambda: all(s["height"] == self.base for s in self.source.states().values())
        )
        self.published.clear()


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Chain]:
    chain = Chain(folder)
    task = asyncio.create_task(chain.source.run(chain.publish))
    try:
        await chain.until_both_are_read()
        yield chain
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_every_block_once_whoever_brings_it(tmp_path: Path) -> None:
    async with running(tmp_path) as chain:
        chain.write(chain.b, 1, 2)
        chain.write(chain.a, 1, 2, 3)
        await chain.until_heights(1, 2, 3)
        # One node is gone; then it is back, behind, and repeats what is known.
        chain.write(chain.b, 3, 4, 5, 6)
        await chain.until_heights(1, 2, 3, 4, 5, 6)
        chain.write(chain.a, 4, 5, 6, 7)
        await chain.until_heights(1, 2, 3, 4, 5, 6, 7)


async def test_what_one_node_lost_comes_from_the_other(tmp_path: Path) -> None:
    async with running(tmp_path) as chain:
        chain.write(chain.b, 1)
        chain.write(chain.a, 1, 3)
        chain.write(chain.b, 2, 3, 4)
        await chain.until_heights(1, 2, 3, 4)
        for before, after in itertools.pairwise(chain.published):
            assert after.previous == before.position


async def test_what_all_nodes_lost_is_claimed_by_nobody(tmp_path: Path) -> None:
    async with running(tmp_path) as chain:
        chain.write(chain.b, 1, 3, 4)
        chain.write(chain.a, 1, 3, 4)
        await chain.until_heights(1, 3, 4)
        assert chain.published[1].previous == end_of(chain.base + 2)
        assert chain.published[2].previous == chain.published[1].position
        await chain.until(lambda: chain.source.state()["faults"].get("missing_fills") == 1)


async def test_nodes_that_disagree_are_marked_and_the_first_copy_goes_on(tmp_path: Path) -> None:
    async with running(tmp_path) as chain:
        chain.write(chain.b, 1, px="100.0")
        await chain.until_heights(1)
        chain.write(chain.a, 1, px="101.0")
        await chain.until(lambda: chain.source.state()["differing"] == 1)
        assert chain.heights == [1]
        assert orjson.loads(chain.published[0].payload)["data"][0]["px"] == "100.0"
        states = chain.source.states()
        assert states["a"]["disagreeing"]
        assert states["b"]["disagreeing"]


@pytest.mark.parametrize("heights", [(10, 40), (10, 41)])
def test_a_node_lags_from_31_blocks_behind_the_best(heights: tuple[int, int]) -> None:
    health = Health()
    for name, height in zip("ab", heights, strict=True):
        health.heard(name, height, now_s=0.0, block_age_s=0.3)
    assert health.judge("a", now_s=0.0).is_lagging is (heights[1] - heights[0] > 30)
    assert not health.judge("b", now_s=0.0).is_lagging


def test_a_node_without_a_new_height_for_two_seconds_is_stalled_and_asked_last() -> None:
    health = Health()
    health.heard("a", 10, now_s=0.0, block_age_s=0.3)
    health.heard("a", 10, now_s=1.9, block_age_s=0.3)
    health.heard("b", 10, now_s=1.9, block_age_s=0.3)
    assert health.judge("a", now_s=2.0).marks == []
    assert health.judge("a", now_s=2.1).marks == ["stalled"]
    assert health.ranked(["a", "b"], now_s=2.1, weights={"a": 9}) == ["b", "a"]
    health.join("c", now_s=0.0)
    assert health.judge("c", now_s=2.1).marks == ["stalled"]


class HandLink:
    """A node whose blocks come when the test says so."""

    name = "a"

    def __init__(self) -> None:
        self.deliver: Callable[[list[RawBlock]], None] = lambda blocks: None
        self.is_read = asyncio.Event()

    async def run(self, deliver: Callable[[list[RawBlock]], None], **_: Any) -> None:
        self.deliver = deliver
        self.is_read.set()
        await asyncio.get_running_loop().create_future()

    async def checkpoint(self) -> Checkpoint:
        raise CheckpointError("none here")

    async def info(self, payload: bytes) -> bytes:
        raise InfoFailed("none here")

    def state(self) -> dict[str, Any]:
        return {"kind": "hand"}


async def test_what_nobody_waits_for_comes_later_and_whole() -> None:
    link = HandLink()
    published: list[Envelope] = []
    source = NodesSource([link])
    changes = Topic(Kind.RAW, stream=str(FileKind.DIFFS))
    source.want(changes)
    task = asyncio.create_task(source.run(published.extend))
    await link.is_read.wait()

    def block(height: int) -> list[RawBlock]:
        sides = [fill(height, "A", crossed=True), fill(height, "B")]
        blocks = [fills(height, *sides), diffs(height, new(height))]
        return [replace(each, previous=height - 1) for each in blocks]

    def heights_of(topic: Topic) -> list[int]:
        return [e.position.height for e in published if e.topic == topic.name]

    def place() -> int:
        opening = source.snapshot(TRADES)
        return opening.position.height if opening is not None else 0

    try:
        link.deliver(block(1))  # believed when another follows it
        link.deliver(block(2))
        assert (heights_of(changes), place()) == ([1, 2], 0)
        # Who wants trades now begins behind all that has come, and misses nothing from there on.
        source.want(TRADES)
        assert place() == 2
        link.deliver(block(3))
        assert heights_of(TRADES) == [3]
        source.unwant(TRADES)
        link.deliver(block(4))
        link.deliver(block(5))
        assert (heights_of(changes), place()) == ([1, 2, 3, 4, 5], 3)
        source.want(TRADES)
        assert place() == 5
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_block_that_cannot_be_merged_costs_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A fault of ours, and there is none known: made by hand."""
    link = HandLink()
    published: list[Envelope] = []
    source = NodesSource([link])
    source.want(TRADES)
    merge_block = BlockMerge.take

    def take(self: BlockMerge, name: str, block: RawBlock, *, now_ns: int) -> list[RawBlock]:
        if block.kind is FileKind.FILLS and block.height == 4:
            raise RuntimeError("made by hand")
        return merge_block(self, name, block, now_ns=now_ns)

    monkeypatch.setattr(BlockMerge, "take", take)
    task = asyncio.create_task(source.run(published.extend))
    await link.is_read.wait()
    try:
        # All of one read: those before it were handed out, and are handed out only once.
        link.deliver(
            [
                replace(fills(h, fill(h, "A", crossed=True), fill(h, "B")), previous=h - 1)
                for h in range(1, 7)
            ]
        )
        source._on_due()  # not before its time: nobody is left who could bring it
        told = [(e.role, e.previous.height, e.position.height) for e in published]
        assert told[:3] == [
            (Role.UPDATE, 0, 1),
            (Role.UPDATE, 1, 2),
            (Role.UPDATE, 2, 3),
        ]
        assert Role.GAP in [role for role, _, _ in told]
        assert [height for role, _, height in told if role is Role.UPDATE] == [1, 2, 3, 5, 6]
        assert source.state()["faults"] == {"merge_failed": 1}
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
