"""The recent blocks of a node, encoded once for all who read them, in bounded memory. Pure."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from streaming.core.blocks import FileKind, LateBlock, RawBlock
from streaming.hl_gateway.generated import hl_gateway_pb2 as pb
from streaming.hl_gateway.node_files import KIND_RANK

#: What a held block costs besides its bytes: the tuple, the bytes object, three integers.
OVERHEAD_BYTES = 240
#: How the memory is divided. Of all coins a node writes about 0.5 MB of statuses a block, 40 KB of
#: book changes and 5 KB of fills; of transactions 194 KB. So with 256 MiB there are minutes of
#: fills and book changes, and half a minute of statuses.
SHARES: Mapping[FileKind, int] = {
    FileKind.STATUSES: 8,
    FileKind.DIFFS: 4,
    FileKind.BLOCKS: 4,
    FileKind.FILLS: 2,
}
#: A frame of more bytes does not ride with others: all statuses of a block are 450 KB, and its book
#: changes of 20 KB would be read 1.5 ms later.
ALONE_BYTES = 64 * 1024
#: The field `blocks` of `StreamBlocksResponse` on the wire: number 1, of given length.
_BLOCKS_TAG = b"\x0a"


class Held(NamedTuple):
    """One block, ready to send. `order` is its height, or for a late one the highest before it, so
    that it never falls within a kind. `frame` is a whole `StreamBlocksResponse` of this block, and
    frames laid end to end are the response of all their blocks.
    """

    order: int
    height: int
    previous: int | None
    is_late: bool
    frame: bytes


class Lapsed(Exception):
    """What the reader wanted next is no longer held."""


def encode(block: RawBlock) -> bytes:
    """The `frame` of `Held`."""
    body = message(block).SerializeToString()
    return b"".join((_BLOCKS_TAG, _varint(len(body)), body))


def message(block: RawBlock) -> pb.Block:
    """The block as it is sent."""
    return pb.Block(
        kind=block.kind,
        height=block.height,
        lines=block.lines,
        read_ns=block.read_ns,
        previous=block.previous,
        late=isinstance(block, LateBlock),
        ending=block.ending,
    )


class KindRing:
    """The newest blocks of one kind, at most `max_bytes` of them, but always the newest one.

    Blocks are numbered from 0 in the order they came; `first` is the number of the oldest held and
    `end` that of the next to come.
    """

    def __init__(self, kind: FileKind, *, max_bytes: int) -> None:
        self.kind, self.max_bytes = kind, max_bytes
        self.rank = KIND_RANK[kind]
        self.first = 0
        self.held_bytes = 0
        self.height = 0
        """The highest block that came, 0 before the first."""
        self.is_filling = False
        """While it gets what was there before: no reader has a place in it yet."""
        self.live_from = 0
        """The number of the first block that came after that."""
        self._held: deque[Held] = deque()

    @property
    def end(self) -> int:
        """The number of the next block to come."""
        return self.first + len(self._held)

    @property
    def oldest(self) -> int:
        """The lowest height held of those that came in order; 0 when there is none."""
        return next((held.height for held in self._held if not held.is_late), 0)

    def fill(self) -> None:
        """What comes until `filled` was there before."""
        self.is_filling = True

    def filled(self) -> None:
        """What comes from now on is live."""
        self.is_filling, self.live_from = False, self.end

    def push(self, block: RawBlock) -> None:
        """Keep a block, and let the oldest go that are too many."""
        is_late = isinstance(block, LateBlock)
        self.height = max(self.height, block.height)
        held = Held(self.height, block.height, block.previous, is_late, encode(block))
        self._held.append(held)
        self.held_bytes += len(held.frame) + OVERHEAD_BYTES
        while self.held_bytes > self.max_bytes and len(self._held) > 1:
            self.held_bytes -= len(self._held.popleft().frame) + OVERHEAD_BYTES
            self.first += 1

    def place_of(self, height: int) -> tuple[int, bool]:
        """Where a reader begins who has everything below `height`: the number of the first block to
        send, and whether everything from `height` on is held.
        """
        number, follower = self.end, None
        for held in reversed(self._held):
            if not held.is_late:
                if held.height < height:
                    # The newest below: behind it nothing was let go.
                    return number, True
                follower = held
            number -= 1
        if follower is None:
            return number, False
        is_whole = follower.height == height or (
            follower.previous is not None and follower.previous < height
        )
        return number, is_whole

    def since(self, number: int, *, limit_bytes: int) -> list[Held]:
        """The blocks from `number` on, at least one if there is one, until they reach
        `limit_bytes`.

        Raises:
            Lapsed: the block of that number was let go.
        """
        if number < self.first:
            raise Lapsed(f"{self.kind} holds {self.oldest} on, in {self.max_bytes} bytes")
        # From the near end: a reader is mostly one block behind, and a deque's middle is far.
        missing = self.end - number
        if missing <= 0:
            return []
        if missing < len(self._held) // 2:
            items: Iterable[Held] = reversed(list(itertools.islice(reversed(self._held), missing)))
        else:
            items = itertools.islice(self._held, number - self.first, None)
        taken, size = [], 0
        for held in items:
            taken.append(held)
            size += len(held.frame)
            if size >= limit_bytes:
                break
        return taken


class Ring:
    """The rings of all kinds, sharing `max_bytes` by `SHARES`."""

    def __init__(self, kinds: Collection[FileKind], *, max_bytes: int) -> None:
        total = sum(SHARES.get(kind, 1) for kind in kinds)
        self.kinds = {
            kind: KindRing(kind, max_bytes=max_bytes * SHARES.get(kind, 1) // total)
            for kind in sorted(kinds, key=KIND_RANK.__getitem__)
        }

    @property
    def held_bytes(self) -> int:
        """Memory of all blocks held."""
        return sum(ring.held_bytes for ring in self.kinds.values())

    def push(self, blocks: Iterable[RawBlock]) -> None:
        """Keep blocks of any kinds."""
        for block in blocks:
            self.kinds[block.kind].push(block)


class Reader:
    """One reader's place in the rings of the kinds it wants."""

    def __init__(self, ring: Ring, heights: Mapping[FileKind, int]) -> None:
        """`heights` names the first height wanted of each kind; 0: what comes from now on. A kind
        that is still being filled is begun with when it is full.
        """
        wanted = [ring.kinds[kind] for kind in heights]
        self._rings = [each for each in wanted if not each.is_filling]
        self._filling = [(each, heights[each.kind]) for each in wanted if each.is_filling]
        self._numbers: dict[FileKind, int] = {}
        # What it will hold is not known yet; the first block's `previous` tells.
        self.starts = [pb.Start(kind=each.kind, resumed=True) for each, _ in self._filling]
        for each in self._rings:
            height = heights[each.kind]
            number, is_whole = each.place_of(height) if height else (each.end, True)
            self._numbers[each.kind] = number
            self.starts.append(
                pb.Start(kind=each.kind, oldest=each.oldest, newest=each.height, resumed=is_whole)
            )

    def take(self, *, limit_bytes: int) -> list[bytes]:
        """The next frames, by height and then by kind: about `limit_bytes` of them, at least one
        when there is one. A large frame does not keep those before it waiting.

        Raises:
            Lapsed: the reader was too slow; what it wanted next is no longer held.
        """
        if self._filling:
            self._begin_filled()
        waiting = [
            (held.order, ring.rank, ring.kind, held.frame)
            for ring in self._rings
            for held in ring.since(self._numbers[ring.kind], limit_bytes=limit_bytes)
        ]
        if len(waiting) > 1:
            # Stable, and no kind's `order` falls, so what is cut off below is the end of each kind.
            waiting.sort(key=lambda each: each[:2])
        frames: list[bytes] = []
        size = 0
        for _, _, kind, frame in waiting:
            if frames and len(frame) > ALONE_BYTES:
                break
            frames.append(frame)
            self._numbers[kind] += 1
            size += len(frame)
            if size >= limit_bytes:
                break
        return frames

    def _begin_filled(self) -> None:
        for each, height in self._filling:
            if not each.is_filling:
                number = each.place_of(height)[0] if height else each.live_from
                self._numbers[each.kind] = number
                self._rings.append(each)
        self._filling = [each for each in self._filling if each[0].is_filling]


def history(ring: KindRing, *, before: int, chunk_bytes: int) -> Iterator[bytes]:
    """What is held of the blocks numbered below `before`, as bodies of responses of about
    `chunk_bytes` each.

    Each is made when it is asked for, so that a reader costs one of them, however much is held; the
    oldest block is the oldest when the first one is.

    Raises:
        Lapsed: blocks go faster than the reader takes them.
    """
    number = ring.first
    while number < before:
        held = ring.since(number, limit_bytes=chunk_bytes)[: before - number]
        number += len(held)
        yield b"".join(each.frame for each in held)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
