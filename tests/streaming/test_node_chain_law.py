"""Every block of the chain is delivered whole or covered by a gap that is told, whatever one of two
nodes writes, and when.

Two nodes write the same made-up chain, line by line, each at its own pace and in its own mode. What
is checked is what comes out of the worker's room: assemblers, merge and market together.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.core.blocks import FileKind, Loss, RawBlock
from streaming.core.envelope import Envelope, Position, Role, end_of
from streaming.core.market import Market
from streaming.core.merge import BlockMerge
from streaming.core.topic import Kind, Topic
from streaming.hl_gateway.assemble import BlockAssembler, FileMode, Mark
from tests.core import node_events
from tests.core.node_events import ADA, BEN

FILLS, STATUSES, DIFFS = FileKind.FILLS, FileKind.STATUSES, FileKind.DIFFS
KINDS = (FILLS, DIFFS, STATUSES)
MS = 1_000_000
BLOCK_MS = 70
QUIET_MS = 250
FIRST, COUNT, CLEAN = 1_000, 24, 8

TRADES = Topic(Kind.TRADES, "BTC")
RAW = Topic(Kind.RAW, stream=str(FILLS))
ORDERS = Topic(Kind.ORDER_UPDATES, user=ADA)
FOLLOWED = (TRADES, RAW, ORDERS)


@dataclass
class Chain:
    """What happened, by height: the events of each file."""

    events: dict[FileKind, dict[int, list[object]]]

    @classmethod
    def made_by(cls, dice: random.Random) -> Chain:
        events: dict[FileKind, dict[int, list[object]]] = {kind: {} for kind in KINDS}
        for height in range(FIRST, FIRST + COUNT + CLEAN):
            trades = dice.choice([0, 1, 1, 2, 3]) if FIRST < height < FIRST + COUNT else 1
            events[FILLS][height] = [
                node_events.fill(height * 10 + number, side, user=user, crossed=side == "B")
                for number in range(trades)
                for side, user in (("B", ADA), ("A", BEN))
            ]
            oids = [height * 10 + number for number in range(dice.randint(1, 3))]
            events[DIFFS][height] = [node_events.new(oid) for oid in oids]
            events[STATUSES][height] = [node_events.status(oid) for oid in oids]
        return cls(events)


@dataclass
class Node:
    """One node's way of writing the chain, and of failing at it."""

    dice: random.Random
    mode: FileMode
    delay_ms: int
    damage: float = 0.0
    pauses: float = 0.0
    written: list[tuple[int, FileKind, bytes]] = field(default_factory=list)
    _clean: int = 0  # lines since the last damaged one

    def write(self, chain: Chain) -> None:
        numbered = self.dice.choice(KINDS)
        for kind in KINDS:
            pause_ms = last_ms = 0
            for height, events in chain.events[kind].items():
                # Until two blocks have followed one another nobody knows that they do.
                is_clean = height < FIRST + 2 or height >= FIRST + COUNT
                base_ms = (height - FIRST) * BLOCK_MS + self.delay_ms
                by_block = self.mode is FileMode.BY_BLOCK
                batches = [events] if by_block else [[event] for event in events]
                for batch in batches:
                    time_ms = node_events.BLOCK_MS + height * BLOCK_MS
                    line = node_events.line(height, batch, time_ms=time_ms)
                    if not is_clean and self.dice.random() < self.pauses:
                        pause_ms = self.dice.randint(100, 700)
                    pause_ms = 0 if is_clean else pause_ms
                    last_ms = max(last_ms, base_ms + self.dice.randint(0, 20) + pause_ms)
                    pause_ms = max(0, pause_ms - 40)
                    if not is_clean and self.dice.random() < self.damage:
                        line = self._damaged(line, height, is_numbered=kind is numbered)
                    else:
                        self._clean += 1
                    self.written.append((last_ms, kind, line))

    def _damaged(self, line: bytes, height: int, *, is_numbered: bool) -> bytes:
        # Two numbers damaged one after the other, or in two files, can pass for two that are not;
        # so can one on a line after which its node pauses so long that it is a block by itself.
        is_told_apart = is_numbered and self._clean > 3 and not self.pauses
        ways = ["garbled", "cut", "lost", *["height"] * is_told_apart]
        self._clean = 0
        match self.dice.choice(ways):
            case "garbled" if not line.endswith(
                b"[]}"
            ):  # within an event: well framed, and not to be read
                at = self.dice.randrange(line.index(b"events") + 10, len(line) - 2)
                return line[:at] + b"\x01" + line[at + 1 :]
            case "height":
                near, far = self.dice.randint(1, 90), self.dice.randint(91, 10**12)
                leap = self.dice.choice([-near, -1, 1, near, far])
                return line.replace(b'number":%d' % height, b'number":%d' % (height + leap))
            case "cut":
                return line[: self.dice.randrange(1, len(line))]
        return b"\n"  # LOST: too long to keep


class Room:
    """What a worker does with the nodes' lines, at made-up times."""

    def __init__(self, nodes: dict[str, Node]) -> None:
        self.market = Market(epoch="n-law")
        self.merge = BlockMerge(nodes)
        self.told: list[Envelope] = []
        self.taken: list[RawBlock] = []
        self._assemblers = {
            (name, kind): BlockAssembler(kind, node.mode)
            for name, node in nodes.items()
            for kind in KINDS
        }
        for topic in FOLLOWED:
            self.market.want(topic)
        self.market.load_checkpoint(FIRST - 1, [("BTC", [], [])])

    def run(self, nodes: dict[str, Node]) -> None:
        lines = defaultdict(list)
        for name, node in nodes.items():
            for at_ms, kind, line in node.written:
                lines[at_ms].append((name, kind, line))
        ticks = range(0, max(lines) + 3 * QUIET_MS, 10)
        for at_ms in sorted({*lines, *ticks}):
            for name, kind, line in lines.get(at_ms, ()):
                made = self._assemblers[name, kind].feed(
                    [line], read_ns=0, at_ns=at_ms * MS, beside=self._beside(name, kind)
                )
                self._take(name, made, at_ms)
            for (name, kind), assembler in self._assemblers.items():
                others = [self._assemblers[name, k].height or -1 for k in KINDS if k is not kind]
                made = assembler.close_idle(
                    seen_height=max(others),
                    at_ns=at_ms * MS,
                    quiet_ns=QUIET_MS * MS,
                    beside=self._beside(name, kind),
                )
                self._take(name, made, at_ms)
            self._apply(self.merge.due(at_ms * MS))

    def _beside(self, name: str, kind: FileKind) -> list[Mark]:
        marks = [self._assemblers[name, other].mark for other in KINDS if other is not kind]
        return [mark for mark in marks if mark]

    def _take(self, name: str, blocks: list[RawBlock], at_ms: int) -> None:
        for block in blocks:
            self._apply(self.merge.take(name, block, now_ns=at_ms * MS))

    def _apply(self, blocks: list[RawBlock]) -> None:
        for block in blocks:
            self.taken.append(block)
            self.told += self.market.apply(block)

    def gaps(self, topic: Topic) -> list[tuple[Position, Position]]:
        return [
            (e.previous, e.position)
            for e in self.told
            if e.topic == topic.name and e.role in (Role.GAP, Role.RESET)
        ]

    def delivered(self, topic: Topic) -> dict[int, Counter[str]]:
        """The events of each height, in words."""
        out: dict[int, Counter[str]] = defaultdict(Counter)
        for envelope in self.told:
            if envelope.topic == topic.name and envelope.role is Role.UPDATE:
                data = orjson.loads(envelope.payload)["data"]
                items = data["events"] if topic is RAW else data
                out[envelope.position.height].update(_words(topic, item) for item in items)
        return out


def _words(topic: Topic, item: object) -> str:
    match topic, item:
        case _ if topic is RAW:
            return orjson.dumps(item).decode()
        case _, {"tid": tid}:
            return str(tid)
        case _, {"order": {"oid": oid}}:
            return str(oid)
    raise AssertionError(item)


def expected(chain: Chain, topic: Topic, height: int) -> Counter[str]:
    fills = chain.events[FILLS][height]
    if topic is RAW:
        return Counter(orjson.dumps(event).decode() for event in fills)
    if topic is TRADES:
        return Counter({str(fill[1]["tid"]): 1 for fill in fills})  # type: ignore[index]
    return Counter(str(s["order"]["oid"]) for s in chain.events[STATUSES][height])  # type: ignore[index]


def check(chain: Chain, room: Room) -> list[tuple[Topic, int]]:
    """The law. Returns what was not delivered whole."""
    missing = []
    for topic in FOLLOWED:
        delivered, gaps = room.delivered(topic), room.gaps(topic)
        # Nobody was promised the first block after a start: it may have begun before.
        for height in range(FIRST + 1, FIRST + COUNT + CLEAN - 1):
            if delivered[height] != expected(chain, topic, height):
                missing.append((topic, height))
                is_told = any(begin < end_of(height) <= end for begin, end in gaps)
                assert is_told, (topic.name, height, gaps, room.merge.counts)
    if room.market.is_ready:
        book = room.market._books.by_coin["BTC"].orders
        true = {diff["oid"] for h in range(FIRST, room.market.height + 1)
                for diff in chain.events[DIFFS][h]}  # type: ignore[index]  # fmt: skip
        assert set(book) == true
    return missing


def follow(seed: int, modes: tuple[FileMode, ...], *, damage: float, pauses: float) -> tuple:
    """A chain written by as many nodes; the first of them fails."""
    dice = random.Random(seed)
    chain = Chain.made_by(dice)
    nodes = {}
    for number, mode in enumerate(modes):
        node = Node(dice, mode, delay_ms=dice.randint(0, 60))
        if not number:
            node.damage, node.pauses = damage, pauses
        node.write(chain)
        nodes["ab"[number]] = node
    room = Room(nodes)
    room.run(nodes)
    return chain, room


BY, STREAMING = FileMode
MODES = st.sampled_from(list(FileMode))
SEEDS = st.integers(0, 2**32)


@settings(max_examples=40, deadline=None)
@given(SEEDS, MODES, st.sampled_from([0.0, 0.03, 0.2]), st.sampled_from([0.0, 0.05, 0.3]))
def test_what_one_node_alone_writes_is_delivered_whole_or_told(
    seed: int, mode: FileMode, damage: float, pauses: float
) -> None:
    chain, room = follow(seed, (mode,), damage=damage, pauses=pauses)
    missing = check(chain, room)
    assert not missing or damage or pauses


@settings(max_examples=40, deadline=None)
@given(SEEDS, MODES, MODES, st.sampled_from([0.0, 0.03, 0.2]), st.sampled_from([0.0, 0.05, 0.3]))
def test_what_one_of_two_nodes_spoils_is_delivered_whole_or_told(
    seed: int, bad: FileMode, good: FileMode, damage: float, pauses: float
) -> None:
    chain, room = follow(seed, (bad, good), damage=damage, pauses=pauses)
    check(chain, room)


@settings(max_examples=20, deadline=None)
@given(SEEDS, MODES, st.sampled_from(KINDS), st.integers(101, 10**12), st.booleans())
def test_a_damaged_first_line_costs_its_own_block_at_most(
    seed: int, mode: FileMode, damaged: FileKind, leap: int, is_alone: bool
) -> None:
    dice = random.Random(seed)
    chain = Chain.made_by(dice)
    nodes = {name: Node(dice, mode, delay_ms=dice.randint(0, 60)) for name in "ab"[: 2 - is_alone]}
    for node in nodes.values():
        node.write(chain)
    first = min(n for n, (_, kind, _) in enumerate(nodes["a"].written) if kind is damaged)
    _, kind, line = nodes["a"].written[first]
    # The very first thing anybody hears.
    line = line.replace(b'number":%d' % FIRST, b'number":%d' % (FIRST + leap))
    nodes["a"].written[first] = 0, kind, line
    room = Room(nodes)
    room.run(nodes)
    for topic in FOLLOWED:
        delivered = room.delivered(topic)
        for height in range(FIRST + 2, FIRST + COUNT + CLEAN - 1):
            assert delivered[height] == expected(chain, topic, height), (topic.name, height)


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.sampled_from([(BY, BY), (STREAMING, STREAMING), (STREAMING, BY)]))
def test_damage_of_one_node_costs_nobody_anything_where_another_writes_in_time(
    seed: int, modes: tuple[FileMode, ...]
) -> None:
    """A `_streaming` node beside a `_by_block` one is not in time: its blocks close with the next
    one, or after some quiet.
    """
    chain, room = follow(seed, modes, damage=0.1, pauses=0.0)
    assert check(chain, room) == []


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.integers(0, 300))
def test_a_late_node_of_the_other_mode_costs_nobody_anything(seed: int, delay_ms: int) -> None:
    """By block there is a line for an empty block too; it comes after the block behind it."""
    dice = random.Random(seed)
    chain = Chain.made_by(dice)
    nodes = {"a": Node(dice, STREAMING, delay_ms=0), "b": Node(dice, BY, delay_ms=delay_ms)}
    for node in nodes.values():
        node.write(chain)
    room = Room(nodes)
    room.run(nodes)
    assert check(chain, room) == []
    assert not any(room.gaps(topic) for topic in FOLLOWED)
    assert not any(isinstance(block, Loss) for block in room.taken)
    assert room.merge.drain_breaches() == []


@pytest.mark.parametrize("mode", FileMode)
def test_an_undamaged_chain_is_delivered_whole(mode: FileMode) -> None:
    chain, room = follow(7, (mode, mode), damage=0.0, pauses=0.0)
    assert check(chain, room) == []
    assert room.market.is_ready
